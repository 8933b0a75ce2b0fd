"""Find the trade book's table in whatever file it came, and name the files that hold none.

The back office gives CSV, and XLSX whose table begins in column B below some lines about the
account; people save either from a spreadsheet, and take a profit statement for a trade book. So the
header is looked for in the first lines, its names are compared without case and spaces, and a file
that is something else is refused by its name. XLSX is read by openpyxl.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from markets.imports.bars import BadFile, opened

HEADER_WITHIN = 60
"""Rows, in which a header must be found."""
LARGEST_BYTES = 200 << 20
"""Of a workbook, unpacked."""
REPORT_EVERY_ROWS = 500
# A spreadsheet keeps fifteen digits of a number.
LONGEST_NUMBER = 10**15
EXCEL_EPOCH = dt.datetime(1899, 12, 30)  # noqa: DTZ001 - days without a zone, as its cells have
SERIALS = (20_000, 80_000)
HOW = "Download the trade book itself: Console, Reports, Tradebook, CSV"

Row = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A trade book's header, its names in the form `trade_date`, and the rows below it."""

    name: str
    """The file's, and the sheet's, for messages."""
    line: int
    columns: list[str]
    rows: Iterator[Row]
    is_workbook: bool


# By the columns that no other export has.
OTHERS: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(names.split()), what)
    for names, what in (
        ("symbol entry_date exit_date profit", "Zerodha's tax P&L, in which entries have exits"),
        ("realized_p_l buy_value sell_value", "Zerodha's P&L statement, which has no executions"),
        ("contract_description wap_per_unit", "a contract note, one average a side and symbol"),
        ("order_no trade_no trade_time", "the annexure of a contract note"),
        ("particulars voucher_type debit credit", "Zerodha's ledger, which is of money"),
        ("product instrument qty avg ltp p_l", "the screen of positions at Kite"),
        ("instrument qty avg_cost ltp", "the screen of holdings at Kite"),
        ("time type instrument product qty status", "the screen of orders at Kite"),
        ("buy_sell quantity_lot trade_price trade_value", "Dhan's trade history, without ids"),
        ("company scrip_code trade_num trade_time side", "Upstox's trade report"),
        ("scrip_contract buy_price sell_price trade_id", "Angel One's trades and charges"),
        ("exchange_order_id execution_date_and_time", "Groww's order history, without prices"),
        ("open high low close", "a file of bars, for `manage.py importbars`"),
    )
)
PREAMBLES = (
    (re.compile(r"^P&L Statement for", re.IGNORECASE), "Zerodha's P&L statement"),
    (re.compile(r"^Tradewise Exits|^Tax P&?L", re.IGNORECASE), "Zerodha's tax P&L"),
    (re.compile(r"^Contract Note", re.IGNORECASE), "a contract note"),
)
MAGIC = (
    (b"%PDF", "a PDF, as contract notes are"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)"),
    (b"<", "a page or XML, as some brokers' .xls are"),
)


@contextmanager
def opened_tables(
    path: Path, wanted: Sequence[str], report: Callable[[int], None] = lambda read_bytes: None
) -> Iterator[Iterable[Table]]:
    """Give the trade book's tables of a CSV, CSV.gz or XLSX file; raise BadFile where none is.

    `wanted` are the columns by which a table is known. `report` is called with the bytes read.
    """
    try:
        with path.open("rb") as file:
            first = file.read(8)
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file") from error
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    if first.startswith(b"PK\x03\x04"):
        with _naming_damage(path):
            yield _of_workbook(path, wanted)
        return
    for magic, what in MAGIC:
        if first.lstrip(b"\xef\xbb\xbf \r\n").startswith(magic):
            raise BadFile(f"{path} is {what}, and no trade book. {HOW}")
    with opened(path) as (text, raw):

        def counted(rows: Iterator[Row]) -> Iterator[Row]:
            for number, row in enumerate(rows, start=1):
                if number % REPORT_EVERY_ROWS == 0:
                    report(raw.tell())
                yield row

        yield [of_lines(str(path), text, wanted, counted)]


def of_lines(
    name: str,
    lines: Iterator[str],
    wanted: Sequence[str],
    counted: Callable[[Iterator[Row]], Iterator[Row]] = lambda rows: rows,
) -> Table:
    """Return the table of a CSV file's lines; raise BadFile where none is."""
    reader = csv.reader(lines)
    rows: Iterator[Row] = ((reader.line_num, cells) for cells in reader if any(cells))
    found = _header(rows, wanted)
    if isinstance(found, _Header):
        return Table(name, found.line, found.columns, counted(rows), is_workbook=False)
    raise _refusal(name, found, wanted)


