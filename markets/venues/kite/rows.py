"""The broker's rows as the desk's: names, signs, aware times, whole numbers of units.

The client gives orders, trades and quotes naive Indian times, and candles aware ones. A day's
candle is named by its midnight.
"""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from markets.domain import timeframes
from markets.domain.bars import BadBars, Bars
from markets.domain.calendar import Calendar
from markets.venues.base import (
    BookOrder,
    Holding,
    Margins,
    MarketQuote,
    NotListed,
    VenueInstrument,
    VenueTrade,
)
from markets.venues.odd_rows import OddRows
from tradingsite.clock import IST, Epoch
from tradingsite.errors import Degraded

Row = Mapping[str, Any]

# The broker's name of an index, and the desk's.
INDICES = {
    "NSE:NIFTY 50": "NIFTY",
    "NSE:NIFTY BANK": "BANKNIFTY",
    "NSE:INDIA VIX": "INDIA VIX",
    "BSE:SENSEX": "SENSEX",
}
UNDERLYINGS = frozenset({"NIFTY", "BANKNIFTY", "SENSEX"})
CONTRACT_KINDS = frozenset({"FUT", "CE", "PE"})
STATES = {"COMPLETE": "filled", "CANCELLED": "cancelled", "REJECTED": "rejected"}
ORDER_TIMES = ("order_timestamp", "exchange_timestamp", "exchange_update_timestamp")
# "T", a version, and 16 characters of base32: how the desk tags its own orders.
OUR_TAG = re.compile(r"T\d[A-Z2-7]{16}")


@dataclass(frozen=True, slots=True)
class Directory:
    """Find instruments of the day's list, by the desk's names and by the broker's."""

    by_name: dict[str, VenueInstrument]
    by_symbol: dict[str, VenueInstrument]

    @classmethod
    def of(cls, rows: Iterable[VenueInstrument]) -> Directory:
        """Return the directory of a list."""
        listed = list(rows)
        return cls({row.name: row for row in listed}, {row.symbol: row for row in listed})

    def find(self, name: str) -> VenueInstrument:
        """Return an instrument by its name; raise NotListed."""
        found = self.by_name.get(name)
        if found is None:
            raise NotListed(f"the broker's list of the day has no {name!r}")
        return found

    def name_of(self, row: Row) -> str:
        """Return the desk's name of a row's instrument; what is not listed keeps its symbol."""
        symbol = symbol_of(row)
        found = self.by_symbol.get(symbol)
        return found.name if found else symbol

    def symbol_of(self, name: str) -> str:
        """Return the broker's name; a name of the form of one stands for itself."""
        if ":" in name and name not in self.by_name:
            return name
        return self.find(name).symbol


def symbol_of(row: Row) -> str:
    """Return the name by which the broker's calls take a row's instrument."""
    return f"{row['exchange']}:{row['tradingsymbol']}"


def listed(dump: bytes) -> Iterator[VenueInstrument]:
    """Give the instruments of the broker's list, a CSV text, that the desk deals in."""
    try:
        for row in csv.DictReader(dump.decode().splitlines()):
            found = _listed(row)
            if found is not None:
                yield found
    except (KeyError, ValueError, ArithmeticError, AttributeError) as error:
        raise Degraded(f"the broker's list of instruments cannot be read: {error!r}") from error


def _listed(row: Row) -> VenueInstrument | None:
    kind, symbol = str(row["instrument_type"]), symbol_of(row)
    if row["segment"] == "INDICES":
        name = INDICES.get(symbol)
        return _instrument(row, name, "INDEX", name, None) if name else None
    underlying = str(row["name"])
    if kind not in CONTRACT_KINDS or underlying not in UNDERLYINGS:
        return None
    expiry = dt.date.fromisoformat(row["expiry"])
    name = f"{underlying} {expiry.isoformat()} {kind}"
    if kind != "FUT":
        name = f"{underlying} {expiry.isoformat()} {number_of(row['strike']):f} {kind}"
    return _instrument(row, name, kind, underlying, expiry)


def _instrument(
    row: Row, name: str, kind: str, underlying: str, expiry: dt.date | None
) -> VenueInstrument:
    return VenueInstrument(
        name=name,
        symbol=symbol_of(row),
        token=int(row["instrument_token"]),
        kind=kind,
        underlying=underlying,
        expiry=expiry,
        strike=number_of(row["strike"]),
        lot_size=number_of(row["lot_size"]),
        tick_size=number_of(row["tick_size"]),
    )


def order(row: Row, directory: Directory) -> BookOrder:
    """Return an order of the book; what is neither filled, cancelled nor rejected is open."""
    side = _side(row)
    return BookOrder(
        tag=str(row.get("tag") or ""),
        instrument=directory.name_of(row),
        quantity=side * number_of(row["quantity"]),
        state=STATES.get(str(row["status"]), "open"),
        accepted_at=_time(
            row, "order_timestamp", "exchange_timestamp", "exchange_update_timestamp"
        ),
        message=str(row.get("status_message") or ""),
        filled_quantity=side * number_of(row["filled_quantity"]),
        venue_id=str(row["order_id"]),
    )


