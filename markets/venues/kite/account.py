"""The account's own book of a day at the broker: every order and execution, and whose hand it was.

The book speaks of the owner's orders, of the bots' and of those the broker gives itself, in one
list. A tag of our form makes an order a bot's; `placed_by` tells the other two apart. An execution
names its order only, so one whose order is not shown yet is nobody's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from markets.venues.kite.rows import OUR_TAG, Directory, Row
from tradingsite.clock import IST

OWNER, BROKER, BOT, UNKNOWN = "owner", "broker", "bot", "unknown"
# How the broker signs its own orders where the user's id is not known: ADMINSQF squares off, and
# so does its risk management, as rms and a number.
BROKERS_HANDS = ("ADMIN", "RMS")
OVER = frozenset({"COMPLETE", "CANCELLED", "REJECTED"})
MESSAGE_CHARACTERS = 200

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class AccountOrder:
    """One order as the book has it; quantities are signed, positive buys."""

    order_id: str
    given_by: str
    """owner, broker or bot."""
    tag: str
    exchange: str
    symbol: str
    instrument: str
    """The desk's name, empty where it has none."""
    quantity: Decimal
    filled_quantity: Decimal
    order_type: str
    product: str
    price: Decimal | None
    """The limit; None where the order has none."""
    state: str
    """In the broker's words."""
    message: str
    placed_at: dt.datetime
    updated_at: dt.datetime

    @property
    def is_over(self) -> bool:
        """Return whether nothing more can happen to it."""
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class AccountTrade:
    """One execution; its quantity is signed, positive buys."""

    trade_id: str
    """The exchange's, which counts anew each day."""
    traded_on: dt.date
    order_id: str
    given_by: str
    """owner, broker or bot; unknown while the book does not show its order."""
    exchange: str
    """The broker's name of the segment: NFO, not NSE, for NSE's derivatives."""
    symbol: str
    instrument: str
    expiry: dt.date | None
    quantity: Decimal
    price: Decimal
    product: str
    at: dt.datetime
    ordered_at: dt.datetime | None
    """When the order came in, where the broker says so."""


@dataclass(frozen=True, slots=True)
class DayBook:
    """Everything the account did today, and what of it could not be read."""

    orders: list[AccountOrder]
    trades: list[AccountTrade]
    unread: list[str]
    """Why, one sentence for each row."""


def day_book(
    orders: Iterable[Row], trades: Iterable[Row], directory: Directory, user_id: str
) -> DayBook:
    """Return the book of the rows of one reading; a row that makes no sense is named, not guessed.

    The trades must have been read before the orders, so that no order is missing for being younger.
    """
    unread: list[str] = []
    asked = list(_made("order", orders, lambda row: _order(row, directory, user_id), unread))
    hands = {order.order_id: order.given_by for order in asked}
    done = list(_made("trade", trades, lambda row: _trade(row, directory, hands), unread))
    ordered = {trade.order_id: trade.ordered_at for trade in done if trade.ordered_at}
    placed = [_placed_by_its_trades(order, ordered.get(order.order_id)) for order in asked]
    return DayBook(placed, done, unread)


def forced(rows: Iterable[Row], user_id: str) -> set[str]:
    """Return the ids of the orders that the broker gave itself."""
    return {str(row.get("order_id")) for row in rows if hand_of(row, user_id) == BROKER}


def hand_of(row: Row, user_id: str) -> str:
    """Return who gave an order: a bot by our tag, else the owner or the broker by `placed_by`."""
    if OUR_TAG.fullmatch(str(row.get("tag") or "")):
        return BOT
    placed_by = str(row.get("placed_by") or "")
    if user_id:
        return OWNER if placed_by in ("", user_id) else BROKER
    return BROKER if placed_by.upper().startswith(BROKERS_HANDS) else OWNER


def _made(
    what: str, rows: Iterable[Row], make: Callable[[Row], Made], unread: list[str]
) -> Iterable[Made]:
    for row in rows:
        try:
            yield make(row)
        except (KeyError, ValueError, TypeError, InvalidOperation) as error:
            name = row.get(f"{what}_id") if isinstance(row, dict) else None
            unread.append(f"{what} {name or 'without an id'}: {type(error).__name__} {error}")


