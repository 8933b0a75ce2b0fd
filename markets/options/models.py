"""Option quotes by the minute, what is missing of them, and where closed days were put.

One row of `Quote` is one instrument at one minute. Its columns are chosen by bytes (PostgreSQL pads
a row's 24 bytes of header and its data to eight): prices are whole paise, the volume is eight bytes
because an index option trades more than two billion units on an expiry's day, and no column is ever
NULL, which would cost eight bytes more; 0 says that nobody stands there, or that there is none.

The implied volatility is stored, since it takes a search; delta, gamma, theta and vega follow from
it and from the quotes of the same minute by a formula, so `implied.greeks` computes them when they
are read, and a row stays at 64 bytes.
"""

from django.db import models


class Instrument(models.Model):
    """Something whose quotes are stored; the history of its lots is the venue's list's."""

    id = models.AutoField(primary_key=True)  # four bytes: it stands in every quote and every key
    name = models.CharField(max_length=60, unique=True)
    symbol = models.CharField(max_length=60)
    underlying = models.CharField(max_length=30)
    kind = models.CharField(max_length=6)
    expiry = models.DateField(null=True)
    strike = models.DecimalField(max_digits=14, decimal_places=4, default=0)
    lot_size = models.DecimalField(max_digits=14, decimal_places=8, default=0)
    wanted_on = models.DateField(null=True)
    """The last day on which the collector asked for it."""

    class Meta:
        ordering = ["underlying", "expiry", "strike", "kind"]

    def __str__(self) -> str:
        return self.name


class Quote(models.Model):
    """What the venue showed of one instrument at one minute; the table is made by raw SQL."""

    pk = models.CompositePrimaryKey("instrument_id", "ts")
    ts = models.DateTimeField()
    """The minute; asked for by a range, never by ts__date, which reads every partition."""
    instrument = models.ForeignKey(Instrument, models.DO_NOTHING, db_constraint=False)
    ltp = models.IntegerField()
    """Last price in paise."""
    bid = models.IntegerField()
    ask = models.IntegerField()
    volume = models.BigIntegerField()
    """Of the day, in units."""
    oi = models.IntegerField()
    """Open interest in units."""
    iv = models.SmallIntegerField()
    """Implied volatility in basis points a year, 0 where there is none."""
    age = models.SmallIntegerField()
    """Seconds from the venue's own time of the quote to the minute; negative where it is later."""

    class Meta:
        managed = False
        db_table = "options_quote"

    def __str__(self) -> str:
        return f"{self.instrument_id} {self.ts:%Y-%m-%d %H:%M}Z {self.ltp / 100:.2f}"


class CollectedMinute(models.Model):
    """One minute that was stored, by whom and how fast: how the collector stands."""

    ts = models.DateTimeField(primary_key=True)
    asked = models.PositiveIntegerField()
    stored = models.PositiveIntegerField()
    """Rows, by whichever collectors gave them."""
    quarantined = models.PositiveIntegerField(default=0)
    """Quotes that were not believed."""
    fetch_ms = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField()
    """Real time of the first commit."""

    class Meta:
        ordering = ["-ts"]

    def __str__(self) -> str:
        return f"{self.ts:%Y-%m-%d %H:%M}Z {self.stored} of {self.asked}"


class Gap(models.Model):
    """A minute that is missing, for one instrument or for all, why, and when it came after all."""

    ts = models.DateTimeField()
    instrument = models.ForeignKey(
        Instrument, models.CASCADE, null=True, blank=True, db_constraint=False
    )
    """None where the minute is missing for all."""
    reason = models.CharField(max_length=200)
    found_at = models.DateTimeField()
    filled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["ts", "instrument"], name="one_quote_gap", nulls_distinct=False
            )
        ]
        ordering = ["-ts", "instrument"]

    def __str__(self) -> str:
        return f"{self.ts:%Y-%m-%d %H:%M}Z {self.instrument or 'all'}: {self.reason}"


class ArchivedDay(models.Model):
    """A closed day in its file, and when its partition was dropped."""

    date = models.DateField(unique=True)
    rows = models.PositiveIntegerField()
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    """Of the file."""
    content_sha256 = models.CharField(max_length=64)
    """Of the quotes, in the order of the key: what file and partition must agree on."""
    path = models.CharField(max_length=500)
    verified_at = models.DateTimeField()
    dropped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-date"]

    def __str__(self) -> str:
        return f"{self.date} {self.rows:,} rows"
