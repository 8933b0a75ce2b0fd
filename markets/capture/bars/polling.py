"""Reading closed bars from a venue until it says the same thing twice.

A bar is asked for from one second after its close, once a second, until two reads of it are equal
or ten seconds are over. All of that is real time, whatever the market's clock does. A read that is
under way when they are over is still waited for, as long as the client's own time-out.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from markets.domain.bars import BadBars, Bars
from markets.domain.calendar import Calendar
from markets.domain.expected_bars import aggregate, finer
from markets.venues.base import DataVenue, TokenRefused
from tradingsite.errors import Degraded, Retry

AFTER_CLOSE_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 1.0

Result = TypeVar("Result")

pause = time.sleep


@dataclass(frozen=True, slots=True)
class Want:
    """Ask for the bars that open in [start, end); the newest of them is what is waited for."""

    instrument: str
    """By the desk's name, which the venue knows."""
    timeframe: str
    start: int
    end: int
    newest: int
    """The open of the bar that must be there and be said twice."""


@dataclass(slots=True)
class Answer:
    """Hold what came of a want: the last read, whether it was said twice, and else why not."""

    bars: Bars = field(default_factory=Bars.empty)
    is_settled: bool = False
    problem: str = ""
    reads: int = 0


def read(venue: DataVenue, calendar: Calendar, want: Want) -> Bars:
    """Return the bars of a want, made of shorter ones where the venue has none such.

    Raises Retry and Degraded as the venue does; Degraded also for bars that are no bars.
    """
    timeframe = want.timeframe
    if venue.reach_seconds(timeframe):
        return _checked(venue.bars(want.instrument, timeframe, want.start, want.end), timeframe)
    for part in finer(timeframe):
        if venue.reach_seconds(part):
            # From its session's open, for the first bar needs all its parts.
            session = calendar.session_at(want.start) or calendar.next_session(want.start)
            start = min(want.start, session.opens_at) if session else want.start
            parts = venue.bars(want.instrument, part, start, want.end)
            whole = aggregate(_checked(parts, part), part, timeframe, calendar)
            inside = (whole.opens_at >= want.start) & (whole.opens_at < want.end)
            return whole.slice(int(np.argmax(inside))) if inside.any() else Bars.empty()
    raise Degraded(f"{venue.name} has no {timeframe} bars, and none they could be made of")


def poll(venue: DataVenue, calendar: Calendar, wants: Collection[Want]) -> dict[Want, Answer]:
    """Return what a venue says of each want once it says it twice, or as far as it got."""
    answers = {want: Answer() for want in wants}
    left = list(wants)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        began = time.monotonic()
        for want in list(left):
            if _ask(venue, calendar, want, answers[want]):
                left.remove(want)
        now = time.monotonic()
        if not left or now + PAUSE_SECONDS > until:
            return answers
        pause(max(0.0, PAUSE_SECONDS - (now - began)))


def _ask(venue: DataVenue, calendar: Calendar, want: Want, answer: Answer) -> bool:
    """Read once more; return whether that was the last time."""
    answer.reads += 1
    try:
        bars = read(venue, calendar, want)
    except TokenRefused as error:
        answer.problem = str(error)
        return True
    except (Retry, Degraded) as error:
        answer.problem = str(error)
        return False
    before, now = _bar(answer.bars, want.newest), _bar(bars, want.newest)
    if len(bars):
        answer.bars = bars
    if now is None:
        answer.problem = f"{venue.name} gives no such bar"
        return False
    answer.is_settled = now == before
    answer.problem = "" if answer.is_settled else f"{venue.name} did not say it twice"
    return answer.is_settled


def _bar(bars: Bars, opens_at: int) -> tuple[float, ...] | None:
    """Return one bar's prices and volume, None where it is not there."""
    row = int(np.searchsorted(bars.opens_at, opens_at))
    if row == len(bars) or bars.opens_at[row] != opens_at:
        return None
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return tuple(float(column[row]) for column in columns)


def _checked(bars: Bars, timeframe: str) -> Bars:
    try:
        bars.validate()
    except BadBars as error:
        raise Degraded(f"the venue's {timeframe} bars cannot be used: {error}") from error
    return bars
