"""Shorter bars made into a market's own, from the open of each session and never by the clock.

A bar is made where at least nine tenths of its parts are there; one of fewer is left out, for half
a bar looks like a whole one. Parts in a pause of the exchange, or where the index has no price, are
not expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from markets.domain import bar_rule, timeframes
from markets.domain.bars import Bars, BoolArray, IntArray
from markets.domain.calendar import DAY_SECONDS, Calendar, date_of_epoch_day, ist_days

LEAST_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Resampled:
    """Hold the bars that were made, and how many lack parts."""

    bars: Bars
    incomplete: int
    """Bars that were made though some of their parts are missing."""
    left_out: IntArray
    """Opens of the bars that were not made, for too few parts are there."""


def resample(parts: Bars, seconds: int, timeframe: str, calendar: Calendar) -> Resampled:
    """Return the longer bars that parts of a length make; the parts are the calendar's.

    Raises ValueError where no whole number of parts makes a bar.
    """
    length = timeframes.seconds(timeframe)
    if length % seconds:
        raise ValueError(f"no whole number of {seconds // 60} minutes makes a {timeframe} bar")
    if not len(parts):
        none = np.empty(0, dtype=np.int64)
        return Resampled(Bars.empty(), 0, none)
    starts, opens = _grouped(parts.opens_at, None if timeframe == "1d" else length, calendar)
    lasts = np.append(starts[1:], len(parts)) - 1
    # A future's parts of where none is expected must not stand in for others that are missing.
    expected = ~_is_silent(parts.opens_at, seconds, calendar)
    counts = np.add.reduceat(expected, starts, dtype=np.int64)
    closed = _closes(opens, calendar)
    ends = closed if timeframe == "1d" else np.minimum(opens + length, closed)
    share = counts / _expected(opens, ends, seconds, calendar)
    # Futures trade on where the index has no price any more: no bar of the market's lies there.
    lawful = bar_rule.is_on_calendar(opens, timeframe, calendar)
    made = lawful & (share >= LEAST_SHARE)
    closes = calendar.closes_at(timeframe, opens)
    bars = Bars(
        opens,
        closes,
        parts.open[starts],
        np.maximum.reduceat(parts.high, starts),
        np.minimum.reduceat(parts.low, starts),
        parts.close[lasts],
        np.add.reduceat(parts.volume, starts),
    )
    return Resampled(bars.where(made), int((made & (share < 1.0)).sum()), opens[lawful & ~made])


def is_on_grid(at: IntArray, seconds: int, calendar: Calendar) -> BoolArray:
    """Return for each instant whether a part of that length may open then."""
    opens, closes = calendar.edges()
    if not len(opens):
        found: BoolArray = at % seconds == 0
        return found
    session = _sessions(at, opens)
    since = at - opens[session]
    since %= seconds
    lawful: BoolArray = (at >= opens[0]) & (at < closes[session]) & (since == 0)
    return lawful


# Minutes of twenty years are millions, and PROD is small: what is done to each is done in place.


def _grouped(at: IntArray, length: int | None, calendar: Calendar) -> tuple[IntArray, IntArray]:
    """Return the first row of each bar that parts make, and its open; a day's without a length."""
    edges, _ = calendar.edges()
    opened = edges[_sessions(at, edges)] if len(edges) else at // DAY_SECONDS * DAY_SECONDS
    if length is not None:
        within = at - opened
        within //= length
        within *= length
        opened += within
    starts = np.flatnonzero(np.append(True, opened[1:] != opened[:-1]))
    return starts, opened[starts]


def _closes(at: IntArray, calendar: Calendar) -> IntArray:
    """Return when the session of each instant closes; all are within one."""
    opens, closes = calendar.edges()
    if not len(opens):
        return at // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS
    return closes[_sessions(at, opens)]


def _sessions(at: IntArray, opens: IntArray) -> IntArray:
    """Return the number of the session that opened last, the first one's before it."""
    session = np.searchsorted(opens, at, side="right")
    session -= 1
    return np.maximum(session, 0, out=session)


def _expected(opens: IntArray, closes: IntArray, seconds: int, calendar: Calendar) -> IntArray:
    """Return of how many parts each bar is made, less those that are not expected."""
    expected = -((opens - closes) // seconds)
    days = ist_days(opens)
    for day in np.unique(days).tolist():
        for row in np.flatnonzero(days == day).tolist() if _silences(day, calendar) else ():
            parts = np.arange(opens[row], closes[row], seconds)
            expected[row] -= int(_is_silent(parts, seconds, calendar).sum())
    found: IntArray = np.maximum(expected, 1)
    return found


def _is_silent(at: IntArray, seconds: int, calendar: Calendar) -> BoolArray:
    """Return which parts, in ascending order, lie where none is expected."""
    silent = np.zeros(len(at), dtype=bool)
    first_day, last_day = ist_days(at[[0, -1]]).tolist()
    for day in range(first_day, last_day + 1):
        for stops, resumes in _silences(day, calendar):
            first, after = np.searchsorted(at, (stops, resumes - seconds + 1))
            silent[first:after] = True
    return silent


def _silences(day: int, calendar: Calendar) -> list[tuple[int, int]]:
    """Return when on a day the exchange pauses, or the index has no price."""
    date = date_of_epoch_day(day)
    pause = calendar.pause_on(date)
    return calendar.silences_on(date) + ([pause] if pause else [])