def _order(row: Row, directory: Directory, user_id: str) -> AccountOrder:
    exchange, symbol, name, _ = _instrument(row, directory)
    times = [
        _aware(row[each])
        for each in ("order_timestamp", "exchange_timestamp", "exchange_update_timestamp")
        if row.get(each)
    ]
    if not times:
        raise ValueError("it has no time")
    limit = _number(row.get("price") or 0)
    return AccountOrder(
        order_id=_text(row, "order_id"),
        given_by=hand_of(row, user_id),
        tag=str(row.get("tag") or ""),
        exchange=exchange,
        symbol=symbol,
        instrument=name,
        quantity=_signed(row),
        filled_quantity=_side(row) * _number(row.get("filled_quantity") or 0),
        order_type=_text(row, "order_type"),
        product=str(row.get("product") or ""),
        price=limit or None,
        state=_text(row, "status"),
        message=str(row.get("status_message") or "")[:MESSAGE_CHARACTERS],
        placed_at=min(times),
        updated_at=max(times),
    )


def _trade(row: Row, directory: Directory, hands: dict[str, str]) -> AccountTrade:
    exchange, symbol, name, expiry = _instrument(row, directory)
    at = _aware(row.get("fill_timestamp") or row["exchange_timestamp"])
    order_id = _text(row, "order_id")
    price = _number(row["average_price"])
    if price <= 0:
        raise ValueError(f"its price is {price:f}")
    return AccountTrade(
        trade_id=_text(row, "trade_id"),
        traded_on=at.astimezone(IST).date(),
        order_id=order_id,
        given_by=hands.get(order_id, UNKNOWN),
        exchange=exchange,
        symbol=symbol,
        instrument=name,
        expiry=expiry,
        quantity=_signed(row),
        price=price,
        product=str(row.get("product") or ""),
        at=at,
        ordered_at=_ordered_at(row, at),
    )


def _placed_by_its_trades(order: AccountOrder, ordered_at: dt.datetime | None) -> AccountOrder:
    """Return the order with the time its executions name: the book's own moves with each state."""
    if ordered_at is None or ordered_at >= order.placed_at:
        return order
    return replace(order, placed_at=ordered_at)


def _ordered_at(row: Row, filled_at: dt.datetime) -> dt.datetime | None:
    """Return when the order came in: in executions the broker gives a time of day only."""
    said = row.get("order_timestamp")
    if not isinstance(said, str):
        return _aware(said) if said else None
    at = dt.datetime.combine(filled_at.date(), dt.time.fromisoformat(said), filled_at.tzinfo)
    # An order of the evening before has a time of day after its execution's.
    return at if at <= filled_at else None


def _instrument(row: Row, directory: Directory) -> tuple[str, str, str, dt.date | None]:
    exchange, symbol = _text(row, "exchange"), _text(row, "tradingsymbol")
    found = directory.by_symbol.get(f"{exchange}:{symbol}")
    return exchange, symbol, found.name if found else "", found.expiry if found else None


def _signed(row: Row) -> Decimal:
    quantity = _number(row["quantity"])
    if quantity <= 0:
        raise ValueError(f"its quantity is {quantity:f}")
    return _side(row) * quantity


def _side(row: Row) -> int:
    sides = {"BUY": 1, "SELL": -1}
    return sides[row["transaction_type"]]


def _number(value: object) -> Decimal:
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"{value} is no number")
    return number.normalize() + 0


def _text(row: Row, name: str) -> str:
    text = str(row[name] or "")
    if not text:
        raise ValueError(f"its {name} is empty")
    return text


def _aware(at: object) -> dt.datetime:
    if isinstance(at, str):
        at = dt.datetime.fromisoformat(at)
    if not isinstance(at, dt.datetime):
        raise TypeError(f"{at!r} is no time")
    return at.replace(tzinfo=IST) if at.tzinfo is None else at
