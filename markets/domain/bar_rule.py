"""The one rule for bars, held at every door: each opens when the calendar says one does.

A market's bars of a timeframe lie on a grid that the sessions give. A bar that opens elsewhere is
refused, wherever it comes from, and what the grid expects and is not there is missing. Bars of one
grid never overlap, in a file or with what is stored, so that no fill can come before its decision.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from markets.domain import timeframes
from markets.domain.bars import BadBars, Bars, BoolArray, IntArray
from markets.domain.calendar import IST_OFFSET_SECONDS, Calendar, trading_date
from tradingsite.clock import Epoch

_ONE_DAY = dt.timedelta(days=1)
_DAY_SECONDS = 86_400
LIKELY_SHARE = 0.95
"""The share of bars that a shift must put right to be told as the likely cause."""
LEAST_BARS = 20
"""Fewer bars than these tell of no shift."""


class OffCalendarBars(BadBars):
    """Bars that the calendar does not give; `rows` are their places, counted from 0."""

    def __init__(self, rows: IntArray, of: int, reason: str, cause: str = "") -> None:
        """Take the rows, how many were looked at, what is wrong with the first, and why it may."""
        self.rows = rows
        self.are_few = len(rows) < (1.0 - LIKELY_SHARE) * of
        more = f" ({len(rows):,} of {of:,} bars lie off the calendar's)" if len(rows) > 1 else ""
        super().__init__(f"{reason}{more}{cause}", int(rows[0]))


@dataclass(frozen=True, slots=True)
class Span:
    """Name missing bars that follow each other: the opens of the first and the last, how many."""

    first: Epoch
    last: Epoch
    bars: int


def expected(
    calendar: Calendar, timeframe: str, start: Epoch, end: Epoch
) -> tuple[IntArray, IntArray]:
    """Return the opens and closes of the bars that close in (start, end], epoch seconds UTC."""
    opens = _opens(calendar, timeframe, trading_date(start) - _ONE_DAY, trading_date(end))
    closes = calendar.closes_at(timeframe, opens)
    inside = (closes > start) & (closes <= end)
    return opens[inside], closes[inside]


def missing(opens: IntArray, timeframe: str, calendar: Calendar) -> list[Span]:
    """Return what the calendar expects from the first to the last of some opens and they lack."""
    if not len(opens):
        return []
    first, last = int(opens[0]), int(opens[-1])
    grid = _grid(calendar, timeframe, first, last)
    grid = grid[(grid >= first) & (grid <= last)]
    return spans(grid, grid[~np.isin(grid, opens)])


def spans(opens: IntArray, missing: IntArray) -> list[Span]:
    """Return the missing opens as spans; those that follow each other in `opens` are one."""
    if not len(missing):
        return []
    places = np.searchsorted(opens, missing)
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    stops = np.append(starts[1:], len(missing))
    return [
        Span(Epoch(missing[start]), Epoch(missing[stop - 1]), int(stop - start))
        for start, stop in zip(starts, stops, strict=True)
    ]


def is_on_calendar(opens: IntArray, timeframe: str, calendar: Calendar) -> BoolArray:
    """Return for each open whether the calendar gives a bar that opens then."""
    if not len(opens):
        return np.zeros(0, dtype=bool)
    return np.isin(opens, _grid(calendar, timeframe, int(opens.min()), int(opens.max())))


def require(bars: Bars, timeframe: str, calendar: Calendar) -> None:
    """Raise BadBars for bars that contradict themselves, OffCalendarBars off the calendar.

    A bar's close must be the calendar's too: its nominal end, cut off with its session.
    """
    wrong = np.flatnonzero(~is_on_calendar(bars.opens_at, timeframe, calendar))
    if len(wrong):
        at = int(bars.opens_at[wrong[0]])
        cause = likely_cause(bars.opens_at, timeframe, calendar)
        raise OffCalendarBars(
            wrong, len(bars), reason_off_calendar(Epoch(at), timeframe, calendar), cause
        )
    late = np.flatnonzero(bars.closes_at != calendar.closes_at(timeframe, bars.opens_at))
    if len(late):
        closes, opens = (Epoch(each[late[0]]) for each in (bars.closes_at, bars.opens_at))
        bar = f"the {timeframe} bar of {format_ist(opens)}"
        reason = f"{bar} does not close at {format_ist(closes)}"
        raise OffCalendarBars(late, len(bars), reason)
    bars.validate()


def likely_cause(opens: IntArray, timeframe: str, calendar: Calendar) -> str:
    """Return in words which shift would put most of the bars on the calendar's grid, if one would.

    Told only where it puts right what was wrong before: a stray bar is no shift.
    """
    if len(opens) < LEAST_BARS or is_on_calendar(opens, timeframe, calendar).mean() >= LIKELY_SHARE:
        return ""
    has_sessions = bool(len(calendar.edges()[0]))
    for later, words in _shifts(timeframe, has_sessions=has_sessions):
        if is_on_calendar(opens + later, timeframe, calendar).mean() >= LIKELY_SHARE:
            return f"; {words}"
    return ""


def format_ist(at: Epoch) -> str:
    """Return an instant as people in India read it."""
    return f"{_ist(at):%d %b %Y %H:%M} IST"


def _ist(at: Epoch) -> dt.datetime:
    return dt.datetime.fromtimestamp(at + IST_OFFSET_SECONDS, dt.UTC)


def _shifts(timeframe: str, *, has_sessions: bool) -> list[tuple[int, str]]:
    """Return by how many seconds bars may lie off, and in which words; the likeliest first."""
    length, india = timeframes.seconds(timeframe), IST_OFFSET_SECONDS
    ends = (-length, f"the times look like the ends of {timeframe} bars")
    if not has_sessions:
        words = "the bars begin at Indian midnights: pass --tz UTC if the file's times are UTC's"
        return [(india, words), ends]
    return [
        (-india, "the times look like Indian ones read as UTC: pass --tz Asia/Kolkata"),
        (india, "the times look like UTC ones read as Indian: pass --tz UTC"),
        (_DAY_SECONDS, "the days look one day early, as dates in UTC are"),
        (-_DAY_SECONDS, "the days look one day late"),
        ends,
        (
            15 * 60,
            "the bars begin on the clock's hour and not with the session: take the minutes and "
            "let them be resampled",
        ),
    ]


def reason_off_calendar(at: Epoch, timeframe: str, calendar: Calendar) -> str:
    """Return in words why no bar of a timeframe opens at an instant."""
    date = trading_date(at) if len(calendar.edges()[0]) else _ist(at - IST_OFFSET_SECONDS).date()
    if not calendar.covers(date):
        return f"the calendar knows nothing of {date:%d %b %Y}"
    session = calendar.session_on(date)
    if session is None:
        return f"{date:%a %d %b %Y} has no session, and no bar can be of it"
    opens = calendar.bar_opens(timeframe, date)
    if not opens:
        return f"no {timeframe} bar opens on {date:%d %b %Y}"
    nearest = min(opens, key=lambda each: abs(each - at))
    nearest_at = format_ist(Epoch(nearest))
    words = f"no {timeframe} bar opens at {format_ist(at)}; the nearest opens at {nearest_at}"
    if len(calendar.edges()[0]):
        hours = (_ist(session.opens_at), _ist(session.closes_at))
        words += f", and that session is from {hours[0]:%H:%M} to {hours[1]:%H:%M}"
    return words


def _grid(calendar: Calendar, timeframe: str, first: int, last: int) -> IntArray:
    reach = (trading_date(Epoch(first)) - _ONE_DAY, trading_date(Epoch(last)) + _ONE_DAY)
    return _opens(calendar, timeframe, *reach)


def _opens(calendar: Calendar, timeframe: str, first: dt.date, last: dt.date) -> IntArray:
    listed = [
        opens_at
        for session in calendar.sessions(first, last)
        for opens_at in calendar.bar_opens(timeframe, session.date)
    ]
    return np.array(listed, dtype=np.int64)
