"""The end of intraday trading: from when no such order is taken, and how positions are closed.

The broker cancels what still rests, closes each position by an order of its own and takes a fee for
it. A closing that fails leaves the position, which is carried overnight as an ordinary one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from markets.domain.calendar import ist_instant, trading_date
from markets.domain.contracts import row_on
from markets.simulator.faults import Faults
from markets.simulator.kite import refusals
from markets.simulator.kite.book import Book
from markets.simulator.kite.execution import Execution
from markets.simulator.kite.matching import market_ask
from markets.simulator.kite.orders import CANCELLED, INTRADAY, REJECTED, Ask, Order
from markets.simulator.kite.portfolio import Position
from markets.simulator.listing import SHARE, Listed
from markets.simulator.world import World
from tradingsite.clock import IST, Epoch

BROKER = "ADMINSQF"
# For a position that the broker closes, with GST (support.zerodha.com, MIS auto square-off).
FEE_RUPEES = 50.0 * 1.18
# Before the close of a session of other hours; the broker announces those one by one.
SPECIAL_SECONDS = 900
INTRADAY_FAULTS = {
    "square_off": "closes all intraday positions now, as the broker does",
    "square_off_fails": "lets the next closing by the broker fail: the position stays overnight",
}


@dataclass(frozen=True, slots=True)
class SquareOff:
    """State the times (IST) of the broker's square-off from a date on."""

    effective: dt.date
    derivatives: dt.time
    shares: dt.time
    source: str


SQUARE_OFFS = (
    SquareOff(
        dt.date(2007, 1, 1),
        dt.time(15, 25),
        dt.time(15, 25),
        "support.zerodha.com, MIS auto square-off, as it stood in 2026; not looked up for before",
    ),
    SquareOff(
        dt.date(2026, 8, 3),
        dt.time(15, 26),
        dt.time(15, 12),
        "support.zerodha.com, MIS auto square-off: 15:12 for shares of the closing auction",
    ),
)


class Intraday:
    """Refuse intraday orders that come too late, and close what is left."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        book: Book,
        execution: Execution,
        take: Callable[[Ask, str], Order],
    ) -> None:
        """Take what puts an order of the broker's own into the book: the order, and who signs."""
        self._world = world
        self._faults = faults
        self._book = book
        self._execution = execution
        self._take = take

    def check(self, product: str, row: Listed) -> None:
        """Raise KiteError where an order or a conversion to a product comes too late today."""
        if product in INTRADAY and self._is_due(row, self._world.now()):
            raise refusals.intraday_is_over(self._until(row, self._world.now()))

    def step(self, now: float) -> None:
        """Cancel and close what is due."""
        if not self._world.is_open():
            return
        is_forced = self._faults.take("square_off") is not None
        for order in self._book.active():
            ask, row = order.ask, self._execution.row_of(order)
            is_asked = ask.product in INTRADAY and not _is_brokers(order)
            if is_asked and (is_forced or self._is_due(row, now)) and not self._is_moving(order):
                self._execution.end(order, CANCELLED, now, "Cancelled before the square-off")
        for position in list(self._book.portfolio.positions.values()):
            is_open = position.product in INTRADAY and position.quantity != 0
            if is_open and (is_forced or self._is_due(position.row, now)):
                self._close(position, now)

    def _close(self, position: Position, now: float) -> None:
        row, product = position.row, position.product
        own = [
            order
            for order in self._book.orders.values()
            if _is_brokers(order) and (order.ask.symbol, order.ask.product) == (row.symbol, product)
        ]
        today = trading_date(Epoch(now))
        has_failed = any(
            order.status == REJECTED and trading_date(Epoch(order.received_at)) == today
            for order in own
        )
        if has_failed or any(not order.is_over for order in own):
            return
        side, quantity = (-1 if position.quantity > 0 else 1), abs(position.quantity)
        most = row.freeze_quantity // row.lot_size * row.lot_size
        ask = market_ask(row, side, min(quantity, most), product)
        order = self._take(ask, self._signature())
        if row.kind != SHARE and self._faults.take("square_off_fails", row.key):
            self._execution.end(order, REJECTED, now, "RMS:Auto square off failed")
        else:
            self._book.portfolio.charges_today += FEE_RUPEES

    def _signature(self) -> str:
        """Return who signs: the broker's square-off and its risk desk take turns here."""
        given = sum(_is_brokers(order) for order in self._book.orders.values())
        return f"rms{100 + given}" if given % 2 else BROKER

    def _is_due(self, row: Listed, now: float) -> bool:
        session = self._world.prices.nse.session_at(Epoch(now))
        return session is not None and now >= self._closes_at(row, now)

    def _until(self, row: Listed, now: float) -> dt.time:
        at = dt.datetime.fromtimestamp(self._closes_at(row, now), IST)
        return at.time()

    def _closes_at(self, row: Listed, now: float) -> int:
        date = trading_date(Epoch(now))
        rule = row_on(SQUARE_OFFS, date)
        at = ist_instant(date, rule.shares if row.kind == SHARE else rule.derivatives)
        session = self._world.prices.nse.session_on(date)
        if session is None or session.opens_at < at < session.closes_at:
            return at
        return session.closes_at - SPECIAL_SECONDS

    def _is_moving(self, order: Order) -> bool:
        return order.is_over or self._execution.is_in_process(order)


def _is_brokers(order: Order) -> bool:
    return order.placed_by == BROKER or order.placed_by.startswith("rms")
