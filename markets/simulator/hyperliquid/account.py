"""One cross-margin account of the exchange: what was ordered, filled, held and paid.

Cash is the deposit with all realised profits, fees and funding; equity is cash and what the open
positions would realise at the mark. Quantities are signed, positive is long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from markets.simulator.hyperliquid.market import BY_NAME

TAKER_RATE = Decimal("0.00045")
MAKER_RATE = Decimal("0.00015")
DEFAULT_LEVERAGE = 20
_ZERO = Decimal(0)
_CENT = Decimal("0.000001")

OPEN = "open"
FILLED = "filled"
CANCELED = "canceled"
LIQUIDATED_CANCELED = "liquidatedCanceled"
DELISTED_CANCELED = "delistedCanceled"
REDUCE_ONLY_CANCELED = "reduceOnlyCanceled"
SCHEDULED_CANCEL = "scheduledCancel"
LIQUIDATED = "Liquidated Cross"

Marks = Mapping[str, Decimal]


@dataclass(slots=True)
class Order:
    """Hold one order; its status is the venue's own word."""

    oid: int
    coin: str
    is_buy: bool
    limit: Decimal
    size: Decimal
    tif: str
    reduce_only: bool
    placed_ms: int
    cloid: str | None = None
    filled: Decimal = _ZERO
    status: str = OPEN
    status_ms: int = 0
    waits_until: float = 0.0
    """Real time before which nothing more fills it: a fault's doing."""

    @property
    def left(self) -> Decimal:
        """Return the size that is not filled."""
        return self.size - self.filled

    @property
    def side(self) -> int:
        """Return 1 for a buyer, -1 for a seller."""
        return 1 if self.is_buy else -1


@dataclass(frozen=True, slots=True)
class Fill:
    """Hold one execution, as the account saw it."""

    tid: int
    oid: int
    cloid: str | None
    coin: str
    is_buy: bool
    price: Decimal
    size: Decimal
    fee: Decimal
    crossed: bool
    """Whether it took from the book, rather than stood in it."""
    start_position: Decimal
    closed_pnl: Decimal
    direction: str
    time_ms: int
    liquidation_mark: Decimal | None = None
    liquidation_method: str = "market"


@dataclass(frozen=True, slots=True)
class Forced:
    """Say what closes a position that nobody asked to close."""

    direction: str
    """The execution's, "Auto-Deleveraging"; of a liquidation without the side."""
    mark: Decimal | None = None
    """Of a liquidation, the mark by which it fell due."""
    method: str = "market"
    """Of a liquidation, whether the book took it or the exchange's backstop."""

    @property
    def is_free(self) -> bool:
        """Return whether it costs no fee: what is settled meets no book."""
        return self.mark is None or self.method != "market"


@dataclass(frozen=True, slots=True)
class Payment:
    """Hold one hour's funding; a positive amount was received."""

    coin: str
    amount: Decimal
    size: Decimal
    rate: Decimal
    time_ms: int


@dataclass(slots=True)
class Position:
    """Hold what an account has of one asset."""

    size: Decimal = _ZERO
    entry: Decimal = _ZERO
    funding: Decimal = _ZERO
    """Received since it was opened."""

    def unrealised(self, mark: Decimal) -> Decimal:
        """Return what closing at a price would realise, fees not counted."""
        return self.size * (mark - self.entry)


