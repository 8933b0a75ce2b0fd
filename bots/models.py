"""The ledger of one market: decisions, orders, fills, positions, PnL and risk state."""

from typing import Any

from django.db import models

from tradingsite.bound import BoundModel, bound

QUANTITY: dict[str, Any] = {"max_digits": 18, "decimal_places": 8}
PRICE: dict[str, Any] = {"max_digits": 14, "decimal_places": 4}
MONEY: dict[str, Any] = {"max_digits": 18, "decimal_places": 4}


@bound
class Order(BoundModel):
    """One order to the venue; the row exists, committed, before any byte leaves."""

    class State(models.TextChoices):
        INTENT = "intent"
        DENIED = "denied"
        SUBMITTING = "submitting"
        ACKED = "acked", "accepted"
        PARTIAL = "partial", "filled in part"
        FILLED = "filled"
        CANCELLED = "cancelled"
        REJECTED = "rejected"
        NOT_PLACED = "not_placed", "not placed"
        UNKNOWN = "unknown"
        LATE = "late", "arrived late"

    bot = models.CharField(max_length=20)
    tag = models.CharField(max_length=20, unique=True)
    instrument = models.CharField(max_length=40)
    quantity = models.DecimalField(**QUANTITY, help_text="signed: positive buys")
    state = models.CharField(max_length=12, choices=State, default=State.INTENT)
    bar_closes_at = models.DateTimeField()
    leg = models.CharField(max_length=10)
    shares = models.JSONField(default=dict, help_text="lots of each slot in this order")
    rests = models.JSONField(
        default=dict, help_text="what each slot held beyond whole lots, traded away with it"
    )
    reference_price = models.DecimalField(**PRICE, help_text="at the decision")
    arrival_price = models.DecimalField(**PRICE, null=True, help_text="shown as it was sent")
    sent_at = models.DateTimeField(null=True, help_text="real time")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    filled_quantity = models.DecimalField(**QUANTITY, default=0)
    average_price = models.DecimalField(**PRICE, null=True)
    charges = models.DecimalField(**MONEY, default=0)
    slippage = models.DecimalField(**MONEY, default=0)
    message = models.CharField(max_length=300, blank=True)
    mode = models.CharField(max_length=10)
    product = models.CharField(
        max_length=10, blank=True, help_text="the broker's, like NRML; legs of two do not close"
    )

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["bot", "state"])]

    def __str__(self) -> str:
        return f"{self.tag} {self.quantity:+f} {self.instrument} {self.state}"


@bound
class OrderEvent(BoundModel):
    """One change of an order's state, append-only; the notifier reads these by a cursor."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    state = models.CharField(max_length=12)
    at = models.DateTimeField()
    market_at = models.DateTimeField()
    detail = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["state", "market_at"])]

    def __str__(self) -> str:
        return f"{self.order_id} {self.state}"


@bound
class Fill(BoundModel):
    """One trade at the venue, kept once by its trade id."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    trade_id = models.CharField(max_length=40, unique=True)
    bot = models.CharField(max_length=20)
    instrument = models.CharField(max_length=40)
    quantity = models.DecimalField(**QUANTITY)
    price = models.DecimalField(**PRICE)
    shares = models.JSONField(default=dict, help_text="what each slot has of it, in units")
    charges = models.DecimalField(**MONEY)
    slippage = models.DecimalField(**MONEY, help_text="against the price it was decided at")
    at = models.DateTimeField()
    mode = models.CharField(max_length=10)

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.quantity:+f} {self.instrument} at {self.price:f}"


@bound
class Decision(BoundModel):
    """What a slot decided at one bar's close, with the model that decided and why it held."""

    class Cause(models.TextChoices):
        """Say in one word why it traded or did not; the reason says it in full."""

        TRADE = "trade"
        CHOICE = "choice", "hold by choice"
        DEAD = "dead", "dead action: less than a lot"
        BOUNDED = "bounded", "at its limit"
        RISK = "risk", "risk limit"
        HALTED = "halted"
        IN_FLIGHT = "in_flight", "an order not yet settled"
        NO_MODEL = "no_model", "no model"
        STALE = "stale", "data late"
        CLOSED = "closed", "calendar or contract"
        REFUSED = "refused", "policy refused"

    slot = models.CharField(max_length=20)
    bar_closes_at = models.DateTimeField()
    decided_at = models.DateTimeField()
    action = models.CharField(max_length=20)
    probabilities = models.JSONField(default=list, help_text="of the seven actions, by the policy")
    lots_before = models.IntegerField()
    lots_after = models.IntegerField()
    price = models.DecimalField(**PRICE)
    model = models.CharField(max_length=40, blank=True)
    model_sha256 = models.CharField(max_length=64, blank=True, help_text="of its manifest")
    latency_ms = models.FloatField(null=True, help_text="real time the policy took")
    cause = models.CharField(max_length=12, choices=Cause, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, related_name="decisions")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["slot", "bar_closes_at"], name="one_decision")
        ]
        ordering = ["-bar_closes_at", "slot"]

    def __str__(self) -> str:
        return f"{self.slot} {self.action}"