def trade(
    row: Row, directory: Directory, tags: Mapping[str, str], forced: Collection[str] = ()
) -> VenueTrade:
    """Return an execution; its tag is that of its order, by the order's id, and so is its hand."""
    at = _time(row, "fill_timestamp", "exchange_timestamp")
    quantity, price = number_of(row["quantity"]), number_of(row["average_price"])
    if quantity <= 0 or price <= 0:
        raise ValueError(f"{quantity:f} at {price:f} is no execution")
    return VenueTrade(
        trade_id=venue_trade_id(at.date(), row["exchange"], row["trade_id"]),
        tag=tags.get(str(row["order_id"]), ""),
        instrument=directory.name_of(row),
        quantity=_side(row) * quantity,
        price=price,
        at=at,
        by_venue=str(row["order_id"]) in forced,
        product=str(row.get("product") or ""),
    )


def venue_trade_id(date: dt.date, exchange: str, number: object) -> str:
    """Return an execution's id as the ledger keeps it: the exchange's numbers begin anew."""
    return f"kite-{date:%y%m%d}-{exchange}-{number}"


def holding(row: Row, directory: Directory) -> Holding:
    """Return a position of one product; its price is the average of what is held."""
    average = number_of(row.get("average_price") or 0)
    return Holding(
        instrument=directory.name_of(row),
        quantity=number_of(row["quantity"]) * number_of(row.get("multiplier") or 1),
        product=str(row.get("product") or ""),
        average_price=average or None,
    )


def may_be_future(row: Row) -> bool:
    """Return whether a row that cannot be read may be of a contract that bots trade."""
    symbol = str(row.get("tradingsymbol") or "")
    return not symbol or symbol.endswith("FUT")


def quote(name: str, row: Row) -> MarketQuote:
    """Return a quote; indices have no depth, no volume and no open interest."""
    depth = row.get("depth") or {}
    return MarketQuote(
        instrument=name,
        last=number_of(row["last_price"]),
        bid=_best(depth.get("buy")),
        ask=_best(depth.get("sell")),
        volume=number_of(row.get("volume") or 0),
        interest=number_of(row.get("oi") or 0),
        at=_time(row, "timestamp", "last_trade_time"),
    )


def margins(row: Row) -> Margins:
    """Return what is left and what is used of the equity segment, where derivatives are too."""
    return Margins(
        currency="INR",
        available=number_of(row["net"]),
        used=number_of(row["utilised"]["debits"]),
    )


def bars(
    rows: Sequence[Row],
    timeframe: str,
    seconds: int,
    calendar: Calendar,
    start: Epoch,
    end: Epoch,
    now: float,
    odd: OddRows,
) -> Bars:
    """Return the candles that open in [start, end) and have closed by now.

    Candles outside a session are left out: the exchange's test sessions leave some behind. One
    that cannot be read is a gap.
    """

    def read(row: Row) -> tuple[float, ...] | None:
        opens_at = int(row["date"].timestamp())
        is_day = seconds >= 86_400
        session = (
            calendar.session_on(row["date"].astimezone(IST).date())
            if is_day
            else calendar.session_at(Epoch(opens_at))
        )
        if session is None:
            return None
        opens_at = session.opens_at if is_day else opens_at
        closes_at = min(opens_at + seconds, session.closes_at)
        if timeframe in timeframes.SECONDS:
            closes_at = int(calendar.closes_at(timeframe, np.array([opens_at], dtype=np.int64))[0])
        if not (start <= opens_at < end and closes_at <= now):
            return None
        prices = (float(row[name]) for name in ("open", "high", "low", "close", "volume"))
        return opens_at, closes_at, *prices

    found = odd.read("candle", rows, read, lambda row: row["date"])
    return _as_bars([each for each in found if each is not None])


def _as_bars(columns: list[tuple[float, ...]]) -> Bars:
    """Return candles as bars; raise Degraded where they contradict each other."""
    if not columns:
        return Bars.empty()
    table = np.array(columns, dtype=np.float64).T
    found = Bars(table[0].astype(np.int64), table[1].astype(np.int64), *table[2:])
    try:
        found.validate()
    except BadBars as error:
        raise Degraded(f"the broker's candles cannot be used: {error}") from error
    return found


def _best(levels: Sequence[Row] | None) -> Decimal:
    return number_of(levels[0]["price"]) if levels else Decimal(0)


def side_of(quantity: Decimal) -> str:
    """Return the broker's word for the side of a signed quantity."""
    return "BUY" if quantity > 0 else "SELL"


def _side(row: Row) -> int:
    return {"BUY": 1, "SELL": -1}[row["transaction_type"]]


def number_of(value: Any) -> Decimal:
    """Return a number of the broker's JSON as written there, not as the nearest binary one."""
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"{value} is no number")
    return number.normalize() + 0


def _time(row: Row, *names: str) -> dt.datetime:
    """Return the first time of a row that is there: not every row has every one."""
    for name in names:
        if row.get(name):
            return _aware(row[name])
    raise ValueError(f"it has no time: {', '.join(names)}")


def _aware(at: Any) -> dt.datetime:
    if isinstance(at, str):
        at = dt.datetime.fromisoformat(at)
    found: dt.datetime = at.replace(tzinfo=IST) if at.tzinfo is None else at
    return found
