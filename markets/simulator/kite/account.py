"""The account at the simulated broker: what it is asked to do, and the book that comes of it.

An order is taken at once and goes through the states of a real one in later steps: acceptance is
not execution. The book knows one day only, as the real one does; positions and cash live on, in a
file where a home is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from markets.domain.calendar import trading_date
from markets.simulator.faults import Faults
from markets.simulator.kite import cover, refusals
from markets.simulator.kite.book import Book
from markets.simulator.kite.days import Days
from markets.simulator.kite.envelope import KiteError, bad_input
from markets.simulator.kite.execution import EXECUTION_FAULTS, Execution, resting_status
from markets.simulator.kite.intraday import INTRADAY_FAULTS, Intraday
from markets.simulator.kite.matching import protection_pct
from markets.simulator.kite.orders import (
    AMO_RECEIVED,
    CANCELLED,
    MOST_SLICES,
    ORDER_TYPES,
    PRODUCTS,
    RECEIVED,
    REJECTED,
    VALIDITIES,
    Ask,
    Order,
)
from markets.simulator.kite.portfolio import Portfolio, Position, margin_of, needed
from markets.simulator.kite.rules import check, check_product, check_protection
from markets.simulator.listing import FUTURE, INDEX, Listed
from markets.simulator.world import World
from tradingsite.clock import Epoch

MODIFICATIONS_ALLOWED = 25
ACCOUNT_FAULTS = {
    **EXECUTION_FAULTS,
    **INTRADAY_FAULTS,
    "lot_revised": "lists the next instrument that matches with a lot of `quantity` from now on",
    "no_funds_open_orders": "refuses for want of margin, and tells to look at the open orders",
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
        self._faults = faults
        self._needs_protection = needs_protection
        self._lots: dict[str, int] = {}
        """Lots that were revised, by the instruments' keys."""
        self.execution = Execution(world, faults, self.book, on_update)
        self.execution.on_complete = self._protect
        self.intraday = Intraday(world, faults, self.book, self.execution, self._take_brokers)
        self.days = Days(world, self.book, self.execution)

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
        return self.listed(listing.rows[place])

    def listed(self, row: Listed) -> Listed:
        """Return an instrument as it is listed now, with its lot revised where it was."""
        if fault := self._faults.take("lot_revised", row.key):
            self._lots[row.key] = fault.quantity
        lot = self._lots.get(row.key)
        return replace(row, lot_size=lot) if lot else row

    def worth(self, exchange: str, symbol: str) -> tuple[float, float]:
        """Return the last price of an instrument and the close before."""
        board = self.world.board()
        place = board.listing.by_key.get(f"{exchange}:{symbol}")
        if place is None:
            return self._worth_expired(exchange, symbol)
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

    def place(self, ask: Ask, *, visible_at: float = 0.0, held_seconds: float = 0.0) -> Order:
        """Take an order into the book; raise KiteError where it is refused at once.

        It is not shown before an instant of the real clock, and waits for so long in its first
        state, where that is asked.
        """
        row = self.find(ask.exchange, ask.symbol)
        self._check(ask, row)
        if ask.variety != "amo":
            if not self.world.is_open():
                raise refusals.market_closed()
            self.intraday.check(ask.product, row)
        self._require_margin(ask, row, ask.quantity)
        order = self._new(ask, row, self.user_id, visible_at)
        if held_seconds:
            self.execution.hold(order, held_seconds)
        self.execution.receive(order)
        if cover.is_unpriced(ask) and not order.is_over:
            self.execution.end(order, REJECTED, order.received_at, cover.UNPRICED)
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
        order = self._open_order(order_id, "modified")
        modifications = sum(status == "MODIFIED" for status, *_ in order.history)
        if modifications >= MODIFICATIONS_ALLOWED:
            raise refusals.too_many_modifications()
        ask = self._changed(order.ask, changes)
        row = self.find(ask.exchange, ask.symbol)
        if ask.quantity <= order.filled:
            raise bad_input("Quantity cannot be less than what is filled already.")
        self._check(ask, row, changes)
        if ask.quantity > order.ask.quantity:
            self._require_margin(ask, row, ask.quantity - order.ask.quantity)
        now, before = self.world.now(), order.status
        for status in ("MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED"):
            order.become(status, now)
        order.ask, order.modified = ask, True
        is_at_exchange = before not in (RECEIVED, AMO_RECEIVED)
        order.become(resting_status(order) if is_at_exchange else before, now)
        self.execution.publish(order)
        return order

    def cancel(self, order_id: str) -> Order:
        """Take what is left of an order out of the book; raise KiteError where nothing is."""
        order = self._open_order(order_id, "cancelled")
        now = self.world.now()
        if cover.is_cover(order) and order.parent_id:
            cover.leave(order, now)
            self.execution.publish(order)
            return order
        order.become("CANCEL PENDING", now)
        self.execution.end(order, CANCELLED, now)
        return order

    def convert(self, position: Position, product: str, quantity: int, *, carried: bool) -> None:
        """Turn a part of a position, from before or of today, into another product."""
        row = position.row
        if product not in PRODUCTS or product == position.product or position.product == "CO":
            raise bad_input(f"Invalid `new_product`: {product}.")
        if quantity <= 0:
            raise bad_input("Quantity should be a positive number.")
        check_product(product, row)
        self.intraday.check(product, row)
        change = quantity if position.quantity > 0 else -quantity
        last, _ = self.worth(row.exchange, row.symbol)
        held = self.portfolio.quantity(row.exchange, row.symbol, product)

        def margin(of: str, size: int) -> float:
            return sum(margin_of(row, of, size, last).values())

        required = margin(position.product, position.quantity - change) + margin(
            product, held + change
        )
        required -= margin(position.product, position.quantity) + margin(product, held)
        available = self.portfolio.available(self.worth)
        if required > max(available, 0.0):
            raise refusals.no_funds(required, available)
        self.portfolio.convert(position, product, quantity, carried=carried)
        self.book.save()

    def step(self) -> None:
        """Move every order on by what the market allows now."""
        now = self.world.now()
        self.days.step()
        self.intraday.step(now)
        self.execution.step(now)
        self.days.step()

    def roll_day(self) -> None:
        """Go on to today, where the book is still that of an earlier day."""
        self.days.step()

    def _check(self, ask: Ask, row: Listed, changes: dict[str, float | str] | None = None) -> None:
        """Raise KiteError where an order, or what is changed of one, breaks a rule."""
        last, _ = self.worth(ask.exchange, ask.symbol)
        held = self.portfolio.quantity(ask.exchange, ask.symbol, ask.product)
        check(ask, row, last, self.circuit(row), held)
        if self._needs_protection:
            # Protection is not remembered: each request about a market order says it again.
            given = ask.market_protection if changes is None else changes.get("market_protection")
            check_protection(replace(ask, market_protection=float(given or 0.0)))
        if ask.quantity > row.freeze_quantity:
            raise refusals.over_freeze(row.freeze_quantity, ask.symbol)

    def _changed(self, ask: Ask, changes: dict[str, float | str]) -> Ask:
        for name, choices in (("order_type", ORDER_TYPES), ("validity", VALIDITIES)):
            if changes.get(name, choices[0]) not in choices:
                raise bad_input(f"Invalid `{name}`: {changes[name]}.")
        changed = replace(ask, **changes)  # type: ignore[arg-type]  # names are the class's
        if changed.order_type in ("MARKET", "SL-M"):
            return replace(changed, price=0.0)
        if changed.price <= 0.0:
            raise bad_input("Price is required for LIMIT and SL orders.")
        return changed

    def _new(self, ask: Ask, row: Listed, placed_by: str, visible_at: float = 0.0) -> Order:
        now = self.world.now()
        number = self.book.next_order_id(trading_date(Epoch(now)))
        order = Order(number, ask, row.token, placed_by, now, visible_at=visible_at)
        order.become(AMO_RECEIVED if ask.variety == "amo" else RECEIVED, now)
        if ask.market_protection and ask.order_type in ("MARKET", "SL-M"):
            last, _ = self.worth(ask.exchange, ask.symbol)
            order.extra_tags += ["mktp", f"mktp:{protection_pct(ask, row, last):.2f}"]
        return order

    def _take_brokers(self, ask: Ask, placed_by: str) -> Order:
        """Take an order of the broker's own, which no rule refuses."""
        order = self._new(ask, self.find(ask.exchange, ask.symbol), placed_by)
        self.execution.receive(order)
        return order

    def _protect(self, order: Order) -> None:
        """Give a cover order that was filled its stop."""
        if not cover.is_cover(order) or order.parent_id:
            return
        ask = cover.stop_of(order.ask)
        stop = self._new(ask, self.find(ask.exchange, ask.symbol), order.placed_by)
        stop.parent_id = order.order_id
        self.execution.receive(stop)

    def _worth_expired(self, exchange: str, symbol: str) -> tuple[float, float]:
        """Return what a contract that is held and listed no more is paid at, 0 for any other."""
        for position in self.portfolio.positions.values():
            if (position.row.exchange, position.row.symbol) == (exchange, symbol):
                price = self.days.final_price(position.row) if position.row.expiry else 0.0
                return price, price
        return 0.0, 0.0

    def _require_margin(self, ask: Ask, row: Listed, quantity: int) -> None:
        held = self.portfolio.quantity(ask.exchange, ask.symbol, ask.product)
        if ask.product == "CNC" and ask.side < 0 and held < ask.quantity:
            raise refusals.no_holding(held, ask.symbol)
        last, _ = self.worth(ask.exchange, ask.symbol)
        price = ask.price or last
        required = needed(row, ask.product, held, ask.side * quantity, price)
        required += sum(
            needed(row, ask.product, 0, other.ask.side * other.pending, price)
            for other in self.book.active()
            if (other.ask.symbol, other.ask.product) == (ask.symbol, ask.product)
            and other.ask.side == ask.side
        )
        available = self.portfolio.available(self.worth)
        if self._faults.take("no_funds_open_orders", ask.symbol):
            raise refusals.no_funds(max(required, available + 1.0), available, says_more=True)
        if required > available:
            raise refusals.no_funds(required, available)

    def _open_order(self, order_id: str, what: str) -> Order:
        order = self.book.orders.get(order_id)
        if order is None or order.visible_at > time.time():
            raise refusals.unknown_order()
        if order.is_over:
            raise refusals.is_over(order.status)
        if self.execution.is_in_process(order):
            raise refusals.in_process(what)
        return order
