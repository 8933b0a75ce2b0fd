"""Read bars from a CSV file, strictly: every bad row is named by file, line and reason.

Known headers are our own (`ts` or `date`, then open, high, low, close and perhaps volume), Kite's
(`date`, ...) and Binance's (`open_time`, milliseconds). Nothing is guessed: a naive timestamp
needs a zone to be named, and a file with one bad row is refused whole.
"""

import csv
import datetime as dt
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO
from zoneinfo import ZoneInfo

import numpy as np

from markets import bar_rule, timeframes
from markets.bars import BadBars, Bars, FloatArray, IntArray
from markets.calendar import Calendar, ist_instant, trading_date

TIME_NAMES = ("ts", "date", "datetime", "timestamp", "open_time", "opentime", "time")
PRICE_NAMES = ("open", "high", "low", "close")
VOLUME_NAMES = ("volume", "vol")
# No time in seconds is this large: the number counts milli-, micro- or nanoseconds.
NOT_SECONDS_FROM = 100_000_000_000
EARLIEST = int(dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp())
LATEST = int(dt.datetime(2100, 1, 1, tzinfo=dt.UTC).timestamp())
# What the database's columns hold.
LARGEST = {"volume": 1e16} | dict.fromkeys(PRICE_NAMES, 1e10)
REPORT_EVERY_ROWS = 2_000
USUAL_OPEN = dt.time(9, 15)
USUAL_SECONDS = 22_500


class BadFile(ValueError):
    """A file that is refused whole; the message names the file, the line and the reason."""


def read_bars(
    path: Path,
    market: str,
    timeframe: str,
    calendar: Calendar,
    zone: ZoneInfo | None = None,
    report: Callable[[int], None] = lambda read_bytes: None,
    *,
    leaves_out: bool = False,
    any_day: bool = False,
) -> Bars:
    """Return the bars of a CSV or CSV.gz file; raise BadFile for the first bad row.

    Where it `leaves_out`, bars that the calendar does not give are left out and not refused; with
    `any_day` they are taken, as those of an asset that trades by another calendar.
    `report` is called with the bytes of the file read so far.
    """
    rows: list[tuple[float, ...]] = []
    lines: list[int] = []
    with opened(path) as (text, raw):
        reader = csv.reader(text)
        header = _header(path, reader)
        for cells in reader:
            if not cells:
                continue
            where = f"{path}, line {reader.line_num}"
            row = _row(where, cells, header, (market, timeframe, zone))
            if rows:
                check_order(where, cells[header.time], rows[-1][0], row[0])
            rows.append(row)
            lines.append(reader.line_num)
            if len(rows) % REPORT_EVERY_ROWS == 0:
                report(raw.tell())
    if not rows:
        raise BadFile(f"{path} has a header and no rows")
    table = np.array(rows, dtype=np.float64)
    return _bars(path, lines, table, timeframe, calendar, leaves_out=leaves_out, any_day=any_day)


@dataclass(frozen=True, slots=True)
class _Header:
    time: int
    prices: tuple[int, ...]
    volume: int | None
    columns: int


@contextmanager
def opened(path: Path) -> Iterator[tuple[TextIO, IO[bytes]]]:
    """Open a CSV or CSV.gz file as text, and as the bytes beneath; raise BadFile for neither."""
    try:
        raw = path.open("rb")
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file") from error
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    with raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if packed:
                with gzip.open(raw, "rt", encoding="utf-8-sig", newline="") as text:
                    yield text, raw
            else:
                yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), raw
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadFile(f"{path}: the gzip file is cut off or damaged ({error})") from error
        except UnicodeDecodeError as error:
            raise BadFile(f"{path}: not UTF-8 text at byte {error.start}") from error
        except csv.Error as error:
            raise BadFile(f"{path}: not a CSV file ({error})") from error


def _header(path: Path, reader: Iterator[list[str]]) -> _Header:
    names = [name.strip().lower() for name in next(reader, [])]
    if not names:
        raise BadFile(f"{path} is empty, or its first line is")
    time = next((names.index(name) for name in TIME_NAMES if name in names), -1)
    missing = [name for name in PRICE_NAMES if name not in names]
    if time < 0 or missing:
        lacks = ", ".join(([] if time >= 0 else ["a time column"]) + missing)
        raise BadFile(
            f"{path}, line 1: the header {','.join(names)[:120]!r} lacks {lacks}; wanted "
            "ts,open,high,low,close[,volume], date,... or open_time,..."
        )
    volume = next((names.index(name) for name in VOLUME_NAMES if name in names), None)
    return _Header(time, tuple(map(names.index, PRICE_NAMES)), volume, len(names))


def _row(
    where: str, cells: list[str], header: _Header, kind: tuple[str, str, ZoneInfo | None]
) -> tuple[float, ...]:
    """Return the open's epoch seconds, the four prices and the volume of one line."""
    if len(cells) != header.columns:
        raise BadFile(f"{where}: {len(cells)} columns where the header has {header.columns}")
    at = read_time(where, cells[header.time], *kind)
    prices = _prices(where, [cells[column] for column in header.prices])
    volume = 0.0 if header.volume is None else read_number(where, "volume", cells[header.volume])
    if volume < 0:
        raise BadFile(f"{where}: volume {volume:g} is negative")
    return (at, *prices, volume)


