"""The account at the simulated broker: its book of the day, and the matching of its orders.

An order is taken at once and goes through the states of a real one in later steps: acceptance is
not execution. Market orders walk the five levels of depth up to their protection, limits rest, what
the depth does not hold waits for the next step. The book knows today only, as the real one does;
positions and cash live on, in a file where a home is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from markets.calendar import trading_date
from markets.simulator.faults import Faults
from markets.simulator.kite import charges
from markets.simulator.kite.book import Book
from markets.simulator.kite.envelope import KiteError, bad_input
from markets.simulator.kite.matching import Matcher, square_off_ask
from markets.simulator.kite.orders import (
    AMO_RECEIVED,
    CANCELLED,
    COMPLETE,
    MOST_SLICES,
    OPEN,
    PRODUCTS,
    RECEIVED,
    REJECTED,
    TRIGGER_PENDING,
    Ask,
    Order,
    Trade,
    check,
    check_protection,
)
from markets.simulator.kite.portfolio import Portfolio, Position, needed
from markets.simulator.listing import FUTURE, INDEX, Listed
from markets.simulator.world import World

SQUARE_OFF_SECONDS = 900
"""Before the close, intraday positions are closed by the broker."""
BROKER = "ADMINSQF"
MODIFICATIONS_ALLOWED = 25
ACCOUNT_FAULTS = {
    "partial_fill": "fills `quantity` of the next order and leaves the rest for `seconds`",
    "reject": "takes the next order and rejects it, as the exchange's risk check does",
    "slow_order": "leaves the next order in PUT ORDER REQ RECEIVED for `seconds`",
    "square_off": "closes all intraday positions now, as the broker does",
}


class Account:
    """Keep one account's orders, trades, positions and cash."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        user_id: str,
        book: Book | None = None,
        on_update: Callable[[Order], None] = lambda order: None,
        *,
        needs_protection: bool = True,
    ) -> None:
        self.world = world
        self.user_id = user_id
        self.book = book or Book()
        self.book.begin(world.now())
        self.on_update = on_update
        self._faults = faults
        self._needs_protection = needs_protection
        self._held_until: dict[str, float] = {}

    @property
    def portfolio(self) -> Portfolio:
        """Return what the account holds."""
        return self.book.portfolio

    def find(self, exchange: str, symbol: str) -> Listed:
        """Return a listed instrument; raise KiteError where there is none."""
        listing = self.world.listing()
        place = listing.by_key.get(f"{exchange}:{symbol}")
        if place is None:
            raise bad_input(f"Invalid tradingsymbol {exchange}:{symbol}.")
        return listing.rows[place]

    def worth(self, exchange: str, symbol: str) -> tuple[float, float]:
        """Return the last price of an instrument and the close before."""
        board = self.world.board()
        place = board.listing.by_key.get(f"{exchange}:{symbol}")
        if place is None:
            return 0.0, 0.0
        return float(board.last[place]), float(board.close[place])

    def circuit(self, row: Listed) -> tuple[float, float]:
        """Return the lowest and the highest price an order may have today; an index has none."""
        if row.kind == INDEX:
            return 0.0, 0.0
        _, close = self.worth(row.exchange, row.symbol)
        reach = 0.1 if row.kind == FUTURE else 0.2
        low, high = close * (1 - reach), close * (1 + reach)
        if row.is_option:
            low, high = row.tick_size, max(close * 6.0, 500.0)
        tick = row.tick_size
        return round(round(low / tick) * tick, 2), round(round(high / tick) * tick, 2)

    def place(self, ask: Ask, *, placed_by: str = "", visible_at: float = 0.0) -> Order:
        """Take an order into the book; raise KiteError where it is refused at once."""
        row = self.find(ask.exchange, ask.symbol)
        last, _ = self.worth(ask.exchange, ask.symbol)
        check(ask, row, last, self.circuit(row))
        if self._needs_protection:
            check_protection(ask)
        if ask.quantity > row.freeze_quantity:
            raise KiteError(
                400,
                "InputException",
                f"Quantity exceeds the freeze limit of {row.freeze_quantity} of {ask.symbol}.",
            )
        self._require_session(ask)
        self._require_margin(ask, row, last)
        now = self.world.now()
        order = Order(
            self.book.next_order_id(trading_date(int(now))),
            ask,
            row.token,
            placed_by or self.user_id,
            now,
            visible_at=visible_at,
        )
        order.become(AMO_RECEIVED if ask.variety == "amo" else RECEIVED, now)
        if ask.market_protection and ask.order_type in ("MARKET", "SL-M"):
            percent = ask.market_protection if ask.market_protection > 0 else 2.0
            order.extra_tags += ["mktp", f"mktp:{percent:.2f}"]
        self._apply_faults(order)
        self.book.put(order)
        self.on_update(order)
        return order

    def place_sliced(self, ask: Ask) -> tuple[Order, list[Order | KiteError]]:
        """Take an order in slices of the freeze quantity; return the first and all of them."""
        row = self.find(ask.exchange, ask.symbol)
        largest = row.freeze_quantity // row.lot_size * row.lot_size
        if ask.quantity <= largest:
            order = self.place(ask)
            return order, [order]
        sizes = [largest] * (ask.quantity // largest)
        if rest := ask.quantity % largest:
            sizes.append(rest)
        if len(sizes) > MOST_SLICES:
            raise bad_input(f"The order needs {len(sizes)} slices, {MOST_SLICES} are the most.")
        placed: list[Order | KiteError] = []
        parent: Order | None = None
        for size in sizes:
            try:
                order = self.place(replace(ask, quantity=size))
            except KiteError as error:
                if parent is None:
                    raise
                placed.append(error)
                continue
            parent = parent or order
            order.parent_id = None if order is parent else parent.order_id
            order.extra_tags += ["autoslice", f"autoslice:{parent.order_id}"]
            self.book.put(order)
            placed.append(order)
        assert parent is not None  # noqa: S101 - the first slice raises or is the parent
        return parent, placed

    def modify(self, order_id: str, changes: dict[str, float | str]) -> Order:
        """Change an open order; raise KiteError where it cannot be."""
        order = self._open_order(order_id)
        modifications = sum(status == "MODIFIED" for status, *_ in order.history)
        if modifications >= MODIFICATIONS_ALLOWED:
            raise KiteError(400, "OrderException", "Maximum allowed order modifications exceeded.")
        ask = replace(order.ask, **changes)  # type: ignore[arg-type]  # names are the class's
        row = self.find(ask.exchange, ask.symbol)
        if ask.quantity <= order.filled:
            raise bad_input("Quantity cannot be less than what is filled already.")
        last, _ = self.worth(ask.exchange, ask.symbol)
        check(ask, row, last, self.circuit(row))
        now = self.world.now()
        for status in ("MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED"):
            order.become(status, now)
        order.ask, order.modified = ask, True
        order.become(self._resting_status(order), now)
        self.book.put(order)
        self.on_update(order)
        return order

    def cancel(self, order_id: str) -> Order:
        """Take what is left of an order out of the book; raise KiteError where nothing is."""
        order = self._open_order(order_id)
        now = self.world.now()
        order.become("CANCEL PENDING", now)
        self._end(order, CANCELLED, now)
        return order

    def convert(self, position: Position, product: str, quantity: int) -> None:
        """Turn a part of a position, signed by its side, into another product."""
        if product not in PRODUCTS or product == position.product:
            raise bad_input(f"Invalid `new_product`: {product}.")
        self.portfolio.convert(position, product, quantity)
        self.book.keep()

    def step(self) -> None:
        """Move every order on by what the market allows now."""
        now, real = self.world.now(), time.time()
        self.roll_day()
        if self._faults.take("square_off") or self._square_off_is_due(now):
            self._square_off()
        matcher = Matcher(self.world, now)
        for order in self.book.active():
            if self._held_until.get(order.order_id, 0.0) > real or order.visible_at > real:
                continue
            if order.status == RECEIVED or (order.status == AMO_RECEIVED and self.world.is_open()):
                self._accept(order, now)
            if order.status == TRIGGER_PENDING:
                self._trigger(order, now)
            if order.status == OPEN and self.world.is_open():
                self._match(order, matcher, now)
        self._end_of_day(now)

    def roll_day(self) -> None:
        """Go on to today, where the book is still that of an earlier date."""
        today = trading_date(int(self.world.now()))
        if self.book.date == today:
            return
        if self.book.date is not None:
            ended = self.book.date
            quoter, listing = self.world.quoter, self.world.exchange.on(ended)
            session = self.world.prices.nse.session_on(ended)
            closed_at = float(session.closes_at) if session else self.world.now()

            def settle(exchange: str, symbol: str) -> tuple[float, float]:
                place = listing.by_key.get(f"{exchange}:{symbol}")
                price = 0.0 if place is None else quoter.price(listing.rows[place], closed_at)
                return price, price

            self.portfolio.roll(today, settle, settle)
        self.book.start_day(today)

    def _require_session(self, ask: Ask) -> None:
        if ask.variety == "amo":
            return
        if not self.world.is_open():
            raise KiteError(
                400,
                "OrderException",
                "Markets are closed right now. Use an after market order (variety amo) instead.",
            )

    def _require_margin(self, ask: Ask, row: Listed, last: float) -> None:
        held = self.portfolio.quantity(ask.exchange, ask.symbol, ask.product)
        if ask.product == "CNC" and ask.side < 0 and held < ask.quantity:
            raise KiteError(
                400,
                "HoldingException",
                f"Insufficient stock holding. {held} of {ask.symbol} can be sold.",
            )
        price = ask.price or last
        required = needed(row, ask.product, held, ask.side * ask.quantity, price)
        required += sum(
            needed(row, ask.product, 0, other.ask.side * other.pending, price)
            for other in self.book.active()
            if (other.ask.symbol, other.ask.product) == (ask.symbol, ask.product)
            and other.ask.side == ask.side
        )
        available = self.portfolio.available(self.worth)
        if required > available:
            raise KiteError(
                400,
                "MarginException",
                f"Insufficient funds. Required margin is {required:.2f} but available margin is "
                f"{max(available, 0.0):.2f}.",
            )

    def _apply_faults(self, order: Order) -> None:
        symbol = order.ask.symbol
        if fault := self._faults.take("slow_order", symbol):
            self._held_until[order.order_id] = time.time() + fault.seconds
        if self._faults.take("reject", symbol):
            order.become("VALIDATION PENDING", order.received_at)
            self._end(order, REJECTED, order.received_at, "RMS:Rule: Check circuit limit, refused")

    def _accept(self, order: Order, now: float) -> None:
        order.become("VALIDATION PENDING", now)
        order.become("OPEN PENDING", now)
        order.exchange_order_id = self.book.next_exchange_id()
        order.exchange_at = now
        order.become(self._resting_status(order), now)
        self.book.put(order)
        self.on_update(order)

    def _resting_status(self, order: Order) -> str:
        return TRIGGER_PENDING if order.ask.order_type in ("SL", "SL-M") else OPEN

    def _trigger(self, order: Order, now: float) -> None:
        last, _ = self.worth(order.ask.exchange, order.ask.symbol)
        if order.ask.side * (last - order.ask.trigger_price) >= 0.0:
            order.become(OPEN, now)
            self.book.put(order)
            self.on_update(order)

    def _match(self, order: Order, matcher: Matcher, now: float) -> None:
        ask, row = order.ask, self.find(order.ask.exchange, order.ask.symbol)
        most = order.pending
        if fault := self._faults.take("partial_fill", ask.symbol):
            most = min(most, fault.quantity or row.lot_size)
            self._held_until[order.order_id] = time.time() + fault.seconds
        for quantity, price in matcher.fills(ask, most):
            self._fill(order, row, quantity, price, now)
        expired = ask.ttl_minutes and now >= order.received_at + ask.ttl_minutes * 60
        if order.status == OPEN and order.pending and (ask.validity == "IOC" or expired):
            self._end(order, CANCELLED, now)

    def _fill(self, order: Order, row: Listed, quantity: int, price: float, now: float) -> None:
        order.filled += quantity
        order.value += quantity * price
        order.exchange_at = now
        ask = order.ask
        trade = Trade(
            self.book.next_trade_id(),
            order.order_id,
            order.exchange_order_id or "",
            row.exchange,
            row.symbol,
            row.token,
            ask.product,
            ask.side,
            quantity,
            price,
            now,
            order.received_at,
        )
        date = trading_date(int(now))
        paid = charges.itemise(row, ask.product, ask.side, quantity, price, date)
        self.portfolio.take(trade, row, paid.total)
        self.book.add_trade(trade, row.expiry)
        if not order.pending:
            self._end(order, COMPLETE, now)
        else:
            order.become(OPEN, now)
            self.book.put(order)
            self.on_update(order)

    def _end(self, order: Order, status: str, now: float, message: str | None = None) -> None:
        order.cancelled = order.pending if status == CANCELLED else 0
        order.become(status, now, message)
        self.book.put(order)
        self.on_update(order)

    def _open_order(self, order_id: str) -> Order:
        order = self.book.orders.get(order_id)
        if order is None or order.visible_at > time.time():
            raise KiteError(404, "OrderException", f"Couldn't find that `order_id` {order_id}.")
        if order.is_over:
            raise KiteError(
                400,
                "OrderException",
                f"Order cannot be changed as it is {order.status.lower()}.",
            )
        return order

    def _square_off_is_due(self, now: float) -> bool:
        session = self.world.prices.nse.session_at(int(now))
        if session is None or now < session.closes_at - SQUARE_OFF_SECONDS:
            return False
        return any(
            position.product == "MIS" and position.quantity
            for position in self.portfolio.positions.values()
        )

    def _square_off(self) -> None:
        busy = {(order.ask.exchange, order.ask.symbol) for order in self.book.active()}
        for position in list(self.portfolio.positions.values()):
            row, quantity = position.row, position.quantity
            if position.product != "MIS" or not quantity or (row.exchange, row.symbol) in busy:
                continue
            ask = square_off_ask(row, quantity)
            self.place(ask, placed_by=BROKER)

    def _end_of_day(self, now: float) -> None:
        """Cancel what is left of the day's orders once the session is over."""
        if self.world.is_open():
            return
        session = self.world.prices.nse.session_on(trading_date(int(now)))
        if session is None or now < session.closes_at:
            return
        for order in self.book.active():
            if order.status in (OPEN, TRIGGER_PENDING):
                self._end(order, CANCELLED, now, "Cancelled by the exchange at the close")
