"""Orders against the book: what is refused, what fills, what rests, and what time does to it.

Refusals are the exchange's own words. An order that crosses the spread walks the levels of the
book; one that rests fills whole at its limit as soon as the market stands there. Funding falls due
at each whole hour of market time, and an account below its maintenance margin is closed out at the
mark, all at once: the real exchange does it in steps and through the book.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from markets.simulator.hyperliquid.account import (
    CANCELED,
    MARGIN_CANCELED,
    TAKER_RATE,
    Account,
    Marks,
    Order,
)
from markets.simulator.hyperliquid.market import BY_NAME, HOUR, UNIVERSE, Asset, Book, PerpMarket
from markets.simulator.hyperliquid.wire import milliseconds

GOOD_TILL_CANCELED, IMMEDIATE, POST_ONLY = "Gtc", "Ioc", "Alo"
LIQUIDATION = "LiquidationMarket"
LEAST_NOTIONAL = Decimal(10)
FURTHEST_RATIO = Decimal("0.8")
MISSING = "Order was never placed, already canceled, or filled."
_MINUTE = 60


class Refusal(Exception):
    """The exchange takes no such order, and says why in the message."""

    def __init__(self, status: str, message: str) -> None:
        """Take the status that the order has in the history, and the exchange's words."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ask:
    """Describe an order that someone wants."""

    asset: Asset
    is_buy: bool
    limit: Decimal
    size: Decimal
    tif: str
    reduce_only: bool
    cloid: str | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Say how much of an order may fill at once, and until when (real time) the rest waits."""

    most: Decimal
    waits_until: float


class Engine:
    """Match the accounts' orders with the market's book."""

    def __init__(self, market: PerpMarket, accounts: dict[str, Account], at: float) -> None:
        self.market = market
        self.accounts = accounts
        self.at = at
        """Market time up to which everything has happened."""
        self._numbers = itertools.count(_first_free(accounts.values()))

    def marks(self) -> dict[str, Decimal]:
        """Return the mark of each asset now."""
        return {asset.name: self.market.mark(asset, self.at) for asset in UNIVERSE}

    def place(self, account: Account, ask: Ask, part: Slice | None = None) -> Order:
        """Take an order and match it; raise Refusal, after noting in the history what was said."""
        book = self.market.book(ask.asset, self.at)
        order = Order(
            oid=next(self._numbers),
            coin=ask.asset.name,
            is_buy=ask.is_buy,
            limit=ask.limit,
            size=ask.size,
            tif=ask.tif,
            reduce_only=ask.reduce_only,
            placed_ms=milliseconds(self.at),
            cloid=ask.cloid,
            status_ms=milliseconds(self.at),
        )
        try:
            self._check(account, ask, book)
        except Refusal as refusal:
            self._refuse(account, order, refusal.status)
            raise
        account.add(order)
        self._take(account, order, book, part)
        if order.left and order.tif == IMMEDIATE:
            # What the book could not fill of an immediate order is gone.
            account.end(order, CANCELED, milliseconds(self.at))
        return order

    def refuse(self, account: Account, ask: Ask, refusal: Refusal) -> None:
        """Refuse an order for a reason from outside."""
        at_ms = milliseconds(self.at)
        order = Order(
            next(self._numbers),
            ask.asset.name,
            *(ask.is_buy, ask.limit, ask.size, ask.tif, ask.reduce_only, at_ms, ask.cloid),
        )
        self._refuse(account, order, refusal.status)

    def cancel(self, account: Account, order: Order | None, coin: str) -> bool:
        """Take what is left of an order out of the book; return whether it was there."""
        if order is None or order.coin != coin or order not in account.open_orders():
            return False
        account.end(order, CANCELED, milliseconds(self.at))
        return True

    def step(self, to: float, real: float) -> None:
        """Let market time pass: resting orders, funding, liquidation, in the order of events."""
        if to <= self.at:
            return
        busy = [account for account in self.accounts.values() if not account.is_idle]
        if busy:
            for at, marks in self._instants(to):
                self.at = at
                for account in busy:
                    self._live(account, marks, real)
        self.at = to

    def _live(self, account: Account, marks: Marks, real: float) -> None:
        for order in account.open_orders():
            if real < order.waits_until or not _reached(order, marks[order.coin]):
                continue
            if order.waits_until:
                asset = BY_NAME[order.coin]
                self._take(account, order, self.market.book(asset, self.at))
            else:
                self._match_resting(account, order)
        if self.at % HOUR == 0:
            for asset in UNIVERSE:
                if asset.name in account.positions:
                    rate = self.market.funding_rate(asset, self.at - 1)
                    oracle = self.market.oracle(asset, self.at)
                    account.pay_funding(asset.name, oracle, rate, milliseconds(self.at))
        if account.positions and account.equity(marks) < account.maintenance(marks):
            self._liquidate(account, marks)

    def _instants(self, to: float) -> Iterator[tuple[float, Marks]]:
        """Yield each whole minute passed and the end, with the marks: prices turn only there."""
        first = (math.floor(self.at / _MINUTE) + 1) * _MINUTE
        times = np.append(np.arange(first, to, _MINUTE, dtype=np.float64), to)
        columns = {asset.name: self.market.marks(asset, times) for asset in UNIVERSE}
        for place, at in enumerate(times.tolist()):
            yield at, {name: column[place] for name, column in columns.items()}

    def _check(self, account: Account, ask: Ask, book: Book) -> None:
        number = UNIVERSE.index(ask.asset)
        if ask.cloid and account.by_cloid(ask.cloid):
            # How the real exchange words it is not documented.
            raise Refusal("rejected", f"Cloid {ask.cloid} was used before. asset={number}")
        _check_form(ask, book, number)
        held = account.size_of(ask.asset.name)
        signed = ask.size if ask.is_buy else -ask.size
        if ask.reduce_only and (held * signed >= 0 or abs(signed) > abs(held)):
            message = f"Reduce only order would increase position. asset={number}"
            raise Refusal("reduceOnlyRejected", message)
        self._check_touch(ask, book, number)
        increase = max(abs(held + signed) - abs(held), Decimal(0))
        price = min(ask.limit, book.asks[0].price) if ask.is_buy else book.bids[0].price
        needed = increase * price / account.leverage_of(ask.asset.name)
        needed += ask.size * price * TAKER_RATE if increase else Decimal(0)
        marks = self.marks()
        free = account.equity(marks) - account.margin_used(marks) - account.held_back()
        if needed > max(free, Decimal(0)):
            message = f"Insufficient margin to place order. asset={number}"
            raise Refusal("perpMarginRejected", message)

    def _check_touch(self, ask: Ask, book: Book, number: int) -> None:
        touch = book.asks[0].price if ask.is_buy else book.bids[0].price
        crosses = ask.limit >= touch if ask.is_buy else ask.limit <= touch
        if ask.tif == POST_ONLY and crosses:
            bbo = f"{book.bids[0].price:f}@{book.asks[0].price:f}"
            message = f"Post only order would have immediately matched, bbo was {bbo}."
            raise Refusal("badAloPxRejected", f"{message} asset={number}")
        if ask.tif == IMMEDIATE and not crosses:
            message = "Order could not immediately match against any resting orders."
            raise Refusal("iocCancelRejected", f"{message} asset={number}")

    def _take(self, account: Account, order: Order, book: Book, part: Slice | None = None) -> None:
        """Walk the book's far side up to the limit, or up to what a fault allows."""
        allowed = min(order.size, part.most) if part else order.size
        for level in book.asks if order.is_buy else book.bids:
            beyond = level.price > order.limit if order.is_buy else level.price < order.limit
            if beyond or order.filled >= allowed:
                break
            size = min(level.size, allowed - order.filled)
            self._fill(account, order, level.price, size, crossed=True)
        if part and order.left:
            order.waits_until = part.waits_until

    def _match_resting(self, account: Account, order: Order) -> None:
        size = order.left
        if order.reduce_only:
            held = account.size_of(order.coin)
            size = min(size, abs(held)) if held * order.side < 0 else Decimal(0)
        if size:
            self._fill(account, order, order.limit, size, crossed=False)
        if order.reduce_only and order.left:
            account.end(order, "reduceOnlyCanceled", milliseconds(self.at))

    def _fill(
        self, account: Account, order: Order, price: Decimal, size: Decimal, *, crossed: bool
    ) -> None:
        number, at_ms = next(self._numbers), milliseconds(self.at)
        account.fill(order, number, price, size, at_ms, crossed=crossed)

    def _liquidate(self, account: Account, marks: Marks) -> None:
        at_ms = milliseconds(self.at)
        for order in account.open_orders():
            account.end(order, MARGIN_CANCELED, at_ms)
        for coin, held in list(account.positions.items()):
            mark, oid = marks[coin], next(self._numbers)
            size = abs(held.size)
            order = Order(oid, coin, held.size < 0, mark, size, LIQUIDATION, True, at_ms)
            account.add(order)
            number = next(self._numbers)
            account.fill(order, number, mark, size, at_ms, crossed=True, liquidation_mark=mark)

    def _refuse(self, account: Account, order: Order, status: str) -> None:
        account.add(order)
        account.end(order, status, milliseconds(self.at))


def _check_form(ask: Ask, book: Book, number: int) -> None:
    """Raise Refusal for an order that no account could place."""
    if not ask.size:
        raise Refusal("rejected", f"Order has zero size. asset={number}")
    if ask.size % ask.asset.size_step:
        raise Refusal("rejected", f"Order has invalid size. asset={number}")
    if not ask.limit or ask.limit % ask.asset.tick(ask.limit):
        raise Refusal("tickRejected", f"Price must be divisible by tick size. asset={number}")
    mid = book.mid
    if abs(ask.limit - mid) > mid * FURTHEST_RATIO:
        message = "Order price cannot be more than 80% away from the reference price"
        raise Refusal("oracleRejected", f"{message}. asset={number}")
    if ask.size * min(ask.limit, mid) < LEAST_NOTIONAL and not ask.reduce_only:
        message = f"Order must have minimum value of $10. asset={number}"
        raise Refusal("minTradeNtlRejected", message)


def _reached(order: Order, mark: Decimal) -> bool:
    return mark <= order.limit if order.is_buy else mark >= order.limit


def _first_free(accounts: Iterable[Account]) -> int:
    used = [0]
    for account in accounts:
        used += [*account.orders, *(fill.tid for fill in account.fills)]
    return max(used) + 1