def read_time(where: str, text: str, market: str, timeframe: str, zone: ZoneInfo | None) -> int:
    """Return the epoch seconds that a cell says, of a date or an instant; raise BadFile."""
    text = text.strip()
    if text.isdecimal() and len(text) > 8:
        at = int(text)
        while at >= NOT_SECONDS_FROM:
            at //= 1000
    else:
        at = _parsed(where, text, market, timeframe, zone)
    if not EARLIEST <= at < LATEST:
        raise BadFile(f"{where}: {text} is not between 1990 and 2100")
    return at


def _parsed(where: str, text: str, market: str, timeframe: str, zone: ZoneInfo | None) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadFile(f"{where}: {text!r} is not a time like 2024-06-03") from error
    if timeframe == "1d" and market == "nifty" and moment.time() == dt.time(0):
        # A daily bar is named by its date; its session says when it opened.
        return ist_instant(moment.date(), dt.time(0))
    if moment.tzinfo is None:
        if zone is None:
            raise BadFile(
                f"{where}: {text} has no time zone; say which one it is in, "
                "as in --tz Asia/Kolkata or --tz UTC"
            )
        moment = moment.replace(tzinfo=zone)
    return int(moment.timestamp())


def _prices(where: str, texts: list[str]) -> list[float]:
    prices = [read_number(where, name, text) for name, text in zip(PRICE_NAMES, texts, strict=True)]
    opened, high, low, closed = prices
    for name, price in zip(PRICE_NAMES, prices, strict=True):
        if price <= 0:
            raise BadFile(f"{where}: {name} {price:g} is not positive")
    if high < low:
        raise BadFile(f"{where}: high {high:g} is below low {low:g}")
    if high < max(opened, closed) or low > min(opened, closed):
        raise BadFile(
            f"{where}: open {opened:g} or close {closed:g} is outside low {low:g} to high {high:g}"
        )
    return prices


def read_number(where: str, name: str, text: str) -> float:
    """Return the finite number that a cell says, in the bounds of what it is; raise BadFile."""
    try:
        value = float(text)
    except ValueError as error:
        raise BadFile(f"{where}: {name} {text!r} is not a number") from error
    if not math.isfinite(value):
        raise BadFile(f"{where}: {name} is {text.strip()}, not a number")
    if abs(value) >= LARGEST.get(name, math.inf):
        raise BadFile(f"{where}: {name} {value:g} is too large to be one")
    return value


def _bars(
    path: Path,
    lines: list[int],
    table: FloatArray,
    timeframe: str,
    calendar: Calendar,
    *,
    leaves_out: bool,
    any_day: bool,
) -> Bars:
    """Return the bars of a table of rows as `_row` makes them, read from these lines."""
    opens = table[:, 0].astype(np.int64)
    _check_spacing(path, timeframe, opens)
    if timeframe == "1d":
        opens, closes = named_by_session(opens, calendar)
    else:
        closes = calendar.closes_at(timeframe, opens)
    bars = Bars(opens, closes, *(table[:, column].copy() for column in range(1, 6)))
    if leaves_out:
        kept = bar_rule.is_lawful(opens, timeframe, calendar)
        bars, lines = bars.where(kept), np.array(lines)[kept].tolist()
    try:
        if any_day:
            bars.validate()
        else:
            bar_rule.require(bars, timeframe, calendar)
    except BadBars as error:
        where = "" if error.row is None else f", line {lines[error.row]}"
        can_leave = isinstance(error, bar_rule.UnlawfulBars) and error.are_few
        hint = "; --leave-out imports the rest without such rows" if can_leave else ""
        raise BadFile(f"{path}{where}: {error.said}{hint}") from error
    if not len(bars):
        raise BadFile(f"{path}: none of its {len(opens):,} bars is one that the calendar gives")
    return bars


def check_order(where: str, text: str, before: float, at: float) -> None:
    """Raise BadFile unless a line comes later than the one above it."""
    if at <= before:
        problem = "is there twice" if at == before else "is before the line above it"
        raise BadFile(f"{where}: {text} {problem}; sort the file by time and drop the duplicates")


def _check_spacing(path: Path, timeframe: str, opens: IntArray) -> None:
    if len(opens) < 3:
        return
    usual = int(np.median(np.diff(opens)))
    if usual != timeframes.seconds(timeframe):
        raise BadFile(
            f"{path}: its bars are usually {usual // 60} minutes apart, so they are not "
            f"{timeframe} bars"
        )


def named_by_session(opens: IntArray, calendar: Calendar) -> tuple[IntArray, IntArray]:
    """Return opens and closes of daily bars given by their dates; a closed day gets usual hours."""
    spans = []
    for at in opens.tolist():
        date = trading_date(at)
        session = calendar.session_on(date)
        opened = session.opens_at if session else ist_instant(date, USUAL_OPEN)
        spans.append((opened, session.closes_at if session else opened + USUAL_SECONDS))
    columns = np.array(spans, dtype=np.int64)
    return columns[:, 0].copy(), columns[:, 1].copy()