@dataclass(frozen=True, slots=True)
class _Header:
    line: int
    columns: list[str]


def _header(rows: Iterator[Row], wanted: Sequence[str]) -> _Header | list[Row]:
    """Return the first row that is a trade book's header, else the rows that were looked at."""
    seen = []
    for line, cells in islice(rows, HEADER_WITHIN):
        columns = [column_name(cell) for cell in cells]
        if set(wanted) <= set(columns):
            return _Header(line, columns)
        seen.append((line, cells))
    return seen


def column_name(cell: str) -> str:
    """Return a column's name as the CSV export has it: "Trade Date" is trade_date."""
    return re.sub(r"[^a-z0-9]+", "_", cell.strip().lower()).strip("_")


def _refusal(name: str, seen: Sequence[Row], wanted: Sequence[str]) -> BadFile:
    """Return why rows hold no trade book: what they are instead, or what is nearest lacks."""
    if not seen:
        return BadFile(f"{name} is empty")
    for line, cells in seen:
        names = frozenset(map(column_name, cells))
        for known, what in OTHERS:
            if known <= names:
                return BadFile(f"{name}, line {line}: this is {what}, and no trade book. {HOW}")
        for words, what in PREAMBLES:
            if any(words.match(cell.strip()) for cell in cells):
                return BadFile(f"{name}, line {line}: this is {what}, and no trade book. {HOW}")
    line, cells = max(seen, key=lambda row: len({*map(column_name, row[1])} & {*wanted}))
    names = frozenset(map(column_name, cells))
    lacks = ", ".join(each for each in wanted if each not in names)
    said = ",".join(cell.strip() for cell in cells if cell.strip())[:120]
    return BadFile(
        f"{name}, line {line}: the header {said!r} lacks {lacks}; wanted is Zerodha's trade book. "
        f"{HOW}"
    )


# --- Workbooks -----------------------------------------------------------------------------------


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except BadFile:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, SyntaxError, ValueError) as error:
        raise BadFile(f"{path}: the workbook is cut off or damaged ({error})") from error


def _of_workbook(path: Path, wanted: Sequence[str]) -> Iterator[Table]:
    import openpyxl

    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
        size = sum(each.file_size for each in packed.infolist())
    if "xl/workbook.xml" not in names:
        raise BadFile(f"{path} is a zip file and no workbook: unpack it first")
    if size > LARGEST_BYTES:
        raise BadFile(f"{path} unpacks to {size >> 20} MB, too much for a trade book")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    others, found = [], 0
    try:
        for sheet in book.worksheets:
            # Some exports say that they are one cell, A1, which would be believed.
            sheet.reset_dimensions()
            name = f"{path}, sheet {sheet.title!r}"
            rows = _rows(sheet)
            header = _header(rows, wanted)
            if isinstance(header, _Header):
                found += 1
                yield Table(name, header.line, header.columns, rows, is_workbook=True)
            elif header:
                others.append(_refusal(name, header, wanted))
    finally:
        book.close()
    if not found:
        raise others[0] if others else BadFile(f"{path} is empty")


def _rows(sheet: Any) -> Iterator[Row]:
    for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        texts = [_text(cell) for cell in cells]
        if any(texts):
            yield line, texts


def _text(cell: Any) -> str:
    """Return a cell as the CSV export would have it."""
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).lower()
        case dt.datetime():
            # A workbook's times are parts of a day, and off by some microseconds.
            at = (cell + dt.timedelta(milliseconds=500)).replace(microsecond=0)
            return at.date().isoformat() if at.time() == dt.time() else at.isoformat()
        case int() | float() if math.isfinite(cell) and abs(cell) >= LONGEST_NUMBER:
            return f"{cell:.2E}"  # what is behind the fifteenth digit is lost
        case float() if cell.is_integer():
            return str(int(cell))
    return str(cell).strip()


def serial_time(text: str) -> dt.datetime | None:
    """Return the time of a workbook's number of days, None where the text is no such number."""
    try:
        days = float(text)
    except ValueError:
        return None
    if not SERIALS[0] <= days < SERIALS[1]:
        return None
    return EXCEL_EPOCH + dt.timedelta(seconds=round(days * 86_400))
