"""Orders against the book: what is refused, what fills, what rests, and what time does to it.

Refusals are the exchange's own words. An order that crosses the spread walks the levels of the
book; one that rests fills whole at its limit as soon as the market stands there. Funding falls due
at each whole hour of market time, and an account below its maintenance margin is closed out.
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
    FILLED,
    REDUCE_ONLY_CANCELED,
    TAKER_RATE,
    Account,
    Marks,
    Order,
)
from markets.simulator.hyperliquid.forced import close_out
from markets.simulator.hyperliquid.market import BY_NAME, HOUR, UNIVERSE, Asset, Book, PerpMarket
from markets.simulator.hyperliquid.refusals import Refusal
from markets.simulator.hyperliquid.rules import Rules
from markets.simulator.hyperliquid.wire import milliseconds

GOOD_TILL_CANCELED, IMMEDIATE, POST_ONLY = "Gtc", "Ioc", "Alo"
FRONTEND = "FrontendMarket"
"""What the exchange's own pages call a market order: immediate."""
LEAST_NOTIONAL = Decimal(10)
FURTHEST_RATIO = Decimal("0.8")
MISSING = "Order was never placed, already canceled, or filled."
_MINUTE = 60


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

    @property
    def is_immediate(self) -> bool:
        """Return whether what does not fill at once is gone."""
        return self.tif in (IMMEDIATE, FRONTEND)


@dataclass(frozen=True, slots=True)
class Slice:
    """Say how much of an order may fill at once, and what becomes of the rest."""

    most: Decimal
    waits_until: float = 0.0
    """Real time until which the rest waits."""
    ends: str | None = None
    """The status that the rest ends with; None for what is usual."""


