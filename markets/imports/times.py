"""Cells to times, a column at a time: dates and clocks as they are written, epochs of any unit.

Nothing is guessed from one row. A column's cells are grouped by their shape (which characters are
digits, which letters), and each group is read at once. A date of which day and month could change
places is read only when the order is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from markets.domain.bars import BoolArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

ByteMatrix = npt.NDArray[np.uint8]

DAY_SECONDS = 86_400
# No time in seconds is this large: the number counts milli-, micro- or nanoseconds.
NOT_SECONDS_FROM = 100_000_000_000
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MOST_SHAPES = 64
_NO_DAY = -(10**6)
_NO_TIME = "is not a time like 2024-06-03 09:15"

_DATE = (
    r"(?:(?P<y>9999)(?P<s>[-/.])(?P<m>99?)(?P=s)(?P<d>99?)"
    r"|(?P<y2>9999)(?P<m2>99)(?P<d2>99)"
    r"|(?P<a>99?)(?P<s2>[-/.])(?P<b>99?)(?P=s2)(?P<y3>9999|99)"
    r"|(?P<d4>99?)[- /](?P<n4>a{3,9})[- /,]+(?P<y4>9999|99)"
    r"|(?P<n5>a{3,9})[ -](?P<d5>99?),? ?(?P<y5>9999))"
)
_CLOCK = r"(?P<h>99?)(?::(?P<i>99)(?::(?P<sec>99)(?:\.9+)?)?)?(?:[ -]?(?P<half>aa))?"
_COMPACT = r"(?P<h2>99)(?P<i2>99)(?P<sec2>99)?"
_ZONE = r"(?: ?(?P<utc>a)| ?(?P<sign>[-+])(?P<zh>99):?(?P<zm>99))?"
_LAYOUT = re.compile(rf"{_DATE}(?:(?P<sep> *[ a] *){_CLOCK}|{_COMPACT})?{_ZONE}")
_CLOCK_LAYOUT = re.compile(rf"(?:{_CLOCK}|{_COMPACT})")


class BadTime(ValueError):
    """A cell that is no time; `row` is its place, counted from 0."""

    def __init__(self, row: int, reason: str) -> None:
        """Take the row and what is wrong with its cell."""
        self.row, self.reason = row, reason
        super().__init__(reason)


@dataclass(slots=True)
class Times:
    """Hold the times of a column: epoch seconds, or seconds of a clock whose zone is unknown."""

    at: IntArray
    is_naive: BoolArray
    is_date: BoolArray
    """Whether a cell holds a date alone."""


@dataclass(slots=True)
class DateOrder:
    """Find out over a whole file which of two numbers of a date is the day."""

    largest_first: int = 0
    largest_second: int = 0

    def observe(self, cells: pa.StringArray) -> None:
        """Take the dates of a column into account."""
        for shape, _, matrix in _shapes(cells):
            found = _LAYOUT.fullmatch(shape)
            if found is None or found["a"] is None:
                continue
            self.largest_first = max(self.largest_first, int(_number(matrix, found, "a").max()))
            self.largest_second = max(self.largest_second, int(_number(matrix, found, "b").max()))

    def order(self) -> str | None:
        """Return dmy or mdy, None where the dates can be read both ways or neither."""
        if (self.largest_first > 12) == (self.largest_second > 12):
            return None
        return "dmy" if self.largest_first > 12 else "mdy"


def is_ambiguous(text: str) -> bool:
    """Return whether day and month of a date could change places."""
    found = _LAYOUT.fullmatch(_shape(text.strip()))
    return found is not None and found["a"] is not None


def parse(cells: pa.StringArray, order: str | None) -> Times:
    """Return the times of a column; raise BadTime for the first cell that is none."""
    count = len(cells)
    times = Times(np.zeros(count, np.int64), np.zeros(count, bool), np.zeros(count, bool))
    bad: dict[int, str] = {}
    for shape, rows, matrix in _shapes(cells):
        epoch = re.fullmatch(r"(9{9,})(?:\.9*)?", shape)
        found = _LAYOUT.fullmatch(shape)
        if found is not None:
            _read(times, rows, matrix, found, order, bad)
        elif epoch is not None:
            _read_epochs(times, rows, matrix[:, : len(epoch[1])], matrix[:, len(epoch[1]) :], bad)
        elif re.fullmatch(r"9{5}(\.9+)?", shape):
            bad[int(rows[0])] = "is a spreadsheet's number of a day: show the column as dates first"
        else:
            bad[int(rows[0])] = _NO_TIME
    _refuse(cells, bad)
    return times


def parse_clocks(cells: pa.StringArray) -> IntArray:
    """Return the seconds of a day that clock times say; raise BadTime for one that is none."""
    seconds = np.zeros(len(cells), np.int64)
    bad: dict[int, str] = {}
    for shape, rows, matrix in _shapes(cells):
        found = _CLOCK_LAYOUT.fullmatch(shape.lstrip(" "))
        if found is None and re.fullmatch(r"9{1,6}", shape):  # 91500, 0, with zeros cut off
            digits = _digits(matrix)
            seconds[rows] = digits // 10_000 * 3_600 + digits // 100 % 100 * 60 + digits % 100
        elif found is None:
            bad[int(rows[0])] = "is not a clock time like 09:15"
        else:
            seconds[rows] = _clock(matrix, found, rows, bad)
    _refuse(cells, bad)
    return seconds


def _refuse(cells: pa.StringArray, bad: dict[int, str]) -> None:
    if bad:
        row = min(bad)
        raise BadTime(row, f"{cells[row].as_py()!r} {bad[row]}")


def _shapes(cells: pa.StringArray) -> list[tuple[str, IntArray, ByteMatrix]]:
    """Return the shapes that occur, with the rows of each and their characters as a matrix."""
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(cells)
    offsets = np.frombuffer(cells.buffers()[1], np.int32)[cells.offset :][: len(cells) + 1]
    data = np.frombuffer(cells.buffers()[2] or b"", np.uint8)
    lengths = np.diff(offsets)
    found: list[tuple[str, IntArray, ByteMatrix]] = []
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        if len(rows) == len(cells):
            matrix = data[offsets[0] : offsets[-1]].reshape(-1, length)
        else:
            matrix = data[offsets[:-1][rows][:, None] + np.arange(length)]
        while len(rows):
            shape = _shape(bytes(matrix[0]).decode("utf-8", "replace"))
            same = _fits(matrix, shape)
            if len(found) >= _MOST_SHAPES or not same[0]:
                found.append(("?", rows, matrix))
                break
            found.append((shape, rows[same], matrix[same] if not same.all() else matrix))
            rows, matrix = rows[~same], matrix[~same]
    return found


def _shape(text: str) -> str:
    """Return a text with each digit as 9 and each letter as a."""
    return re.sub(r"[A-Za-z]", "a", re.sub(r"[0-9]", "9", text))


def _fits(matrix: ByteMatrix, shape: str) -> BoolArray:
    """Return which rows of characters have a shape."""
    same = np.ones(len(matrix), bool)
    if len(shape) != matrix.shape[1]:
        return np.zeros(len(matrix), bool)
    for place, character in enumerate(shape):
        column = matrix[:, place]
        if character == "9":
            same &= column - ord("0") < 10  # uint8 wraps below zero
        elif character == "a":
            same &= (column | 0x20) - ord("a") < 26
        else:
            same &= column == ord(character)
    return same


def _digits(matrix: ByteMatrix) -> IntArray:
    value = np.zeros(len(matrix), np.int64)
    for place in range(matrix.shape[1]):
        value = value * 10 + (matrix[:, place] - np.uint8(ord("0")))
    return value


def _number(matrix: ByteMatrix, found: re.Match[str], group: str) -> IntArray:
    start, stop = found.span(group)
    return _digits(matrix[:, start:stop])


def _first(matrix: ByteMatrix, found: re.Match[str], *groups: str) -> IntArray | None:
    for group in groups:
        if found[group] is not None:
            return _number(matrix, found, group)
    return None


def _read(
    times: Times,
    rows: IntArray,
    matrix: ByteMatrix,
    found: re.Match[str],
    order: str | None,
    bad: dict[int, str],
) -> None:
    year = _first(matrix, found, "y", "y2", "y3", "y4", "y5")
    assert year is not None  # noqa: S101 - every layout has one
    year = np.where(year < 100, year + 2000, year)
    month, day = _month_and_day(matrix, found, order)
    days = _days(year, month, day)
    _mark(bad, rows, days == _NO_DAY, "is no date")
    at = days * DAY_SECONDS
    has_clock = found["h"] is not None or found["h2"] is not None
    if has_clock:
        at = at + _clock(matrix, found, rows, bad)
    if found["sign"] is not None:
        offset = _number(matrix, found, "zh") * 3_600 + _number(matrix, found, "zm") * 60
        is_minus = matrix[:, found.start("sign")] == ord("-")
        at = at - np.where(is_minus, -offset, offset)
    elif found["utc"] is not None:
        is_z = (matrix[:, found.start("utc")] | 0x20) == ord("z")
        _mark(bad, rows, ~is_z, _NO_TIME)
    if found["sep"] is not None and "a" in found["sep"]:
        is_t = (matrix[:, found.start("sep") + found["sep"].index("a")] | 0x20) == ord("t")
        _mark(bad, rows, ~is_t, _NO_TIME)
    times.at[rows] = at
    times.is_naive[rows] = found["sign"] is None and found["utc"] is None
    times.is_date[rows] = not has_clock


def _read_epochs(
    times: Times, rows: IntArray, whole: ByteMatrix, rest: ByteMatrix, bad: dict[int, str]
) -> None:
    if whole.shape[1] > 19:
        bad[int(rows[0])] = "is too large to be a time"
        return
    at = _digits(whole)
    while (large := at >= NOT_SECONDS_FROM).any():
        at = np.where(large, at // 1000, at)
    times.at[rows] = at
    if rest.shape[1] > 1:
        _mark(bad, rows, (rest[:, 1:] != ord("0")).any(axis=1), "is not a whole second")


def _month_and_day(
    matrix: ByteMatrix, found: re.Match[str], order: str | None
) -> tuple[IntArray, IntArray]:
    if found["a"] is not None:
        first, second = _number(matrix, found, "a"), _number(matrix, found, "b")
        return (first, second) if order == "mdy" else (second, first)
    name = "n4" if found["n4"] is not None else "n5"
    if found[name] is not None:
        start = found.start(name)
        letters = (matrix[:, start : start + 3] | 0x20).astype(np.int64)
        codes = letters @ np.array([1 << 16, 1 << 8, 1])
        month = np.zeros(len(matrix), np.int64)
        for number, known in enumerate(_MONTHS, start=1):
            month[codes == int.from_bytes(known.encode(), "big")] = number
        day = _number(matrix, found, "d4" if name == "n4" else "d5")
        return month, day
    month_, day_ = _first(matrix, found, "m", "m2"), _first(matrix, found, "d", "d2")
    assert month_ is not None and day_ is not None  # noqa: S101 - each layout has both
    return month_, day_


def _days(year: IntArray, month: IntArray, day: IntArray) -> IntArray:
    """Return the days since 1970-01-01 of dates, _NO_DAY for one that is none."""
    known = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = np.where(known, (year - 1970) * 12 + month - 1, 0)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    days = first + day - 1
    return np.where(known & (days < following), days, _NO_DAY)


def _clock(
    matrix: ByteMatrix, found: re.Match[str], rows: IntArray, bad: dict[int, str]
) -> IntArray:
    zero = np.zeros(len(matrix), np.int64)
    hour = _first(matrix, found, "h", "h2")
    minute, second = _first(matrix, found, "i", "i2"), _first(matrix, found, "sec", "sec2")
    hour = zero if hour is None else hour
    minute, second = (zero if each is None else each for each in (minute, second))
    if found["half"] is not None:
        letters = matrix[:, found.start("half") : found.end("half")] | 0x20
        is_half = np.isin(letters[:, 0], (ord("a"), ord("p"))) & (letters[:, 1] == ord("m"))
        _mark(bad, rows, ~is_half | (hour < 1) | (hour > 12), "is no time of a day")
        hour = hour % 12 + np.where(letters[:, 0] == ord("p"), 12, 0)
    _mark(bad, rows, (hour > 23) | (minute > 59) | (second > 59), "is no time of a day")
    return hour * 3_600 + minute * 60 + second


def _mark(bad: dict[int, str], rows: IntArray, wrong: BoolArray, reason: str) -> None:
    if wrong.any():
        bad.setdefault(int(rows[int(np.argmax(wrong))]), reason)
