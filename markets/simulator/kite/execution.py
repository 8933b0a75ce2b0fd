"""An order's way through the states of a real one: on to the exchange, its fills, its end.

A market order walks the depth up to its protection; what is left of it then rests as a limit there,
all day if need be, as at the real broker (kite.trade/forum 52991, 52940). Where the line to the
exchange is cut, an order trades on unseen, and the broker hears of it in the evening.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from markets.domain.calendar import trading_date
from markets.simulator.faults import Faults
from markets.simulator.kite import charges
from markets.simulator.kite.book import Book
from markets.simulator.kite.matching import Matcher, worst_price
from markets.simulator.kite.orders import (
    AMO_RECEIVED,
    CANCELLED,
    COMPLETE,
    OPEN,
    OPEN_PENDING,
    RECEIVED,
    REJECTED,
    TRIGGER_PENDING,
    Order,
    Trade,
)
from markets.simulator.listing import Listed
from markets.simulator.world import World
from tradingsite.clock import Epoch

EXECUTION_FAULTS = {
    "partial_fill": "fills `quantity` of the next order and leaves the rest for `seconds`",
    "reject": "takes the next order and rejects it, as the exchange's risk check does",
    "slow_order": "leaves the next order in PUT ORDER REQ RECEIVED for `seconds`",
    "late_reconcile": (
        "leaves the next order in OPEN PENDING till 16:15, when its fills come with their true time"
    ),
}

# The exchange's words (public logs): an order given before, for a contract that is gone by now.
NOT_LISTED = "16387 : Security is not allowed to trade in this market"


class Execution:
    """Move the orders of a book on, by what the market allows."""

    def __init__(
        self, world: World, faults: Faults, book: Book, on_update: Callable[[Order], None]
    ) -> None:
        self.world = world
        self.on_update = on_update
        self.on_complete: Callable[[Order], None] = lambda order: None
        self._faults = faults
        self._book = book
        self._held_until: dict[str, float] = {}

    def receive(self, order: Order) -> None:
        """Put a new order into the book, with what a waiting fault does to it."""
        if fault := self._faults.take("slow_order", order.ask.symbol):
            self.hold(order, fault.seconds)
        if self._faults.take("reject", order.ask.symbol):
            order.become("VALIDATION PENDING", order.received_at)
            self.end(order, REJECTED, order.received_at, "RMS:Rule: Check circuit limit, refused")
        else:
            self.publish(order)

    def hold(self, order: Order, seconds: float) -> None:
        """Leave an order as it is for so long, by the real clock."""
        self._held_until[order.order_id] = time.time() + seconds

    def is_in_process(self, order: Order) -> bool:
        """Return whether an order is on its way and cannot be changed now."""
        is_held = self._held_until.get(order.order_id, 0.0) > time.time()
        return order.is_cut_off or (order.status == RECEIVED and is_held)

    def step(self, now: float) -> None:
        """Move every order on that nothing holds."""
        matcher, real = Matcher(self.world, now), time.time()
        for order in self._book.active():
            if self._held_until.get(order.order_id, 0.0) > real or order.visible_at > real:
                continue
            if order.status == RECEIVED or (order.status == AMO_RECEIVED and self.world.is_open()):
                self._accept(order, now)
            if order.status == TRIGGER_PENDING:
                self._trigger(order, now)
            if (order.status == OPEN or order.is_cut_off) and self.world.is_open():
                self._match(order, matcher, now)

    def fill(self, order: Order, quantity: int, price: float, at: float, now: float) -> None:
        """Book an execution of an instant; `now` is when the broker comes to know of it."""
        order.filled += quantity
        order.value += quantity * price
        order.exchange_at = at
        ask, row = order.ask, self.row_of(order)
        trade = Trade(
            self._book.next_trade_id(),
            order.order_id,
            order.exchange_order_id or "",
            row.exchange,
            row.symbol,
            row.token,
            ask.product,
            ask.side,
            quantity,
            price,
            at,
            order.received_at,
        )
        date = trading_date(Epoch(at))
        paid = charges.itemise(row, ask.product, ask.side, quantity, price, date)
        self._book.portfolio.take(trade, row, paid.total)
        self._book.add_trade(trade, row.expiry)
        if order.pending:
            order.become(OPEN, now)
            self.publish(order)
            return
        self.end(order, COMPLETE, now)
        self.on_complete(order)

    def end(self, order: Order, status: str, at: float, message: str | None = None) -> None:
        """Let nothing more happen to an order."""
        order.cancelled = order.pending if status == CANCELLED else 0
        order.become(status, at, message)
        self.publish(order)

    def hear_of(self, order: Order, at: float) -> None:
        """Take in what the exchange made of an order while the line to it was cut."""
        order.is_cut_off = False
        order.exchange_order_id = self._book.next_exchange_id()
        order.exchange_at = at
        withheld, order.withheld = order.withheld, []
        for quantity, price, traded_at in withheld:
            self.fill(order, quantity, price, traded_at, at)
        if not order.is_over:
            self.end(order, CANCELLED, at, "Cancelled by the exchange at the close")

    def row_of(self, order: Order) -> Listed:
        """Return an order's instrument, as it was listed when the order came."""
        listing = self.world.exchange.on(trading_date(Epoch(order.received_at)))
        return listing.rows[listing.by_key[f"{order.ask.exchange}:{order.ask.symbol}"]]

    def publish(self, order: Order) -> None:
        """Keep an order as it is now, and say so to whoever listens."""
        self._book.put(order)
        self.on_update(order)

    def _accept(self, order: Order, now: float) -> None:
        order.become("VALIDATION PENDING", now)
        if self.row_of(order).key not in self.world.listing().by_key:
            self.end(order, REJECTED, now, NOT_LISTED)
            return
        order.become(OPEN_PENDING, now)
        is_plain = order.ask.order_type in ("MARKET", "LIMIT")
        if is_plain and self._faults.take("late_reconcile", order.ask.symbol):
            order.is_cut_off = True
            self.publish(order)
            return
        order.exchange_order_id = self._book.next_exchange_id()
        order.exchange_at = now
        order.become(resting_status(order), now)
        self.publish(order)

    def _trigger(self, order: Order, now: float) -> None:
        ask, row = order.ask, self.row_of(order)
        if ask.side * (self._last(row) - ask.trigger_price) >= 0.0:
            order.become(OPEN, now)
            self.publish(order)

    def _match(self, order: Order, matcher: Matcher, now: float) -> None:
        ask, row = order.ask, self.row_of(order)
        limit = worst_price(ask, row, self._last(row))
        left = most = order.at_exchange
        if not left:
            return
        if fault := self._faults.take("partial_fill", ask.symbol):
            most = min(most, fault.quantity or row.lot_size)
            self.hold(order, fault.seconds)
        fills = list(matcher.fills(ask, most, limit))
        if ask.order_type in ("MARKET", "SL-M") and sum(size for size, _ in fills) < left:
            order.ask = replace(ask, order_type="LIMIT", price=limit, market_protection=0.0)
            self.publish(order)
        for quantity, price in fills:
            if order.is_cut_off:
                order.withheld.append((quantity, price, now))
                self._book.put(order)
            else:
                self.fill(order, quantity, price, now, now)
        expired = ask.ttl_minutes and now >= order.received_at + ask.ttl_minutes * 60
        if order.status == OPEN and order.pending and (ask.validity == "IOC" or expired):
            self.end(order, CANCELLED, now)

    def _last(self, row: Listed) -> float:
        board = self.world.board()
        place = board.listing.by_key.get(row.key)
        return 0.0 if place is None else float(board.last[place])


def resting_status(order: Order) -> str:
    """Return the state in which an order waits at the exchange."""
    return TRIGGER_PENDING if order.ask.order_type in ("SL", "SL-M") else OPEN