@bound
class Position(BoundModel):
    """What one slot holds: its sleeve of the bot's position, and the sleeve's account."""

    slot = models.CharField(max_length=20, unique=True)
    bot = models.CharField(max_length=20)
    venue = models.CharField(max_length=20, default="paper", help_text="whose account holds it")
    product = models.CharField(
        max_length=10, blank=True, help_text="the broker's, like NRML; empty where it has none"
    )
    instrument = models.CharField(max_length=40)
    lots = models.IntegerField(default=0)
    quantity = models.DecimalField(**QUANTITY, default=0)
    average_price = models.DecimalField(**PRICE, null=True)
    cash = models.DecimalField(**MONEY, default=0, help_text="minus what was paid, plus proceeds")
    entry_equity = models.DecimalField(**MONEY, default=0)
    peak_equity = models.DecimalField(**MONEY, default=0)
    equity = models.DecimalField(**MONEY, default=0, help_text="at the last mark")
    bars_held = models.IntegerField(default=0)
    rolled_side = models.SmallIntegerField(default=0, help_text="side kept while a roll is open")
    charges = models.DecimalField(**MONEY, default=0)
    slippage = models.DecimalField(**MONEY, default=0)
    funding = models.DecimalField(**MONEY, default=0, help_text="paid, less what was received")
    model = models.CharField(max_length=40, blank=True)
    opened_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["slot"]

    def __str__(self) -> str:
        return f"{self.slot} {self.lots:+d} lots"


@bound
class FundingPayment(BoundModel):
    """What one slot paid for holding a perpetual at one instant; negative was received."""

    slot = models.CharField(max_length=20)
    at = models.DateTimeField()
    quantity = models.DecimalField(**QUANTITY)
    price = models.DecimalField(**PRICE)
    rate = models.DecimalField(max_digits=18, decimal_places=10)
    amount = models.DecimalField(**MONEY)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "at"], name="one_payment")]
        ordering = ["-at", "slot"]

    def __str__(self) -> str:
        return f"{self.slot} {self.at:%Y-%m-%d %H:%M}Z {self.amount:f}"


@bound
class PnlSnapshot(BoundModel):
    """A slot's equity (PnL since its start, after charges) at a bar's close."""

    slot = models.CharField(max_length=20)
    at = models.DateTimeField()
    equity = models.DecimalField(**MONEY)
    unrealised = models.DecimalField(**MONEY)
    charges = models.DecimalField(**MONEY)
    lots = models.IntegerField()
    mark = models.DecimalField(**PRICE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "at"], name="one_snapshot")]
        ordering = ["-at", "slot"]

    def __str__(self) -> str:
        return f"{self.slot} {self.equity:f}"


@bound
class RiskState(BoundModel):
    """A bot's halt flag and daily-loss latch; read inside the transaction that submits an order."""

    bot = models.CharField(max_length=20, unique=True)
    halted = models.BooleanField(default=False)
    halt_reason = models.CharField(max_length=200, blank=True)
    trading_date = models.DateField(null=True)
    start_equity = models.DecimalField(**MONEY, default=0)
    last_equity = models.DecimalField(**MONEY, default=0)
    loss_latched = models.BooleanField(default=False)
    flatten = models.BooleanField(default=False, help_text="close all that is held, though halted")
    orders_today = models.PositiveIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["bot"]

    def __str__(self) -> str:
        return f"{self.bot} {'halted' if self.halted else 'free'}"


@bound
class Discrepancy(BoundModel):
    """What neither the bots' fills nor the owner's trades explain; open, it stops an instrument.

    It ends when the two sides agree again, when what the bots held was closed for them and is
    booked so, or when a person adopts it: then what the venue has over the ledger counts as the
    owner's from that moment on, and no bot touches it.
    """

    venue = models.CharField(max_length=20, default="paper")
    instrument = models.CharField(max_length=40)
    ledger_quantity = models.DecimalField(**QUANTITY, help_text="the bots' and the owner's")
    venue_quantity = models.DecimalField(**QUANTITY)
    detail = models.CharField(max_length=300, blank=True)
    seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    adopted_by = models.CharField(max_length=60, blank=True)

    class Meta:
        ordering = ["-seen_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["venue", "instrument"],
                condition=models.Q(closed_at=None),
                name="one_open_discrepancy",
            )
        ]

    def __str__(self) -> str:
        if self.detail:
            return self.detail
        ledger, venue = self.ledger_quantity.normalize(), self.venue_quantity.normalize()
        return f"the ledger has {ledger:f}, the venue has {venue:f}"


