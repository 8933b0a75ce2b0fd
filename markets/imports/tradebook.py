"""Read the broker's trade book, the executions that its back office exports as CSV or XLSX.

Shares have thirteen columns, derivatives a fourteenth, `expiry_date`; books of 2021 have no
`auction`. The back office writes NSE and a segment where the broker's own calls write NFO, and its
times are Indian without saying so. It knows neither the product nor whose hand an order was. A file
with one bad row is refused whole; rows that are right and not for the desk are named with the
reason. Ids are what tells executions apart, so those that a spreadsheet has spoilt are refused.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from markets.imports import tradebook_files
from markets.imports.bars import BadFile
from markets.imports.tradebook_files import Table
from tradingsite.clock import IST

COLUMNS = (
    *("symbol", "isin", "trade_date", "exchange", "segment", "series", "trade_type", "auction"),
    *("quantity", "price", "trade_id", "order_id", "order_execution_time"),
)
EXPIRY = "expiry_date"
# Of no use here, or not in each year's export.
MAY_LACK = frozenset({"isin", "series", "auction"})
NEEDED = tuple(name for name in COLUMNS if name not in MAY_LACK)
# The back office's exchange and segment, and the broker's own name for the two.
SEGMENTS = {
    ("NSE", "EQ"): "NSE",
    ("BSE", "EQ"): "BSE",
    ("NSE", "FO"): "NFO",
    ("BSE", "FO"): "BFO",
    # As other programs write it that had it from the broker's calls.
    ("NFO", "FO"): "NFO",
    ("NFO", "NFO"): "NFO",
    ("BFO", "FO"): "BFO",
    ("BFO", "BFO"): "BFO",
}
DERIVATIVES = frozenset({"NFO", "BFO"})
SIDES = {"buy": 1, "sell": -1}
AUCTIONS = {"true": True, "false": False}
UNDERLYINGS = ("BANKNIFTY", "NIFTY", "SENSEX")
FIRST_DATE, END_DATE = dt.date(1994, 11, 3), dt.date(2100, 1, 1)
# What the database's columns hold.
LARGEST = Decimal(10) ** 10
PRICE_STEP, QUANTITY_STEP = Decimal("0.0001"), Decimal("0.00000001")
LONGEST = {"symbol": 60, "trade_id": 40, "order_id": 40}
IDS = ("trade_id", "order_id")
# A number keeps fifteen digits in a spreadsheet: the rest of an order's sixteen become 0. Of so
# many orders one in a hundred thousand files has only ids that end so by chance.
DIGITS_KEPT, ORDERS_FOR_PROOF = 15, 5
AS_DOWNLOADED = "import the file as it was downloaded, without opening it in Excel"
_MONTHS = "123456789OND"

Key = tuple[str, dt.date, str, str]


@dataclass(frozen=True, slots=True)
class BookedTrade:
    """One execution of a trade book; its quantity is signed, positive buys."""

    line: int
    trade_id: str
    traded_on: dt.date
    order_id: str
    exchange: str
    """The broker's name, NFO or NSE."""
    symbol: str
    instrument: str
    """The desk's name, empty where the desk has none."""
    expiry: dt.date | None
    quantity: Decimal
    price: Decimal
    is_auction: bool
    """Settled by the exchange for want of delivery, so nobody decided it."""
    at: dt.datetime

    @property
    def key(self) -> Key:
        """Return what names an execution for ever: the exchange's numbers begin anew."""
        return self.exchange, self.traded_on, self.trade_id, self.symbol

    @property
    def lacks_expiry(self) -> bool:
        """Return whether it is a derivative whose contract cannot be told."""
        return self.exchange in DERIVATIVES and self.expiry is None

    @property
    def content(self) -> tuple[object, ...]:
        """Return what two rows of one execution must agree on."""
        return self.quantity, self.price, self.at, self.order_id, self.expiry, self.is_auction


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is left out, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class TradeBook:
    """What a file holds."""

    trades: list[BookedTrade]
    skipped: list[Skipped]


def read_tradebook(
    path: Path, report: Callable[[int], None] = lambda read_bytes: None
) -> TradeBook:
    """Return the executions of a CSV, CSV.gz or XLSX file; raise BadFile for the first bad row.

    `report` is called with the bytes of the file read so far.
    """
    with tradebook_files.opened_tables(path, NEEDED, report) as tables:
        return _read(str(path), tables)


