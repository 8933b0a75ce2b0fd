"""Market data of one market: bars, features, calendar, instruments, the owner's trades, prices.

And the simulated venue's own book, apart from the ledger as a broker's is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models

from tradingsite import clock
from tradingsite.bound import BoundModel, bound

if TYPE_CHECKING:
    from markets.domain.calendar import Day


class Source(models.TextChoices):
    """Where a bar came from; a market never mixes them."""

    GENERATED = "generated", "generated"
    IMPORTED = "imported", "imported"
    VENUE = "venue", "venue"


@bound
class Bar(BoundModel):
    """One closed bar, named by its open."""

    timeframe = models.CharField(max_length=4)
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField()
    open = models.DecimalField(max_digits=14, decimal_places=4)
    high = models.DecimalField(max_digits=14, decimal_places=4)
    low = models.DecimalField(max_digits=14, decimal_places=4)
    close = models.DecimalField(max_digits=14, decimal_places=4)
    volume = models.DecimalField(max_digits=20, decimal_places=4, default=0)
    source = models.CharField(max_length=10, choices=Source)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["timeframe", "opens_at"], name="one_bar")]
        ordering = ["timeframe", "-opens_at"]

    def __str__(self) -> str:
        return f"{self.timeframe} {self.opens_at:%Y-%m-%d %H:%M}Z {self.close:f}"


@bound
class Feature(BoundModel):
    """One row of features: what a policy may know at the bar's close."""

    timeframe = models.CharField(max_length=4)
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField()
    schema = models.CharField(max_length=64)
    values = ArrayField(models.FloatField())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["timeframe", "opens_at"], name="one_feature_row")
        ]
        ordering = ["timeframe", "-opens_at"]

    def __str__(self) -> str:
        return f"{self.timeframe} {self.opens_at:%Y-%m-%d %H:%M}Z"


@bound
class TradingDay(BoundModel):
    """One day of the exchange: its session, or that it is closed, and who says so."""

    date = models.DateField(unique=True)
    kind = models.CharField(max_length=10)
    opens_at = models.DateTimeField(null=True, blank=True)
    closes_at = models.DateTimeField(null=True, blank=True)
    name = models.CharField(max_length=80, blank=True)
    source = models.CharField(max_length=200)
    verified = models.BooleanField(default=False)

    class Meta:
        ordering = ["-date"]

    def __str__(self) -> str:
        return f"{self.date} {self.kind}"

    def as_day(self) -> Day:
        """Return the row as the calendar reads it."""
        # Here, because numpy comes with it (11 MB), and every process has the models.
        from markets.domain.calendar import Day

        opens_at, closes_at = (
            clock.epoch(at) if at else None for at in (self.opens_at, self.closes_at)
        )
        return Day(self.date, self.kind, opens_at, closes_at, self.name, self.source, self.verified)


@bound
class Quote(BoundModel):
    """The last price of an instrument and when the market made it."""

    instrument = models.CharField(max_length=40, unique=True)
    price = models.DecimalField(max_digits=14, decimal_places=4)
    at = models.DateTimeField()

    class Meta:
        ordering = ["instrument"]

    def __str__(self) -> str:
        return f"{self.instrument} {self.price:f}"


@bound
class VenueOrder(BoundModel):
    """An order in the simulated venue's own book: what a broker holds, apart from our ledger."""

    class State(models.TextChoices):
        OPEN = "open"
        FILLED = "filled"
        CANCELLED = "cancelled"
        REJECTED = "rejected"

    tag = models.CharField(max_length=20, unique=True)
    instrument = models.CharField(max_length=40)
    quantity = models.DecimalField(max_digits=18, decimal_places=8)
    slippage_bps = models.FloatField()
    accepted_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    filled_at = models.DateTimeField(null=True)
    price = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    message = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-accepted_at"]

    def __str__(self) -> str:
        return f"{self.tag} {self.quantity:+f} {self.instrument} {self.state}"


@bound
class BarGap(BoundModel):
    """A bar that the calendar expects and no source has given, and when it came after all."""

    timeframe = models.CharField(max_length=4)
    opens_at = models.DateTimeField()
    found_at = models.DateTimeField()
    filled_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["timeframe", "opens_at"], name="one_gap")]
        ordering = ["timeframe", "-opens_at"]

    def __str__(self) -> str:
        return f"{self.timeframe} {self.opens_at:%Y-%m-%d %H:%M}Z missing"


@bound
class BarImport(BoundModel):
    """One import of bars: what it brought, so that it can be seen, doubted and undone."""

    at = models.DateTimeField(help_text="real time")
    file = models.CharField(max_length=200)
    spans = models.JSONField(help_text="first and last open of each run of new bars, by timeframe")
    new = models.PositiveIntegerField()
    changed = models.PositiveIntegerField()
    reason = models.CharField(
        max_length=200, blank=True, help_text="why bars were taken that look wrong"
    )
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"import {self.pk} of {self.file}"


