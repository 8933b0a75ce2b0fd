"""Files of bars to bars under the one rule: what people have, read whole or refused whole.

The reading is in `markets.imports`; here what it gives becomes one series of one market, shorter
bars are made into the market's own, and the calendar's rule is held against the result.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from markets.domain import bar_rule, resampling, timeframes
from markets.domain.bars import BadBars, Bars, FloatArray, IntArray
from markets.domain.calendar import Calendar, ist_instant, trading_date
from markets.imports import labels
from markets.imports.files import BadFile, Part, checked_sum, opened, parts_of
from markets.imports.reading import ReadOptions, Table, read_table
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS

__all__ = ["BadFile", "Read", "ReadOptions", "opened", "read_bars", "read_files"]

USUAL_OPEN = dt.time(9, 15)
USUAL_SECONDS = 22_500
# Enough rows to tell a shift, and few enough to try several.
_SAMPLE_ROWS = 5_000
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Read:
    """Hold the bars of some files, by timeframe, and what was recognised and done on the way."""

    bars: dict[str, Bars]
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Series:
    """Hold the rows of all files as one, in ascending order of their opens."""

    tables: list[Table]
    opens_at: IntArray
    columns: list[FloatArray]
    lines: npt.NDArray[np.int32]
    table_of: npt.NDArray[np.int32] | None = None
    """Which of the tables each row is of; None where there is one."""

    def where(self, row: int) -> str:
        """Return how a row is called in messages."""
        table = self.tables[0 if self.table_of is None else int(self.table_of[row])]
        return f"{table.part.name}, {table.word} {self.lines[row]}"

    def filter(self, kept: npt.NDArray[np.bool_]) -> None:
        """Drop the other rows."""
        self.opens_at, self.lines = self.opens_at[kept], self.lines[kept]
        self.columns = [each[kept] for each in self.columns]
        if self.table_of is not None:
            self.table_of = self.table_of[kept]


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
    """Return the bars of one file of a market's own timeframe; raise BadFile for the first bad row.

    With `any_day` it may be of any asset, which trades by another calendar.
    """
    options = ReadOptions(market, zone, any_symbol=any_day)
    read = read_files(
        [path], timeframe, calendar, options, report, leaves_out=leaves_out, any_day=any_day
    )
    return read.bars[timeframe]


def read_files(
    paths: Sequence[Path],
    timeframe: str,
    calendar: Calendar,
    options: ReadOptions,
    report: Callable[[int], None] = lambda read_bytes: None,
    *,
    leaves_out: bool = False,
    any_day: bool = False,
) -> Read:
    """Return the bars of files that are one series; raise BadFile for the first bad row.

    Bars shorter than the market's own timeframes are made into all of those that they can make.
    Where it `leaves_out`, bars that the calendar does not give are left out and not refused; with
    `any_day` they are taken. `report` is called with the bytes read so far.
    """
    notes: list[str] = []
    tables = _tables(paths, options, report, notes)
    seconds = timeframes.seconds(timeframe)
    if timeframe == "1d":
        for table in tables:
            labels.settle_days(table, has_sessions=bool(len(calendar.edges()[0])))
    else:
        by_format = sorted(tables, key=lambda each: each.format.key)
        for _, group in itertools.groupby(by_format, key=lambda each: each.format.key):
            labels.settle(list(group), calendar, seconds, options)
    notes += _describe(tables)
    series = _merged(tables, notes)
    _check_spacing(series, timeframe)
    if timeframe in MARKETS[options.market].timeframes:
        lawful = _on_calendar(series, timeframe, calendar, leaves_out=leaves_out, any_day=any_day)
        return Read({timeframe: lawful}, notes)
    return Read(_resampled(series, timeframe, calendar, options.market, notes, leaves_out), notes)


def parts_that_make(market: str) -> dict[str, list[str]]:
    """Return for each shorter length of bars which of a market's timeframes it can make."""
    return {
        part: [
            name
            for name in MARKETS[market].timeframes
            if timeframes.seconds(name) > length and timeframes.seconds(name) % length == 0
        ]
        for part, length in timeframes.PARTS.items()
        if part not in MARKETS[market].timeframes
    }


def named_by_session(opens: IntArray, calendar: Calendar) -> tuple[IntArray, IntArray]:
    """Return opens and closes of daily bars given by their dates; a closed day gets usual hours."""
    spans = []
    for at in opens.tolist():
        date = trading_date(at)
        session = calendar.session_on(date)
        opened = session.opens_at if session else ist_instant(date, USUAL_OPEN)
        spans.append((opened, session.closes_at if session else opened + USUAL_SECONDS))
    columns = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()


# --- Files to one series ---


def _tables(
    paths: Sequence[Path], options: ReadOptions, report: Callable[[int], None], notes: list[str]
) -> list[Table]:
    parts: list[Part] = []
    for path in paths:
        found = parts_of(path)
        if checked_sum(path) is not None:
            notes.append(f"{path.name}: it is what the .CHECKSUM beside it says.")
        parts += found
    tables, done = [], 0
    for place, part in enumerate(parts):
        tables.append(read_table(part, options, _after(done, report)))
        if place + 1 == len(parts) or parts[place + 1].path != part.path:
            done += part.path.stat().st_size
            report(done)
    return tables


def _after(done: int, report: Callable[[int], None]) -> Callable[[int], None]:
    return lambda more: report(done + more)


def _describe(tables: Sequence[Table]) -> list[str]:
    """Return what was recognised and done; files of which the same is true are told together."""
    by_words: dict[tuple[str, ...], list[str]] = {}
    for table in tables:
        by_words.setdefault(tuple(table.notes), []).append(table.part.stem)
    told = []
    for words, names in by_words.items():
        files = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
        )
        verb = "this looks like" if len(names) == 1 else "these look like"
        rest = f": {'; '.join(words[1:])}" if len(words) > 1 else ""
        told.append(f"{files}: {verb} {words[0]}{rest}.")
    return told