def parse(name: str, lines: Iterator[str]) -> TradeBook:
    """Return the executions of a trade book's lines; raise BadFile naming the file and the line."""
    return _read(name, [tradebook_files.of_lines(name, lines, NEEDED)])


def _read(name: str, tables: Iterable[Table]) -> TradeBook:
    found: dict[Key, BookedTrade] = {}
    skipped: list[Skipped] = []
    for table in tables:
        _check_header(table)
        for row in _rows(table):
            trade = row.trade()
            if trade is None:
                skipped.append(Skipped(row.line, row.elsewhere()))
            elif (first := found.get(trade.key)) is None:
                found[trade.key] = trade
            elif first.content == trade.content:
                skipped.append(Skipped(row.line, f"the same execution as in line {first.line}"))
            else:
                raise BadFile(
                    f"{row.where}: trade {trade.trade_id} of {trade.symbol} on {trade.traded_on} "
                    f"was something else in line {first.line}"
                )
    if not found and not skipped:
        raise BadFile(f"{name} has a header and no rows")
    trades = list(found.values())
    _check_orders(name, trades)
    return TradeBook(trades, skipped)


def _rows(table: Table) -> Iterator[_Row]:
    columns = table.columns
    for line, cells in table.rows:
        where = f"{table.name}, line {line}"
        if table.is_workbook:  # its rows end with their last cell
            cells = [*cells, *[""] * (len(columns) - len(cells))]
        if len(cells) != len(columns):
            raise BadFile(f"{where}: {len(cells)} columns where the header has {len(columns)}")
        named = dict(zip(columns, map(str.strip, cells), strict=True))
        yield _Row(where, line, named, table.is_workbook)


def _check_header(table: Table) -> None:
    columns = [each for each in table.columns if each]
    twice = sorted({each for each in columns if columns.count(each) > 1})
    if twice:
        raise BadFile(f"{table.name}, line {table.line}: the header has {', '.join(twice)} twice")


def _check_orders(name: str, trades: Iterable[BookedTrade]) -> None:
    """Raise BadFile where all orders' ids end in the 0 of what a spreadsheet forgot."""
    ids = {trade.order_id for trade in trades if len(trade.order_id) > DIGITS_KEPT}
    if len(ids) >= ORDERS_FOR_PROOF and all(not each[DIGITS_KEPT:].strip("0") for each in ids):
        raise BadFile(
            f"{name}: each of {len(ids)} order ids ends in 0 after {DIGITS_KEPT} digits, as Excel "
            f"leaves long numbers; {AS_DOWNLOADED}"
        )


