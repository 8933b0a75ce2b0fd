"""Read one series of readings, a time and a value a row, with the same recognisers as bars."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from markets.domain.calendar import DAY_SECONDS, IST_OFFSET_SECONDS
from markets.imports import times
from markets.imports.files import BadFile, Report, parts_of
from markets.imports.grids import Grid
from markets.imports.reading import EARLIEST, LATEST
from markets.imports.structures import grid_of
from tradingsite.clock import Epoch


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold one row: how it is called, when it is of (epoch seconds), and its value as written."""

    where: str
    at: Epoch
    time: str
    text: str


def read_series(
    path: Path,
    time_names: Sequence[str],
    value_names: Sequence[str],
    zone: ZoneInfo | None,
    report: Report,
    *,
    is_daily: bool,
) -> list[Reading]:
    """Return the rows of a file in order; raise BadFile for the first bad one.

    Naive times of a daily series are dates in India; others need a zone.
    """
    rows: list[Reading] = []
    for part in parts_of(path):
        grid = grid_of(part)
        after, places = _header(grid, time_names, value_names)
        found = list(_rows(grid, after, places, zone, report, is_daily=is_daily))
        if 2 * sum(b.at < a.at for a, b in itertools.pairwise(found)) > len(found) - 1 > 1:
            found.reverse()
        rows += found
    if not rows:
        raise BadFile(f"{path} has a header and no rows")
    for before, row in itertools.pairwise(rows):
        if row.at <= before.at:
            problem = "is there twice" if row.at == before.at else "is before the line above it"
            raise BadFile(
                f"{row.where}: {row.time} {problem}; sort the file by time and drop the duplicates"
            )
    return rows


def _header(
    grid: Grid, time_names: Sequence[str], value_names: Sequence[str]
) -> tuple[int, tuple[int, int]]:
    if not grid.head:
        raise BadFile(f"{grid.part.name} is empty, or its first line is")
    for row in grid.head:
        names = [" ".join(cell.strip("\ufeff ").lower().split()) for cell in row.cells]
        places = [
            next((names.index(name) for name in known if name in names), None)
            for known in (time_names, value_names)
        ]
        if places[0] is not None and places[1] is not None:
            return row.line, (places[0], places[1])
    first = grid.head[0]
    names = [cell.strip().lower() for cell in first.cells]
    lacks_time = not set(time_names) & set(names)
    what, known = ("a time column", time_names) if lacks_time else ("a value column", value_names)
    raise BadFile(
        f"{grid.where(first.line)}: the header {','.join(names)[:120]!r} lacks {what}; wanted one "
        f"of {', '.join(known)}"
    )


def _rows(
    grid: Grid,
    after: int,
    places: tuple[int, int],
    zone: ZoneInfo | None,
    report: Report,
    *,
    is_daily: bool,
) -> Iterator[Reading]:
    wanted = sorted(set(places))
    time, value = (wanted.index(place) for place in places)
    order = None
    if any(times.is_ambiguous(row.cells[places[0]]) for row in grid.head if row.line > after):
        seen = times.DateOrder()
        for block in grid.blocks(after, [places[0]], lambda done: None):
            seen.observe(block.columns[0])
        order = seen.order()
        if order is None:
            raise BadFile(
                f"{grid.part.name}: its dates can be read in two ways, and none tells which; "
                "write them as 2024-06-03"
            )
    for block in grid.blocks(after, wanted, report):
        try:
            read = times.parse(block.columns[time], order)
        except times.BadTime as error:
            raise BadFile(f"{grid.where(int(block.lines[error.row]))}: {error.reason}") from error
        said, texts = (block.columns[column].to_pylist() for column in (time, value))
        ats, naive = read.at.tolist(), read.is_naive.tolist()
        for row, (at, is_naive, text) in enumerate(zip(ats, naive, texts, strict=True)):
            where = grid.where(int(block.lines[row]))
            if is_naive:
                at = _in_utc(where, at, zone, is_daily=is_daily)
            if not EARLIEST <= at < LATEST:
                raise BadFile(f"{where}: {said[row]} is not between 1990 and 2100")
            yield Reading(where, at, said[row].strip(), text)


def _in_utc(where: str, at: Epoch, zone: ZoneInfo | None, *, is_daily: bool) -> int:
    if is_daily and at % DAY_SECONDS == 0:
        return at - IST_OFFSET_SECONDS
    clock = dt.datetime.fromtimestamp(at, dt.UTC)
    if zone is None:
        raise BadFile(
            f"{where}: {clock:%Y-%m-%d %H:%M} has no time zone; say which one it is in, as in "
            "--tz Asia/Kolkata or --tz UTC"
        )
    return int(clock.replace(tzinfo=zone).timestamp())
