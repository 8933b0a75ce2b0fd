"""Read one table of bars into arrays: labels as they stand, prices, volume, and their lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from markets.domain.bars import PRICES, BoolArray, FloatArray, IntArray
from markets.imports import numbers, times
from markets.imports.columns import Column
from markets.imports.files import BadFile, Part, Report
from markets.imports.format import Format, is_of, is_option
from markets.imports.grids import Block, Grid, LineArray
from markets.imports.recognition import Found, recognise
from markets.imports.structures import grid_of

if TYPE_CHECKING:
    import pyarrow as pa

EARLIEST, LATEST = 631_152_000, 4_102_444_800  # 1990 and 2100
# What the database's columns hold.
LARGEST = {"volume": 1e16} | dict.fromkeys(PRICES, 1e10)
# Dhan's first interface counted from 1980-01-01, UTC.
SECONDS_TO_1980 = 315_532_800
_SYMBOLS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Hold what the user said of a file that it does not say itself."""

    market: str
    zone: ZoneInfo | None = None
    dates: str = ""
    """dmy or mdy."""
    symbol: str = ""
    label: str = ""
    """start, end or last."""
    volume: str = ""
    """The column of the volume, or "none"."""
    since_1980: bool = False
    any_symbol: bool = False
    """Whether any symbol will do, as of an asset that is no market of the desk's."""


@dataclass(slots=True)
class Table:
    """Hold the bars of one table as it gives them, in ascending order of their labels."""

    part: Part
    word: str
    format: Format
    at: IntArray
    """Epoch seconds, or where `is_naive` the seconds of a clock whose zone is unknown."""
    is_naive: bool
    columns: list[FloatArray]
    """Open, high, low, close and volume."""
    lines: LineArray
    notes: list[str] = field(default_factory=list)

    def where(self, row: int) -> str:
        """Return how a row is called in messages."""
        return f"{self.part.name}, {self.word} {self.lines[row]}"


def read_table(part: Part, options: ReadOptions, report: Report) -> Table:
    """Return the bars of a part; raise BadFile for the first row that is none."""
    grid = grid_of(part)
    found = recognise(grid, options.volume)
    reader = _Reader(grid, found, options)
    for block in grid.blocks(found.after, reader.wanted, report):
        reader.take(block)
    return reader.table()