def desk_name(symbol: str, expiry: dt.date | None) -> str:
    """Return the desk's name of a broker's symbol whose expiry is known, "" where it has none.

    Expired contracts are on no list any more. With the expiry given the symbol leaves no doubt:
    only its underlying's own form for that very date is taken.
    """
    underlying = next((each for each in UNDERLYINGS if symbol.startswith(each)), None)
    if underlying is None or expiry is None:
        return ""
    rest = symbol.removeprefix(underlying)
    monthly = f"{expiry:%y%b}".upper()
    if rest == f"{monthly}FUT":
        return f"{underlying} {expiry.isoformat()} FUT"
    for when in (monthly, f"{expiry:%y}{_MONTHS[expiry.month - 1]}{expiry:%d}"):
        option = re.fullmatch(rf"{when}(\d+(?:\.\d+)?)(CE|PE)", rest)
        if option:
            return f"{underlying} {expiry.isoformat()} {option[1]} {option[2]}"
    return ""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line's cells by column, to be read with every complaint naming the line."""

    where: str
    line: int
    cells: dict[str, str]
    is_workbook: bool

    def trade(self) -> BookedTrade | None:
        """Return the execution, None for one of another segment; raise BadFile."""
        date = self._date("trade_date")
        side = self._choice("trade_type", SIDES)
        quantity = self._number("quantity", QUANTITY_STEP)
        price = self._number("price", PRICE_STEP)
        at = self._time("order_execution_time", date)
        texts = {name: self._text(name) for name in (*LONGEST, "exchange", "segment")}
        for name in IDS:
            self._check_id(name, texts[name])
        is_auction = "auction" in self.cells and bool(self._choice("auction", AUCTIONS))
        exchange = SEGMENTS.get((texts["exchange"].upper(), texts["segment"].upper()))
        expiry = self._expiry(date)
        if exchange is None:
            return None
        symbol = texts["symbol"]
        return BookedTrade(
            line=self.line,
            trade_id=texts["trade_id"],
            traded_on=date,
            order_id=texts["order_id"],
            exchange=exchange,
            symbol=symbol,
            instrument=desk_name(symbol, expiry) if exchange in DERIVATIVES else "",
            expiry=expiry,
            quantity=side * quantity,
            price=price,
            is_auction=is_auction,
            at=at,
        )

    def elsewhere(self) -> str:
        """Return why a row of another segment is left out."""
        place = f"{self.cells['exchange']} {self.cells['segment']}"
        return f"{place} is none of the segments that the desk keeps"

    def _text(self, name: str) -> str:
        text = self.cells[name]
        if not text:
            raise BadFile(f"{self.where}: {name} is empty")
        if len(text) > LONGEST.get(name, len(text)):
            raise BadFile(f"{self.where}: {name} {text[:20]!r}... is too long to be one")
        return text

    def _check_id(self, name: str, text: str) -> None:
        if re.fullmatch(r"\d[\d.,]*[eE]\+?\d+", text):
            raise BadFile(
                f"{self.where}: {name} {text} was made a number by Excel, which rounds it, so that "
                f"several become one; {AS_DOWNLOADED}"
            )
        if not re.fullmatch(r"[0-9]+", text):
            raise BadFile(
                f"{self.where}: {name} {text!r} is no id, which are digits and nothing else; if "
                f"Excel has written this file, {AS_DOWNLOADED}"
            )

    def _choice(self, name: str, choices: Mapping[str, int]) -> int:
        found = choices.get(self.cells[name].lower())
        if found is None:
            raise BadFile(
                f"{self.where}: {name} {self.cells[name]!r} is neither {' nor '.join(choices)}"
            )
        return found

    def _number(self, name: str, step: Decimal) -> Decimal:
        text = self.cells[name]
        try:
            value = Decimal(text)
        except InvalidOperation as error:
            raise BadFile(f"{self.where}: {name} {text!r} is not a number") from error
        if not value.is_finite():
            raise BadFile(f"{self.where}: {name} is {text}, not a number")
        if value >= LARGEST:
            raise BadFile(f"{self.where}: {name} {text} is too large to be one")
        value = value.quantize(step)
        if value <= 0:
            raise BadFile(f"{self.where}: {name} {text} is not positive")
        return value

    def _date(self, name: str) -> dt.date:
        text = self.cells[name]
        if self.is_workbook and (at := tradebook_files.serial_time(text)):
            text = at.date().isoformat()
        try:
            # Python would also take 20260601 and weeks.
            date = dt.date.fromisoformat(text if text[4:8:3] == "--" else "")
        except ValueError as error:
            why = f"{self.where}: {name} {text!r} is not a date like 2026-06-01"
            if re.fullmatch(r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{5}", text):
                why += f": as Excel writes dates; {AS_DOWNLOADED}"
            raise BadFile(why) from error
        if not FIRST_DATE <= date < END_DATE:
            raise BadFile(f"{self.where}: {name} {text} is not between 1994 and 2100")
        return date

    def _time(self, name: str, date: dt.date) -> dt.datetime:
        text = self.cells[name]
        if self.is_workbook and (found := tradebook_files.serial_time(text)):
            text = found.isoformat()
        try:
            at = dt.datetime.fromisoformat(text)
        except ValueError as error:
            raise BadFile(
                f"{self.where}: {name} {text!r} is not a time like 2026-06-01T10:15:00"
            ) from error
        if at.tzinfo is not None:
            raise BadFile(
                f"{self.where}: {name} {text} names a zone, which a trade book never does"
            )
        if at.date() != date:
            raise BadFile(f"{self.where}: {name} {text} is not on its trade_date, {date}")
        return at.replace(tzinfo=IST)

    def _expiry(self, date: dt.date) -> dt.date | None:
        if not self.cells.get(EXPIRY):
            return None
        expiry = self._date(EXPIRY)
        if expiry < date:
            raise BadFile(f"{self.where}: {EXPIRY} {expiry} is before its trade_date, {date}")
        return expiry
