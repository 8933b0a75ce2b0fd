"""What the simulated account holds and owes: positions, holdings, cash, margins.

Futures are settled to the close every night, so the cash of the next morning carries their gain;
premiums and shares are paid when they are traded. Margins are plain ratios of the notional, stated
below: the real ones come from SPAN files and change every day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from markets.simulator.kite.orders import INTRADAY, Trade
from markets.simulator.listing import FUTURE, SHARE, Listed

OPENING_CASH = 5_000_000.0
SPAN_RATIO = 0.095
EXPOSURE_RATIO = 0.02
INTRADAY_SHARE_RATIO = 0.2

Key = tuple[str, str, str]
"""Exchange, symbol and product."""
Worth = Callable[[str, str], tuple[float, float]]
"""The last price and the close before, of an exchange's symbol."""
Price = Callable[[Listed], float]


@dataclass(slots=True)
class Position:
    """Hold one position; a quantity is signed, positive is long."""

    row: Listed
    product: str
    overnight: int = 0
    overnight_price: float = 0.0
    buy_quantity: int = 0
    buy_value: float = 0.0
    sell_quantity: int = 0
    sell_value: float = 0.0

    @property
    def quantity(self) -> int:
        """Return the net quantity."""
        return self.overnight + self.buy_quantity - self.sell_quantity

    @property
    def average_price(self) -> float:
        """Return the average price of the side that is open, 0 where nothing is."""
        quantity, value = (
            (self.bought, self.bought_value) if self.quantity > 0 else (self.sold, self.sold_value)
        )
        return value / quantity if self.quantity and quantity else 0.0

    @property
    def bought(self) -> int:
        """Return what was bought, a long position of the night before included."""
        return self.buy_quantity + max(self.overnight, 0)

    @property
    def bought_value(self) -> float:
        """Return what was paid for it."""
        return self.buy_value + max(self.overnight, 0) * self.overnight_price

    @property
    def sold(self) -> int:
        """Return what was sold, a short position of the night before included."""
        return self.sell_quantity + max(-self.overnight, 0)

    @property
    def sold_value(self) -> float:
        """Return what was got for it."""
        return self.sell_value + max(-self.overnight, 0) * self.overnight_price

    def pnl(self, last: float) -> float:
        """Return the profit, realised and not, at a price."""
        return self.sold_value - self.bought_value + self.quantity * last

    def realised(self) -> float:
        """Return the profit of what is closed."""
        closed = min(self.bought, self.sold)
        if not closed:
            return 0.0
        return closed * (self.sold_value / self.sold - self.bought_value / self.bought)


@dataclass(slots=True)
class Holding:
    """Hold shares kept for delivery."""

    row: Listed
    quantity: int
    average_price: float
    since: str