def _merged(tables: list[Table], notes: list[str]) -> Series:
    """Return the rows of all tables as one series; rows that overlap must agree."""
    tables = sorted((table for table in tables if len(table.at)), key=lambda each: int(each.at[0]))
    if not tables:
        raise BadFile("nothing is left of the files but rows of before the open")
    if len(tables) == 1:
        (table,) = tables
        return Series(tables, table.at, table.columns, table.lines)
    order = np.argsort(np.concatenate([table.at for table in tables]), kind="stable")
    sizes = [len(table.at) for table in tables]
    series = Series(
        tables,
        np.concatenate([table.at for table in tables])[order],
        [np.concatenate([table.columns[each] for table in tables])[order] for each in range(5)],
        np.concatenate([table.lines for table in tables])[order],
        np.repeat(np.arange(len(tables), dtype=np.int32), sizes)[order],
    )
    twice = np.flatnonzero(np.diff(series.opens_at) == 0)
    if len(twice):
        differs = np.zeros(len(twice), bool)
        for column in series.columns:
            differs |= column[twice] != column[twice + 1]
        if differs.any():
            row = int(twice[np.argmax(differs)])
            raise BadFile(
                f"{series.where(row)} and {series.where(row + 1)} disagree about the bar of "
                f"{bar_rule.format_ist(Epoch(series.opens_at[row]))}; import only one of them"
            )
        kept = np.ones(len(series.opens_at), bool)
        kept[twice] = False
        series.filter(kept)
        notes.append(f"{len(twice):,} bars are in two of the files, and the same in both.")
    return series


def _check_spacing(series: Series, timeframe: str) -> None:
    if len(series.opens_at) < 3:
        return
    usual = int(np.median(np.diff(series.opens_at)))
    if usual != timeframes.seconds(timeframe):
        raise BadFile(
            f"{series.tables[0].part.name}: its bars are usually {usual // 60} minutes apart, so "
            f"they are not {timeframe} bars"
        )


# --- The rule ---


def _on_calendar(
    series: Series, timeframe: str, calendar: Calendar, *, leaves_out: bool, any_day: bool
) -> Bars:
    """Return the series as bars of a market's own timeframe; raise BadFile for an unlawful one."""
    if timeframe == "1d":
        series.opens_at, closes = named_by_session(series.opens_at, calendar)
    else:
        closes = calendar.closes_at(timeframe, series.opens_at)
    bars = Bars(series.opens_at, closes, *series.columns)
    if leaves_out:
        kept = bar_rule.is_on_calendar(bars.opens_at, timeframe, calendar)
        _require_some(kept, series)
        bars = bars.where(kept)
        series.filter(kept)
    try:
        if any_day:
            bars.validate()
        else:
            bar_rule.require(bars, timeframe, calendar)
    except BadBars as error:
        raise _refused(error, series) from error
    return bars


def _resampled(
    series: Series,
    timeframe: str,
    calendar: Calendar,
    market: str,
    notes: list[str],
    leaves_out: bool,
) -> dict[str, Bars]:
    """Return the market's own bars that shorter ones make."""
    length = timeframes.seconds(timeframe)
    lawful = resampling.is_on_grid(series.opens_at, length, calendar)
    if leaves_out:
        _require_some(lawful, series)
        series.filter(lawful)
    elif not lawful.all():
        wrong = np.flatnonzero(~lawful)
        why = bar_rule.reason_off_calendar(Epoch(series.opens_at[wrong[0]]), timeframe, calendar)
        sample = series.opens_at[:_SAMPLE_ROWS]
        cause = bar_rule.likely_cause(sample, timeframe, calendar)
        raise _refused(bar_rule.OffCalendarBars(wrong, len(lawful), why, cause), series)
    parts = Bars(series.opens_at, series.opens_at + length, *series.columns)
    made: dict[str, Bars] = {}
    for name in parts_that_make(market)[timeframe]:
        result = resampling.resample(parts, length, name, calendar)
        if len(result.bars):
            result.bars.validate()
            made[name] = result.bars
        notes.append(_describe_resampled(timeframe, name, result))
    if not made:
        raise BadFile(
            f"{series.tables[0].part.name}: too few of its {timeframe} bars follow each other to "
            f"make one bar of {market}"
        )
    return made


def _describe_resampled(part: str, name: str, result: resampling.Resampled) -> str:
    told = f"{len(result.bars):,} {name} bars made of {part} bars from each session's open"
    if result.incomplete:
        told += f"; {result.incomplete:,} of them lack up to a tenth of their parts"
    if len(result.left_out):
        first = bar_rule.format_ist(Epoch(result.left_out[0]))
        told += (
            f"; {len(result.left_out):,} were not made, for more than a tenth of each is missing "
            f"(the first is that of {first})"
        )
    if name == "1d" and len(result.bars):
        told += "; a day's close is its last bar's, not the exchange's average of half an hour"
    return told + "."


def _require_some(kept: npt.NDArray[np.bool_], series: Series) -> None:
    if not kept.any():
        raise BadFile(
            f"{series.tables[0].part.name}: none of its {len(kept):,} bars is one that the "
            "calendar gives"
        )


def _refused(error: BadBars, series: Series) -> BadFile:
    where = series.tables[0].part.name if error.row is None else series.where(error.row)
    can_leave = isinstance(error, bar_rule.OffCalendarBars) and error.are_few
    hint = "; --leave-out imports the rest without such rows" if can_leave else ""
    return BadFile(f"{where}: {error.reason}{hint}")