@bound
class ReplacedBar(BoundModel):
    """What a bar was before an import changed it."""

    imported = models.ForeignKey(BarImport, on_delete=models.CASCADE, related_name="replaced")
    timeframe = models.CharField(max_length=4)
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField()
    open = models.DecimalField(max_digits=14, decimal_places=4)
    high = models.DecimalField(max_digits=14, decimal_places=4)
    low = models.DecimalField(max_digits=14, decimal_places=4)
    close = models.DecimalField(max_digits=14, decimal_places=4)
    volume = models.DecimalField(max_digits=20, decimal_places=4)
    source = models.CharField(max_length=10, choices=Source)

    def __str__(self) -> str:
        return f"{self.timeframe} {self.opens_at:%Y-%m-%d %H:%M}Z as it was"


@bound
class Reading(BoundModel):
    """One number of a series that stands beside the bars: India VIX at a close, a funding rate."""

    series = models.CharField(max_length=30)
    at = models.DateTimeField()
    value = models.DecimalField(max_digits=18, decimal_places=10)
    source = models.CharField(max_length=10, choices=Source)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["series", "at"], name="one_reading")]
        ordering = ["series", "-at"]

    def __str__(self) -> str:
        return f"{self.series} {self.at:%Y-%m-%d %H:%M}Z {self.value:f}"


@bound
class InstrumentList(BoundModel):
    """A venue's list of one day: when it came, how long it was, and whether it is whole."""

    venue = models.CharField(max_length=20)
    date = models.DateField()
    fetched_at = models.DateTimeField()
    rows = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["venue", "date"], name="one_list_a_day")]
        ordering = ["-date", "venue"]

    def __str__(self) -> str:
        return f"{self.venue} {self.date}, {self.rows} instruments"


@bound
class ListedInstrument(BoundModel):
    """What a venue said of one instrument from one day to another; a change begins a new row."""

    venue = models.CharField(max_length=20)
    name = models.CharField(max_length=60)
    symbol = models.CharField(max_length=60)
    token = models.BigIntegerField(default=0)
    kind = models.CharField(max_length=6)
    underlying = models.CharField(max_length=30)
    expiry = models.DateField(null=True, blank=True)
    strike = models.DecimalField(max_digits=14, decimal_places=4, default=0)
    lot_size = models.DecimalField(max_digits=14, decimal_places=8)
    tick_size = models.DecimalField(max_digits=14, decimal_places=8)
    first_on = models.DateField()
    last_on = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["venue", "symbol", "first_on"], name="one_description")
        ]
        indexes = [models.Index(fields=["venue", "last_on", "underlying", "kind"])]
        ordering = ["venue", "name", "-first_on"]

    def __str__(self) -> str:
        return f"{self.name} ({self.symbol}) {self.first_on} to {self.last_on}"


class GivenBy(models.TextChoices):
    """Whose hand an order was, of those that are no bot's."""

    OWNER = "owner", "by hand"
    BROKER = "broker", "by the broker"
    """Squared off, or settled by the exchange's auction: nobody here decided it."""


class CameBy(models.TextChoices):
    """How an execution of the owner's came to the desk."""

    FETCHED = "fetched"
    IMPORTED = "imported"
    GENERATED = "generated"
    """With the generated market, whose owner he is, and gone with it."""


@bound
class OwnerOrder(BoundModel):
    """An order the owner gave by hand, or the broker for him, as the broker's book had it."""

    order_id = models.CharField(max_length=40, unique=True)
    symbol = models.CharField(max_length=60)
    instrument = models.CharField(max_length=60, blank=True)
    """The desk's name; empty where the desk has none for it."""
    quantity = models.DecimalField(max_digits=18, decimal_places=8)
    filled_quantity = models.DecimalField(max_digits=18, decimal_places=8, default=0)
    order_type = models.CharField(max_length=10)
    product = models.CharField(max_length=10, blank=True)
    price = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    state = models.CharField(max_length=40)
    message = models.CharField(max_length=200, blank=True)
    tag = models.CharField(max_length=20, blank=True)
    given_by = models.CharField(max_length=10, choices=GivenBy, default=GivenBy.OWNER)
    placed_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-placed_at"]

    def __str__(self) -> str:
        return f"{self.order_id} {self.quantity:+f} {self.symbol} {self.state}"


@bound
class OwnerTrade(BoundModel):
    """An execution of the owner's own, fetched from the broker or imported from his trade book."""

    trade_id = models.CharField(max_length=40)
    traded_on = models.DateField()
    """The exchange's day: its trade ids begin anew now and then."""
    order_id = models.CharField(max_length=40)
    symbol = models.CharField(max_length=60)
    exchange = models.CharField(max_length=10)
    """The broker's name: NFO, where the trade book says NSE and FO."""
    instrument = models.CharField(max_length=60, blank=True)
    expiry = models.DateField(null=True, blank=True)
    quantity = models.DecimalField(max_digits=18, decimal_places=8)
    """Signed: positive buys."""
    price = models.DecimalField(max_digits=14, decimal_places=4)
    product = models.CharField(max_length=10, blank=True)
    given_by = models.CharField(max_length=10, choices=GivenBy, default=GivenBy.OWNER)
    """What the owner learns and is learnt from is by hand; a trade book does not tell the two."""
    at = models.DateTimeField()
    came_by = models.CharField(max_length=10, choices=CameBy)
    """Where it came from first."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["exchange", "traded_on", "trade_id", "symbol"], name="one_owner_trade"
            )
        ]
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.trade_id} {self.quantity:+f} {self.symbol} {self.price:f}"
