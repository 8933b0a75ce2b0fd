"""The ends of the broker's day: of its orders, its positions and its book, each at its own time.

Orders end with the session, but those of which the broker hears late. Positions go on to the next
day, settled, before the morning, and a little later the book forgets yesterday's orders.
"""

from __future__ import annotations

import datetime as dt

from markets.domain.calendar import Session, ist_instant, trading_date
from markets.simulator.kite.book import Book
from markets.simulator.kite.execution import Execution
from markets.simulator.kite.orders import CANCELLED, OPEN, TRIGGER_PENDING, Order
from markets.simulator.listing import CALL, FUTURE, Listed
from markets.simulator.world import World
from tradingsite.clock import Epoch

# The minutes are not published. Settlement prices come between 06:30 and 07:00, the book is of the
# current day (kite.trade/forum 49314, 51372): a client may assume any time from 00:00 to 09:00.
POSITIONS_ROLL_AT = dt.time(6, 30)
BOOK_CLEARS_AT = dt.time(7)
# NSE lets trades be corrected till then, and the broker's book is right after it
# (support.zerodha.com on orders executed beyond market hours).
RECONCILED_AT = dt.time(16, 15)


class Days:
    """Bring one account from one day to the next."""

    def __init__(self, world: World, book: Book, execution: Execution) -> None:
        self._world = world
        self._book = book
        self._execution = execution

    def step(self) -> None:
        """Do what the time asks for, all of it where the clock has jumped."""
        now = self._world.now()
        self._end_orders(now)
        positions_of = _day_from(POSITIONS_ROLL_AT, now)
        if self._book.date is None:
            self._book.start_day(positions_of)
        elif self._book.date != positions_of:
            self._settle(positions_of)
        orders_of = _day_from(BOOK_CLEARS_AT, now)
        if self._book.cleared_on != orders_of:
            self._book.clear(orders_of)

    def final_price(self, row: Listed) -> float:
        """Return what an expired contract is paid at: by the close of its index that day.

        It is no trade and shows in no order; the position is there until the next morning (NSE on
        the final settlement price; support.zerodha.com on contract notes of an expiry).
        """
        assert row.expiry is not None  # noqa: S101 - only contracts expire
        session = self._world.prices.nse.session_on(row.expiry)
        closed_at = session.closes_at if session else ist_instant(row.expiry, dt.time(15, 30))
        spot = self._world.prices.spot_at(row.underlying, float(closed_at))
        if row.kind == FUTURE:
            return round(spot, 4)
        return round(max(spot - row.strike if row.kind == CALL else row.strike - spot, 0.0), 4)

    def _settle(self, today: dt.date) -> None:
        before = self._world.prices.nse.previous_session(ist_instant(today, POSITIONS_ROLL_AT))
        closed_at = float(before.closes_at) if before else self._world.now()

        def settle(row: Listed) -> float:
            return self._world.quoter.price(row, closed_at)

        self._book.portfolio.roll(today, settle, self.final_price)
        self._book.start_day(today)

    def _end_orders(self, now: float) -> None:
        for order in self._book.active():
            session = self._session_of(order)
            if session is None or now < session.closes_at:
                continue
            if order.is_cut_off:
                heard_at = ist_instant(session.date, RECONCILED_AT)
                if now >= heard_at:
                    self._execution.hear_of(order, float(heard_at))
            elif order.status in (OPEN, TRIGGER_PENDING):
                said = "Cancelled by the exchange at the close"
                self._execution.end(order, CANCELLED, float(session.closes_at), said)

    def _session_of(self, order: Order) -> Session | None:
        """Return the session an order is for: one given outside of any is for the next."""
        nse, received_at = self._world.prices.nse, int(order.received_at)
        return nse.session_at(Epoch(received_at)) or nse.next_session(Epoch(received_at))


def _day_from(time: dt.time, now: float) -> dt.date:
    """Return the day an instant belongs to, where days begin at a time of the morning."""
    return trading_date(Epoch(int(now) - time.hour * 3_600 - time.minute * 60))