class _Reader:
    """Take the blocks of a table and keep the rows that are bars of what was asked for."""

    def __init__(self, grid: Grid, found: Found, options: ReadOptions) -> None:
        self.grid, self.found, self.options = grid, found, options
        self.format = found.format
        beside = [found.clock, found.volume, found.symbol, found.keep, found.expiry]
        places = [found.time, *found.prices, *(each for each in beside if each is not None)]
        self.wanted = sorted(set(places))
        self._at = {place: number for number, place in enumerate(self.wanted)}
        self.order = self._order()
        self.ats, self.naive, self.lines = Column(np.int64), Column(bool), Column(np.int32)
        self.values = [Column(np.float64) for _ in range(5)]
        self.expiries = Column(np.int64)
        self.symbols: set[str] = set()
        self.seen: set[str] = set()
        self.idle = self.option_rows = self.other_rows = self.without_volume = self.dates = 0
        self.unwanted = 0

    # --- Rows ---

    def take(self, block: Block) -> None:
        """Keep what is a bar of a block."""
        rows = self._rows(block)
        if rows is not None:
            block = Block(block.lines[rows], [each.take(rows) for each in block.columns])
        if not len(block.lines):
            return
        at, is_naive = self._times(block)
        prices = [self._floats(block, place) for place in self.found.prices]
        volume = self._volume(block)
        kept = np.ones(len(at), bool)
        if self.format.has_idle_rows:
            kept = ~np.logical_and.reduce([np.isnan(each) | (each == 0.0) for each in prices])
            self.idle += int((~kept).sum())
        self._check(block, [*prices, volume], kept)
        if self.found.expiry is not None:
            self.expiries.append(self._instants(block, self.found.expiry).at[kept])
        for column, values in zip(self.values, (*prices, volume), strict=True):
            column.append(values if kept.all() else values[kept])
        self.ats.append(at[kept])
        self.naive.append(is_naive[kept])
        self.lines.append(block.lines[kept])

    def _rows(self, block: Block) -> IntArray | None:
        """Return the rows that are bars of the symbol that is wanted, None for all of them."""
        import pyarrow.compute as pc

        cells = self._cells(block, self.found.time)
        kept = np.ones(len(block.lines), bool)
        if pc.any(pc.equal(cells, "")).as_py():
            kept &= ~np.logical_and.reduce(
                [np.asarray(pc.equal(each, "")) for each in block.columns]
            )
        if self.found.keep is not None:
            wanted = pc.equal(self._cells(block, self.found.keep), self.format.keep[1])
            among = int(kept.sum())
            kept &= np.asarray(wanted)
            self.unwanted += among - int(kept.sum())
        if self.found.symbol is not None and kept.any():
            kept &= self._of_symbol(self._cells(block, self.found.symbol), kept)
        return None if kept.all() else np.flatnonzero(kept)

    def _of_symbol(self, cells: pa.StringArray, among: BoolArray) -> BoolArray:
        """Return which rows are of the symbol that is wanted, and note which symbols there are."""
        import pyarrow.compute as pc

        coded = pc.dictionary_encode(pc.utf8_trim_whitespace(cells))
        names, codes = coded.dictionary.to_pylist(), np.asarray(coded.indices)
        counts = np.bincount(codes[among], minlength=len(names)).tolist()
        wanted = np.zeros(len(names), bool)
        for code, (name, count) in enumerate(zip(names, counts, strict=True)):
            if not count:
                continue
            self.seen.add(name)
            if self.options.symbol:
                wanted[code] = name.upper() == self.options.symbol.upper()
            elif is_option(name):
                self.option_rows += count
            elif self._is_list and not is_of(name, self.options.market):
                self.other_rows += count
            else:
                wanted[code] = True
                self.symbols.add(name)
        picked: BoolArray = wanted[codes]
        return picked

    @property
    def _is_list(self) -> bool:
        """Return whether the format lists all the instruments of a day, of which one is ours."""
        return self.format.key in ("nse-fo-bhavcopy", "udiff", "nse-closes")

    # --- Cells ---

    def _cells(self, block: Block, place: int) -> pa.StringArray:
        return block.columns[self._at[place]]

    def _times(self, block: Block) -> tuple[IntArray, BoolArray]:
        read = self._instants(block, self.found.time)
        at = read.at
        if self.found.clock is not None and read.is_date.any():
            try:
                at = at + times.parse_clocks(self._cells(block, self.found.clock))
            except times.BadTime as error:
                raise self._bad(block, error.row, error.reason) from error
        self.dates += int(read.is_date.sum())
        if self.options.since_1980:
            at = np.where(read.is_naive, at, at + SECONDS_TO_1980)
        outside = np.flatnonzero((at < EARLIEST) | (at >= LATEST))
        if len(outside):
            row = int(outside[0])
            text = self._cells(block, self.found.time)[row].as_py()
            raise self._bad(block, row, f"{text} is not between 1990 and 2100")
        return at, read.is_naive

    def _instants(self, block: Block, place: int) -> times.Times:
        cells = self._cells(block, place)
        try:
            return times.parse(cells, self.order)
        except times.BadTime as error:
            raise self._bad(block, error.row, error.reason) from error

    def _order(self) -> str:
        """Return which of two numbers of a date is the day, found over the whole file."""
        known = self.options.dates or self.format.dates
        below = (row for row in self.grid.head if row.line > self.found.after)
        row = next((each for each in below if len(each.cells) > self.found.time), None)
        if known or row is None or not times.is_ambiguous(row.cells[self.found.time]):
            return known
        seen = times.DateOrder()
        for block in self.grid.blocks(self.found.after, [self.found.time], lambda done: None):
            seen.observe(block.columns[0])
        order = seen.order()
        if order is None:
            text = row.cells[self.found.time].strip()
            raise BadFile(
                f"{self.grid.where(row.line)}: {text} can be read in two ways, and no date of the "
                "file tells which; say it: --dates dmy (day first) or --dates mdy (month first)"
            )
        return order

    def _floats(self, block: Block, place: int) -> FloatArray:
        cells = self._cells(block, place)
        try:
            return numbers.floats(cells, decimal_comma=self.grid.decimal_comma)
        except numbers.BadNumber as error:
            name = self._name(place)
            raise self._bad(block, error.row, f"{name} {error.text!r} is not a number") from error

    def _name(self, place: int) -> str:
        if place in self.found.prices:
            return PRICES[self.found.prices.index(place)]
        return "volume"

    def _volume(self, block: Block) -> FloatArray:
        if self.found.volume is None:
            return np.zeros(len(block.lines))
        volume = self._floats(block, self.found.volume)
        lacks = np.isnan(volume)
        self.without_volume += int(lacks.sum())
        return np.where(lacks, 0.0, volume) if lacks.any() else volume

    def _check(self, block: Block, columns: Sequence[FloatArray], kept: BoolArray) -> None:
        """Raise BadFile for the first row whose numbers cannot be a bar's."""
        opened, high, low, closed, volume = columns
        with np.errstate(invalid="ignore"):
            bottom, top = np.minimum(opened, closed), np.maximum(opened, closed)
            # The negated comparisons catch NaN as well.
            good = (low > 0) & (low <= bottom) & (top <= high) & (high < LARGEST["high"])
            good &= (volume >= 0) & (volume < LARGEST["volume"])
        bad = np.flatnonzero(kept & ~good)
        if len(bad):
            row = int(bad[0])
            raise self._bad(block, row, self._why(block, row, [float(c[row]) for c in columns]))

    def _why(self, block: Block, row: int, values: list[float]) -> str:
        places = [*self.found.prices, *([] if self.found.volume is None else [self.found.volume])]
        for place, value in zip(places, values, strict=False):
            name = self._name(place)
            if not np.isfinite(value):
                text = str(self._cells(block, place)[row].as_py()).strip()
                is_word = text.lower() in ("nan", "inf", "-inf", "infinity")
                said = f"is {text}, not a number" if is_word else f"{text!r} is not a number"
                return f"{name} {said}"
            if abs(value) >= LARGEST[name]:
                return f"{name} {value:g} is too large to be one"
            if value <= 0 and name != "volume":
                return f"{name} {value:g} is not positive"
        opened, high, low, closed, volume = values
        if volume < 0:
            return f"volume {volume:g} is negative"
        if high < low:
            return f"high {high:g} is below low {low:g}"
        return f"open {opened:g} or close {closed:g} is outside low {low:g} to high {high:g}"

    def _bad(self, block: Block, row: int, reason: str) -> BadFile:
        return BadFile(f"{self.grid.where(int(block.lines[row]))}: {reason}")

    # --- The whole ---

    def table(self) -> Table:
        """Return what was kept, in order; raise BadFile where that is not one series."""
        self._require_one_symbol()
        if not len(self.lines):
            raise BadFile(f"{self.grid.part.name} {self._why_nothing()}")
        at, naive, lines = self.ats.take(), self.naive.take(), self.lines.take()
        columns = [each.take() for each in self.values]
        if self.found.expiry is not None:
            near = _nearest(at, self.expiries.take())
            at, naive, lines = at[near], naive[near], lines[near]
            columns = [each[near] for each in columns]
        mixed = np.flatnonzero(naive != naive[0])
        if len(mixed) and self.dates == 0:
            has = "no time zone; say which one it is in" if naive[mixed[0]] else "a time zone"
            raise BadFile(
                f"{self.grid.where(int(lines[mixed[0]]))}: the time has {has}, unlike those above"
            )
        table = Table(
            *(self.grid.part, self.grid.word, self.format, at, bool(naive.all()), columns, lines)
        )
        table.notes += self._describe()
        return _in_order(table)

    def _require_one_symbol(self) -> None:
        options, name = self.options, self.grid.part.name
        names = sorted(self.seen if options.symbol else self.symbols)
        shown = ", ".join(names[:_SYMBOLS_SHOWN]) + (", ..." if len(names) > _SYMBOLS_SHOWN else "")
        if options.symbol:
            if self.seen and options.symbol.upper() not in map(str.upper, self.seen):
                raise BadFile(f"{name}: it holds no {options.symbol}; it holds {shown}")
            return
        if len(self.symbols) > 1 and not self._is_list:
            raise BadFile(f"{name}: it holds several symbols ({shown}); pick one with --symbol")
        stated = self.found.stated_symbol
        stem = re.search(self.format.stem, self.grid.part.stem) if self.format.stem else None
        for symbol in (*self.symbols, *([stated] if stated else []), *([stem[1]] if stem else [])):
            if not options.any_symbol and not is_of(symbol, options.market):
                raise BadFile(
                    f"{name}: it is of {symbol}, and not of {options.market}; if that is meant, "
                    f"pass --symbol '{symbol}'"
                )

    def _why_nothing(self) -> str:
        if self.option_rows or self.other_rows:
            rows = self.option_rows + self.other_rows
            return f"holds no bars of {self.options.market}: {rows:,} rows are of other instruments"
        if self.idle:
            return f"holds no bars: its {self.idle:,} rows have no prices"
        if self.unwanted:
            column, value = self.format.keep
            return f"holds no bars: {column} is {value} in none of its {self.unwanted:,} rows"
        return "has a header and no rows"

    def _describe(self) -> list[str]:
        known = self.format
        told = [known.title]
        if known.note:
            told.append(known.note)
        if self.symbols and not self.options.symbol:
            told.append(f"of {' and '.join(sorted(self.symbols))}")
        if self.option_rows:
            told.append(f"{self.option_rows:,} rows of options passed over")
        if self.idle:
            told.append(f"{self.idle:,} rows without prices passed over")
        if self.without_volume:
            told.append(f"{self.without_volume:,} rows without a volume have 0")
        if self.grid.decimal_comma:
            told.append("decimal commas")
        if self.order and not known.dates:
            told.append(
                "dates with the day first" if self.order == "dmy" else "dates with the month first"
            )
        return told


def _nearest(at: IntArray, expiries: IntArray) -> IntArray:
    """Return the rows of the nearest expiry of each day, in their order."""
    order = np.lexsort((expiries, at))
    order = order[expiries[order] >= at[order]]
    is_first = np.diff(at[order], prepend=-1) != 0
    return np.sort(order[is_first])


def _in_order(table: Table) -> Table:
    """Return a table of newest first turned round; raise BadFile for one in no order."""
    steps = np.diff(table.at)
    if len(steps) and 2 * int((steps < 0).sum()) > len(steps):
        table.at, table.lines = table.at[::-1], table.lines[::-1]
        table.columns = [each[::-1] for each in table.columns]
        table.notes.append("newest first, turned round")
        steps = np.diff(table.at)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        problem = "is there twice" if steps[row - 1] == 0 else "is before the line above it"
        raise BadFile(
            f"{table.where(row)}: {_told_time(table, row)} {problem}; sort the file by time and "
            "drop the duplicates"
        )
    return table


def _told_time(table: Table, row: int) -> str:
    text = str(np.datetime64(int(table.at[row]), "s")).replace("T", " ")
    return text if table.is_naive else f"{text} UTC"
