"""Market data of one market: its bars, features, calendar, last price and paper venue's book."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from markets.calendar import Day
from tradingsite.bound import BoundModel, bound


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
        opens_at, closes_at = (
            int(at.timestamp()) if at else None for at in (self.opens_at, self.closes_at)
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