@dataclass(slots=True)
class Account:
    """Keep one wallet's account."""

    wallet: str
    cash: Decimal
    positions: dict[str, Position] = field(default_factory=dict)
    leverage: dict[str, int] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    funding: Decimal = _ZERO
    """Received since the account was opened."""
    nonces: list[int] = field(default_factory=list)
    """The highest that its own key has used, ascending."""
    agents: dict[str, list[int]] = field(default_factory=dict)
    """The addresses that may sign for it, each with the nonces it has used."""
    requests: int = 0
    """What it has asked for by signed actions, each order of a batch counted."""
    spared_ms: int = 0
    """Real time of the last request that was taken over the limit."""
    scheduled_cancel_ms: int | None = None
    """Real time at which its orders are to be cancelled."""
    builders: dict[str, str] = field(default_factory=dict)
    """The most that each builder may add to a fee."""
    liquidation_pause_until: float = 0.0
    """Market time until which nothing is left of a position that is liquidated."""
    changed: set[int] = field(default_factory=set)
    """Orders not written to disk since they changed."""

    @property
    def is_idle(self) -> bool:
        """Return whether the passing of time changes nothing here."""
        return not self.positions and not self.open_orders()

    def open_orders(self) -> list[Order]:
        """Return the orders that rest in the book, oldest first."""
        return [order for order in self.orders.values() if order.status == OPEN]

    def by_cloid(self, cloid: str) -> Order | None:
        """Return the newest order of a client's id."""
        found = (order for order in reversed(self.orders.values()) if order.cloid == cloid)
        return next(found, None)

    def size_of(self, coin: str) -> Decimal:
        """Return the quantity held of an asset."""
        held = self.positions.get(coin)
        return held.size if held else _ZERO

    def leverage_of(self, coin: str) -> int:
        """Return the leverage chosen for an asset."""
        return self.leverage.get(coin, DEFAULT_LEVERAGE)

    def add(self, order: Order) -> None:
        """Take an order into the account's history."""
        self.orders[order.oid] = order
        self.changed.add(order.oid)

    def end(self, order: Order, status: str, at_ms: int) -> None:
        """Give an order its last status, or another."""
        order.status, order.status_ms = status, at_ms
        self._note(order)

    def end_all(self, status: str, at_ms: int, coin: str | None = None) -> None:
        """End the orders that rest in the book, of one asset or of all."""
        for order in self.open_orders():
            if coin in (None, order.coin):
                self.end(order, status, at_ms)

    def traded(self) -> Decimal:
        """Return what has been bought and sold, in USDC."""
        return sum((each.price * each.size for each in self.fills), _ZERO)

    def equity(self, marks: Marks) -> Decimal:
        """Return what the account is worth."""
        held = self.positions.items()
        return self.cash + sum((each.unrealised(marks[coin]) for coin, each in held), _ZERO)

    def notional(self, marks: Marks) -> Decimal:
        """Return what the positions are worth together, long or short."""
        return sum((abs(each.size) * marks[coin] for coin, each in self.positions.items()), _ZERO)

    def margin_used(self, marks: Marks) -> Decimal:
        """Return what the positions bind."""
        return sum((self.margin_of(coin, marks[coin]) for coin in self.positions), _ZERO)

    def margin_of(self, coin: str, mark: Decimal) -> Decimal:
        """Return what one position binds."""
        return abs(self.size_of(coin)) * mark / self.leverage_of(coin)

    def maintenance(self, marks: Marks) -> Decimal:
        """Return the equity below which the account is liquidated: half of the least margin."""
        return sum(
            (
                abs(each.size) * marks[coin] / (2 * BY_NAME[coin].most_leverage)
                for coin, each in self.positions.items()
            ),
            _ZERO,
        )

    def held_back(self) -> Decimal:
        """Return the margin that resting orders reserve."""
        return sum(
            (
                order.left * order.limit / self.leverage_of(order.coin)
                for order in self.open_orders()
                if not order.reduce_only
            ),
            _ZERO,
        )

    def fill(
        self,
        order: Order,
        tid: int,
        price: Decimal,
        size: Decimal,
        at_ms: int,
        *,
        crossed: bool,
        forced: Forced | None = None,
    ) -> Fill:
        """Execute a part of an order, and return how."""
        held = self.positions.setdefault(order.coin, Position())
        before, change = held.size, order.side * size
        after = before + change
        closing = min(abs(before), size) if before * change < 0 else _ZERO
        closed = (closing * (price - held.entry) * (1 if before > 0 else -1)).quantize(_CENT)
        self._move(order.coin, after, price, size, is_closing=bool(closing))
        self.cash += closed - (fee := _fee(price * size, crossed, forced))
        order.filled += size
        done = Fill(
            tid=tid,
            oid=order.oid,
            cloid=order.cloid,
            coin=order.coin,
            is_buy=order.is_buy,
            price=price,
            size=size,
            fee=fee,
            crossed=crossed,
            start_position=before,
            closed_pnl=closed,
            direction=_direction(before, after, forced),
            time_ms=at_ms,
            liquidation_mark=forced.mark if forced else None,
            liquidation_method=forced.method if forced else "market",
        )
        self.fills.append(done)
        self._note(order) if order.left else self.end(order, FILLED, at_ms)
        return done

    def _move(
        self, coin: str, after: Decimal, price: Decimal, size: Decimal, *, is_closing: bool
    ) -> None:
        """Have a position of a size; one that turned begins anew, one that grew averages."""
        held = self.positions[coin]
        if not after:
            del self.positions[coin]
        elif held.size * after <= 0:
            self.positions[coin] = Position(after, price)
        else:
            if not is_closing:
                held.entry = (held.entry * abs(held.size) + price * size) / abs(after)
            held.size = after

    def pay_funding(self, coin: str, oracle: Decimal, rate: Decimal, at_ms: int) -> None:
        """Settle an hour's funding of an asset: longs pay a positive rate, shorts receive it."""
        held = self.positions.get(coin)
        if held is None:
            return
        amount = (-held.size * oracle * rate).quantize(_CENT)
        self.cash += amount
        self.funding += amount
        held.funding += amount
        self.payments.append(Payment(coin, amount, held.size, rate, at_ms))

    def _note(self, order: Order) -> None:
        # What closed a position by force may be an order of somebody else's.
        if order.oid in self.orders:
            self.changed.add(order.oid)


def _fee(value: Decimal, crossed: bool, forced: Forced | None) -> Decimal:
    rate = TAKER_RATE if crossed else MAKER_RATE
    return _ZERO if forced and forced.is_free else (value * rate).quantize(_CENT)


def _direction(before: Decimal, after: Decimal, forced: Forced | None) -> str:
    if forced:
        side = " Long" if before > 0 else " Short"
        return forced.direction + (side if forced.direction == LIQUIDATED else "")
    if before * after < 0:
        return "Long > Short" if before > 0 else "Short > Long"
    side = "Long" if (before or after) > 0 else "Short"
    return f"{'Close' if abs(after) < abs(before) else 'Open'} {side}"