@dataclass(slots=True)
class Portfolio:
    """Hold everything the account has."""

    cash: float = OPENING_CASH
    charges_today: float = 0.0
    positions: dict[Key, Position] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)

    def take(self, trade: Trade, row: Listed, charges: float) -> None:
        """Take an execution in."""
        key = (trade.exchange, trade.symbol, trade.product)
        position = self.positions.setdefault(key, Position(row, trade.product))
        if trade.side > 0:
            position.buy_quantity += trade.quantity
            position.buy_value += trade.quantity * trade.price
        else:
            position.sell_quantity += trade.quantity
            position.sell_value += trade.quantity * trade.price
        self.charges_today += charges

    def bring(self, row: Listed, quantity: int, price: float) -> None:
        """Take in a position that was opened elsewhere, on an earlier day."""
        key = (row.exchange, row.symbol, "NRML")
        self.positions[key] = Position(row, "NRML", quantity, price)

    def quantity(self, exchange: str, symbol: str, product: str) -> int:
        """Return the net quantity of a position, shares kept for delivery counted in."""
        position = self.positions.get((exchange, symbol, product))
        held = position.quantity if position else 0
        if product == "CNC" and symbol in self.holdings:
            held += self.holdings[symbol].quantity
        return held

    def convert(self, position: Position, product: str, quantity: int, *, carried: bool) -> None:
        """Move a quantity of a position to another product, at what it cost.

        What was carried in goes first where that is asked, else what was traded today: neither row
        gets a trade by it that never was.
        """
        key = (position.row.exchange, position.row.symbol, product)
        other = self.positions.setdefault(key, Position(position.row, product))
        side = 1 if position.quantity > 0 else -1
        from_before = max(side * position.overnight, 0)
        of_today = position.buy_quantity if side > 0 else position.sell_quantity
        first = min(quantity, from_before if carried else of_today)
        old, new = (first, quantity - first) if carried else (quantity - first, first)
        if old:
            _carry(other, side * old, position.overnight_price)
            position.overnight -= side * old
        if new:
            _move(position, other, "buy" if side > 0 else "sell", new)

    def used(self, worth: Worth) -> dict[str, float]:
        """Return the margin in use by the broker's names: span, exposure, premium, delivery."""
        span = exposure = premium = delivery = 0.0
        for position in self.positions.values():
            last, _ = worth(position.row.exchange, position.row.symbol)
            need = margin_of(position.row, position.product, position.quantity, last)
            span += need["span"]
            exposure += need["exposure"]
            if position.row.is_option:
                premium += position.buy_value - position.sell_value
            elif position.row.kind == SHARE and position.product == "CNC":
                delivery += position.buy_value - position.sell_value
            elif position.row.kind == SHARE:
                span += need["var"]
        return {
            "span": span,
            "exposure": exposure,
            "option_premium": premium,
            "delivery": delivery,
        }

    def futures_gain(self, worth: Worth) -> tuple[float, float]:
        """Return the realised and the unrealised gain of today that is settled in cash."""
        realised = unrealised = 0.0
        for position in self.positions.values():
            if position.row.kind == FUTURE or position.product in INTRADAY:
                last, _ = worth(position.row.exchange, position.row.symbol)
                if position.row.is_option:
                    continue
                realised += position.realised()
                unrealised += position.pnl(last) - position.realised()
        return realised, unrealised

    def available(self, worth: Worth) -> float:
        """Return the cash that new orders may use."""
        realised, unrealised = self.futures_gain(worth)
        return self.cash + realised + min(unrealised, 0.0) - sum(self.used(worth).values())

    def roll(self, date: dt.date, settle: Price, final: Price) -> None:
        """Go on to a new day: settle, deliver, and drop what expired before this date.

        `settle` gives the closes of the day that ended, `final` what an expired contract is paid
        at. An intraday position that nobody closed is carried as an ordinary one.
        """
        kept: dict[Key, Position] = {}
        for position in self.positions.values():
            row = position.row
            if row.kind == SHARE:
                self._deliver(position, date)
                continue
            expired = row.expiry is not None and row.expiry < date
            close = (final if expired else settle)(row)
            if row.kind == FUTURE:
                self.cash += position.pnl(close)
                price = close
            else:
                self.cash += position.sell_value - position.buy_value
                price = position.average_price
                if expired:
                    self.cash += position.quantity * close
            if position.quantity and not expired:
                product = "NRML" if position.product in INTRADAY else position.product
                key = (row.exchange, row.symbol, product)
                _carry(kept.setdefault(key, Position(row, product)), position.quantity, price)
        self.positions = {key: each for key, each in kept.items() if each.quantity}
        self.cash -= self.charges_today
        self.charges_today = 0.0

    def _deliver(self, position: Position, date: dt.date) -> None:
        self.cash += position.sell_value - position.buy_value
        if position.product != "CNC" or not position.quantity:
            return
        held = self.holdings.get(position.row.symbol)
        quantity = position.quantity + (held.quantity if held else 0)
        if quantity <= 0:
            self.holdings.pop(position.row.symbol, None)
            return
        value = held.quantity * held.average_price if held else 0.0
        if position.quantity > 0:
            value += position.quantity * position.average_price
            average = value / quantity
        else:
            average = held.average_price if held else position.average_price
        since = held.since if held else date.isoformat()
        self.holdings[position.row.symbol] = Holding(position.row, quantity, average, since)

    def dump(self) -> dict[str, Any]:
        """Return the portfolio as JSON can hold it."""
        positions = [asdict(position) for position in self.positions.values()]
        holdings = [asdict(holding) for holding in self.holdings.values()]
        return {
            "cash": self.cash,
            "charges_today": self.charges_today,
            "positions": positions,
            "holdings": holdings,
        }

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Portfolio:
        """Return a portfolio from its dump."""
        found = cls(body["cash"], body["charges_today"])
        for each in body["positions"]:
            position = Position(**{**each, "row": _row(each["row"])})
            found.positions[position.row.exchange, position.row.symbol, position.product] = position
        for each in body["holdings"]:
            holding = Holding(**{**each, "row": _row(each["row"])})
            found.holdings[holding.row.symbol] = holding
        return found


def _carry(position: Position, quantity: int, price: float) -> None:
    """Add to what a position was carried in with; what is of its other side closes a part."""
    before = position.overnight
    position.overnight += quantity
    if before * quantity >= 0:
        value = before * position.overnight_price + quantity * price
        position.overnight_price = value / position.overnight if position.overnight else 0.0
    elif abs(quantity) > abs(before):
        position.overnight_price = price


def _move(source: Position, target: Position, side: str, quantity: int) -> None:
    """Move a part of what was bought or sold today, at its average price."""
    held, paid = f"{side}_quantity", f"{side}_value"
    value = getattr(source, paid) / getattr(source, held) * quantity
    for position, sign in ((source, -1), (target, 1)):
        setattr(position, held, getattr(position, held) + sign * quantity)
        setattr(position, paid, getattr(position, paid) + sign * value)


def margin_of(row: Listed, product: str, quantity: int, last: float) -> dict[str, float]:
    """Return the margin of a net quantity: span, exposure, premium (of what is bought) and var."""
    none = {"span": 0.0, "exposure": 0.0, "option_premium": 0.0, "var": 0.0}
    size = abs(quantity)
    if row.kind == SHARE:
        is_intraday = product in INTRADAY
        ratio = INTRADAY_SHARE_RATIO if is_intraday else 1.0
        return {**none, "var": size * last * ratio if quantity > 0 or is_intraday else 0.0}
    if row.is_option and quantity >= 0:
        return {**none, "option_premium": size * last}
    # A short option is margined on what it may have to deliver.
    notional = size * (row.strike if row.is_option else last)
    return {**none, "span": notional * SPAN_RATIO, "exposure": notional * EXPOSURE_RATIO}


def needed(row: Listed, product: str, held: int, change: int, last: float) -> float:
    """Return the margin that a change of a position asks for beyond what it frees."""
    before = margin_of(row, product, held, last)
    after = margin_of(row, product, held + change, last)
    return max(sum(after.values()) - sum(before.values()), 0.0)


def _row(body: dict[str, Any]) -> Listed:
    expiry = body["expiry"]
    if isinstance(expiry, str):
        expiry = dt.date.fromisoformat(expiry)
    return Listed(**{**body, "expiry": expiry})
