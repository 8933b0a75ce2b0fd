"""Read India VIX or funding from a file, as strictly as bars: a bad row is named by its line.

India VIX is taken at the closes of days (`date,...,close`, NSE's own file); funding at its payments
(`ts,funding_rate`, or the names the exchanges give them). What is missing in between is counted,
for a feature that is not known is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from markets.domain import exogenous_plausibility
from markets.domain.bars import IntArray
from markets.domain.calendar import Calendar
from markets.domain.exogenous import LONGEST_INTERVAL_SECONDS, Readings
from markets.imports import series
from markets.imports.bars import BadFile, named_by_session
from markets.imports.format import TIME_NAMES
from markets.imports.numbers import number
from tradingsite.clock import Epoch

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
    """Return when each reading of a file is of, and its value; raise BadFile.

    `report` is called with the bytes of the file read so far.
    """
    wanted = KINDS[kind]
    rows: list[tuple[int, Decimal]] = []
    outside = ""
    is_daily = kind == "vix"
    names = (wanted.time_names, wanted.value_names)
    for row in series.read_series(path, *names, zone, report, is_daily=is_daily):
        if rows:
            _check_daily(row.where, kind, Epoch(rows[-1][0]), row.at)
        number = _value(row.where, row.text, wanted)
        outside = outside or _outside(row.where, number, wanted)
        rows.append((row.at, number))
    if outside:
        # All of them together may tell what is wrong with the one.
        cause = exogenous_plausibility.cause(kind, as_readings(rows))
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
    found: IntArray = expected[~np.isin(expected, at)]
    return found


def _value(where: str, text: str, kind: Kind) -> Decimal:
    value = number(text)
    if value is None or not math.isfinite(value):
        is_word = text.strip().lower() in ("nan", "inf", "-inf")
        said = f"is {text.strip()}, not a number" if is_word else f"{text!r} is not a number"
        raise BadFile(f"{where}: {kind.title} {said}")
    return Decimal(text.strip().replace(",", "")).quantize(PLACES)


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


def _check_daily(where: str, kind: str, before: Epoch, at: Epoch) -> None:
    if kind == "vix" and at - before < _SHORTEST_DAYS_APART:
        raise BadFile(
            f"{where}: {(at - before) // 60} minutes after the line above it; wanted are closes of "
            f"days, one a day"
        )