@bound
class AccountHolding(BoundModel):
    """What the account itself held at the last look: the bots', the owner's and all, by product."""

    venue = models.CharField(max_length=20)
    instrument = models.CharField(max_length=60)
    product = models.CharField(max_length=10, blank=True)
    quantity = models.DecimalField(**QUANTITY, help_text="signed: positive is long")
    average_price = models.DecimalField(**PRICE, null=True)
    seen_at = models.DateTimeField(help_text="market time")

    class Meta:
        ordering = ["venue", "instrument", "product"]
        constraints = [
            models.UniqueConstraint(
                fields=["venue", "instrument", "product"], name="one_account_holding"
            )
        ]

    def __str__(self) -> str:
        product = f" {self.product}" if self.product else ""
        return f"{self.quantity.normalize():+f} {self.instrument}{product}"


@bound
class ShadowAccount(BoundModel):
    """The account of a model that decides in the shadow: nothing of it is in any market."""

    slot = models.CharField(max_length=20)
    model = models.CharField(max_length=40)
    instrument = models.CharField(max_length=40)
    sleeve = models.JSONField(help_text="what its sleeve remembers")
    notional = models.DecimalField(**MONEY, help_text="of the slot's limit as it began")
    champion_equity = models.DecimalField(
        **MONEY, help_text="of the slot as it began, to compare over the same bars"
    )
    wanted_lots = models.IntegerField(default=0, help_text="from the next bar's open on")
    bars = models.PositiveIntegerField(default=0)
    trades = models.PositiveIntegerField(default=0)
    charges = models.DecimalField(**MONEY, default=0)
    slippage = models.DecimalField(**MONEY, default=0)
    funding = models.DecimalField(**MONEY, default=0)
    since = models.DateTimeField()
    decided_at = models.DateTimeField(null=True, help_text="the close of its last bar")
    funded_at = models.DateTimeField(null=True, help_text="the last payment of funding")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "model"], name="one_shadow")]
        ordering = ["-since", "slot"]

    def __str__(self) -> str:
        return f"{self.model} in the shadow"

    @property
    def net_return(self) -> float:
        """Return what it would have won, after all costs, in shares of the slot's limit."""
        return float(self.sleeve["equity"]) / float(self.notional)


@bound
class ShadowDecision(BoundModel):
    """What a model in the shadow would have done at one bar's close."""

    slot = models.CharField(max_length=20)
    model = models.CharField(max_length=40)
    model_sha256 = models.CharField(max_length=64, blank=True, help_text="of its manifest")
    bar_closes_at = models.DateTimeField()
    decided_at = models.DateTimeField()
    action = models.CharField(max_length=20)
    probabilities = models.JSONField(default=list)
    lots_before = models.IntegerField()
    lots_after = models.IntegerField()
    price = models.DecimalField(**PRICE)
    equity = models.DecimalField(**MONEY, help_text="at the mark, before this decision")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot", "model", "bar_closes_at"], name="one_shadow_decision"
            )
        ]
        ordering = ["-bar_closes_at", "slot"]

    def __str__(self) -> str:
        return f"{self.model} (shadow) {self.action}"


@bound
class LedgerCursor(BoundModel):
    """How far a reader of the ledger has come, kept beside what it reads."""

    reader = models.CharField(max_length=40, unique=True)
    event_id = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["reader"]

    def __str__(self) -> str:
        return f"{self.reader} at {self.event_id}"


@bound
class Signal(BoundModel):
    """What the personal model says for the next session: one of its decisions, explained."""

    slot = models.CharField(max_length=20)
    for_date = models.DateField(help_text="the session it is for")
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT, related_name="signal")
    action = models.CharField(max_length=20)
    lots = models.IntegerField(help_text="to hold in that session, long or short")
    change = models.IntegerField(help_text="lots to trade for it at the open")
    confidence = models.FloatField(help_text="the policy's own probability of the action")
    neighbours = models.JSONField(default=list, help_text="the owner's decisions most like it")
    model = models.CharField(max_length=40)
    made_at = models.DateTimeField()
    mode = models.CharField(max_length=10)

    class Meta:
        ordering = ["-for_date", "slot"]

    def __str__(self) -> str:
        return f"{self.slot} for {self.for_date}: {self.action}"
