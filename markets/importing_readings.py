"""Read India VIX or funding from a CSV file, as strictly as bars: a bad row is named by its line.

India VIX is taken at the closes of days (`date,...,close`, as bars are written); funding at its
payments (`ts,funding_rate`, or the names the exchanges give them). What is missing in between is
counted, for a feature that is not known is 0.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from markets import plausible_readings
from markets.bars import IntArray
from markets.calendar import Calendar
from markets.importing import (
    REPORT_EVERY_ROWS,
    TIME_NAMES,
    BadFile,
    check_order,
    named_by_session,
    opened,
    read_number,
    read_time,
)
from markets.readings import LONGEST_INTERVAL_SECONDS, Readings

PLACES = Decimal("1e-10")
_SHORTEST_DAYS_APART = 20 * 3_600
# A venue's payments come a moment after the hour.
_JITTER_SECONDS = 600

Rows = list[tuple[int, Decimal]]


@dataclass(frozen=True, slots=True)
class Kind:
    """Describe what a file may hold: its columns' names, and between what its values lie."""

    title: str
    market: str
    value_names: tuple[str, ...]
    time_names: tuple[str, ...]
    lowest: float
    highest: float
    wanted: str


KINDS = {
    "vix": Kind(
        *("India VIX", "nifty", ("close", "vix", "value"), TIME_NAMES, 1.0, 200.0),
        "a level like 13.25",
    ),
    "funding": Kind(
        *("funding", "btc", ("funding_rate", "fundingrate", "last_funding_rate", "rate", "value")),
        (*TIME_NAMES, "funding_time", "fundingtime", "calc_time"),
        *(-0.05, 0.05, "a ratio like 0.0001, which is 0.01 %"),
    ),
}


def read_readings(
    path: Path,
    kind: str,
    calendar: Calendar,
    zone: ZoneInfo | None = None,
    report: Callable[[int], None] = lambda read_bytes: None,
) -> Rows:
    """Return when each reading of a CSV or CSV.gz file is of, and its value; raise BadFile.

    `report` is called with the bytes of the file read so far.
    """
    wanted = KINDS[kind]
    rows: list[tuple[int, Decimal]] = []
    outside = ""
    timeframe = "1d" if kind == "vix" else ""
    with opened(path) as (text, raw):
        reader = csv.reader(text)
        time, value, columns = _header(path, reader, wanted)
        for cells in reader:
            if not cells:
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != columns:
                raise BadFile(f"{where}: {len(cells)} columns where the header has {columns}")
            at = read_time(where, cells[time], wanted.market, timeframe, zone)
            if rows:
                check_order(where, cells[time], rows[-1][0], at)
                _check_daily(where, kind, rows[-1][0], at)
            number = _value(where, cells[value], wanted)
            outside = outside or _outside(where, number, wanted)
            rows.append((at, number))
            if len(rows) % REPORT_EVERY_ROWS == 0:
                report(raw.tell())
    if not rows:
        raise BadFile(f"{path} has a header and no rows")
    if outside:
        # All of them together may tell what is wrong with the one.
        cause = plausible_readings.cause(kind, as_readings(rows))
        raise BadFile(f"{outside}{f' ({cause})' if cause else ''}")
    if kind == "vix":
        _, closes = named_by_session(np.array([at for at, _ in rows], dtype=np.int64), calendar)
        rows = [(at, row[1]) for at, row in zip(closes.tolist(), rows, strict=True)]
    return rows


def missing(rows: Rows, kind: str, calendar: Calendar) -> IntArray:
    """Return the instants, between the first and the last, at which a reading should be and is not.

    Of funding, whose intervals nobody prescribes, they are where a pause of over eight hours began.
    """
    at = np.array([each for each, _ in rows], dtype=np.int64)
    if kind == "funding":
        return at[:-1][np.diff(at) > LONGEST_INTERVAL_SECONDS + _JITTER_SECONDS]
    closes = calendar.edges()[1]
    expected = closes[(closes >= at[0]) & (closes <= at[-1])]
    return expected[~np.isin(expected, at)]


def _header(path: Path, reader: Iterator[list[str]], kind: Kind) -> tuple[int, int, int]:
    """Return the places of the time and the value, and how many columns there are."""
    names = [name.strip().lower() for name in next(reader, [])]
    if not names:
        raise BadFile(f"{path} is empty, or its first line is")
    places = []
    for known, what in ((kind.time_names, "a time column"), (kind.value_names, "a value column")):
        place = next((names.index(name) for name in known if name in names), None)
        if place is None:
            raise BadFile(
                f"{path}, line 1: the header {','.join(names)[:120]!r} lacks {what}; wanted one "
                f"of {', '.join(known)}"
            )
        places.append(place)
    return places[0], places[1], len(names)


def _value(where: str, text: str, kind: Kind) -> Decimal:
    read_number(where, kind.title, text)
    return Decimal(text.strip()).quantize(PLACES)


def _outside(where: str, value: Decimal, kind: Kind) -> str:
    """Return why a value can never be one, "" where it may."""
    if kind.lowest <= value <= kind.highest:
        return ""
    return (
        f"{where}: {kind.title} {float(value):g} is not between {kind.lowest:g} and "
        f"{kind.highest:g}; wanted is {kind.wanted}"
    )


def as_readings(rows: Rows) -> Readings:
    """Return rows as columns."""
    at, values = zip(*rows, strict=True) if rows else ((), ())
    return Readings(np.array(at, dtype=np.int64), np.array(values, dtype=np.float64))


def _check_daily(where: str, kind: str, before: int, at: int) -> None:
    if kind == "vix" and at - before < _SHORTEST_DAYS_APART:
        raise BadFile(
            f"{where}: {(at - before) // 60} minutes after the line above it; wanted are closes of "
            f"days, one a day"
        )