class Engine:
    """Match the accounts' orders with the market's book."""

    def __init__(
        self,
        market: PerpMarket,
        accounts: dict[str, Account],
        at: float,
        rules: Rules | None = None,
    ) -> None:
        self.market = market
        self.accounts = accounts
        self.rules = rules or Rules()
        self.at = at
        """Market time up to which everything has happened."""
        self._numbers = itertools.count(_first_free(accounts.values()))

    def marks(self) -> dict[str, Decimal]:
        """Return the mark of each asset now."""
        return {asset.name: self.market.mark(asset, self.at) for asset in UNIVERSE}

    def next_number(self) -> int:
        """Return the next number of an order or an execution."""
        return next(self._numbers)

    def place(
        self, account: Account, ask: Ask, part: Slice | None = None, *, again: bool = False
    ) -> Order:
        """Take an order and match it; raise Refusal, after noting in the history what was said.

        One that takes another's place may carry its client's id again.
        """
        book = self.market.book(ask.asset, self.at)
        order = Order(
            oid=self.next_number(),
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
            self._check(account, ask, book, again=again)
        except Refusal as refusal:
            self._refuse(account, order, refusal.status)
            raise
        account.add(order)
        self._take(account, order, book, part)
        if order.left and (status := self._end_of_rest(account, ask, order, part)):
            account.end(order, status, milliseconds(self.at))
        return order

    def refuse(self, account: Account, ask: Ask, refusal: Refusal) -> None:
        """Refuse an order for a reason from outside, and note it where the refusal leaves a row."""
        at_ms = milliseconds(self.at)
        order = Order(
            self.next_number(),
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
            if order.left and _is_spent(account, order):
                account.end(order, REDUCE_ONLY_CANCELED, milliseconds(self.at))
        if self.at % HOUR == 0:
            for asset in UNIVERSE:
                if asset.name in account.positions:
                    rate = self.market.funding_rate(asset, self.at - 1)
                    oracle = self.market.oracle(asset, self.at)
                    account.pay_funding(asset.name, oracle, rate, milliseconds(self.at))
        if account.positions and account.equity(marks) < account.maintenance(marks):
            close_out(self, account, marks)

    def _instants(self, to: float) -> Iterator[tuple[float, Marks]]:
        """Yield each whole minute passed and the end, with the marks: prices turn only there."""
        first = (math.floor(self.at / _MINUTE) + 1) * _MINUTE
        times = np.append(np.arange(first, to, _MINUTE, dtype=np.float64), to)
        columns = {asset.name: self.market.marks(asset, times) for asset in UNIVERSE}
        for place, at in enumerate(times.tolist()):
            yield at, {name: column[place] for name, column in columns.items()}

    def _end_of_rest(
        self, account: Account, ask: Ask, order: Order, part: Slice | None
    ) -> str | None:
        """Return the status of an order that is over though not all of it filled, else None."""
        if part and part.ends:
            return part.ends
        if _is_spent(account, order):
            return REDUCE_ONLY_CANCELED
        if ask.is_immediate:
            # What the book could not fill is gone; some captures say "filled" all the same.
            return FILLED if self.rules.ioc_as_filled and order.filled else CANCELED
        return None

    def _check(self, account: Account, ask: Ask, book: Book, *, again: bool) -> None:
        number = UNIVERSE.index(ask.asset)
        is_used = ask.cloid and not again and account.by_cloid(ask.cloid)
        if self.rules.cloid_once and is_used:
            # How the real exchange words it is not documented.
            raise Refusal("rejected", f"Cloid {ask.cloid} was used before. asset={number}")
        _check_form(ask, book, number, self.rules)
        held = account.size_of(ask.asset.name)
        signed = ask.size if ask.is_buy else -ask.size
        is_larger = abs(signed) > abs(held) and not self.rules.reduce_only_to_flat
        if ask.reduce_only and (held * signed >= 0 or is_larger):
            message = f"Reduce only order would increase position. asset={number}"
            raise Refusal("reduceOnlyRejected", message)
        self._check_touch(ask, book, number)
        increase = max(abs(held + signed) - abs(held), Decimal(0))
        if ask.reduce_only:
            increase = Decimal(0)
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
        if ask.is_immediate and not crosses:
            message = "Order could not immediately match against any resting orders."
            raise Refusal("iocCancelRejected", f"{message} asset={number}")

    def _take(self, account: Account, order: Order, book: Book, part: Slice | None = None) -> None:
        """Walk the book's far side up to the limit, or up to what a fault allows."""
        allowed = min(order.size, part.most) if part else order.size
        if order.reduce_only:
            allowed = min(allowed, order.filled + _closable(account, order))
        for level in book.asks if order.is_buy else book.bids:
            beyond = level.price > order.limit if order.is_buy else level.price < order.limit
            if beyond or order.filled >= allowed:
                break
            size = min(level.size, allowed - order.filled)
            self._fill(account, order, level.price, size, crossed=True)
        if part and order.left:
            order.waits_until = part.waits_until

    def _match_resting(self, account: Account, order: Order) -> None:
        size = min(order.left, _closable(account, order)) if order.reduce_only else order.left
        if size:
            self._fill(account, order, order.limit, size, crossed=False)

    def _fill(
        self, account: Account, order: Order, price: Decimal, size: Decimal, *, crossed: bool
    ) -> None:
        number, at_ms = self.next_number(), milliseconds(self.at)
        account.fill(order, number, price, size, at_ms, crossed=crossed)

    def _refuse(self, account: Account, order: Order, status: str | None) -> None:
        if status:
            account.add(order)
            account.end(order, status, milliseconds(self.at))


def _closable(account: Account, order: Order) -> Decimal:
    """Return how much of a position an order can close."""
    held = account.size_of(order.coin)
    return abs(held) if held * order.side < 0 else Decimal(0)


def _is_spent(account: Account, order: Order) -> bool:
    """Return whether an order that may only reduce finds nothing left to close."""
    return order.reduce_only and not _closable(account, order)


def _check_form(ask: Ask, book: Book, number: int, rules: Rules) -> None:
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
    is_free = ask.reduce_only and not rules.reduce_only_minimum
    if ask.size * min(ask.limit, mid) < LEAST_NOTIONAL and not is_free:
        message = f"Order must have minimum value of $10. asset={number}"
        raise Refusal("minTradeNtlRejected", message)


def _reached(order: Order, mark: Decimal) -> bool:
    return mark <= order.limit if order.is_buy else mark >= order.limit


def _first_free(accounts: Iterable[Account]) -> int:
    used = [0]
    for account in accounts:
        used += [*account.orders, *(fill.tid for fill in account.fills)]
    return max(used) + 1
