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
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry

AFTER_CLOSE_SECONDS = 1.0
PATIENCE_SECONDS = 10.0
PAUSE_SECONDS = 1.0

Result = TypeVar("Result")

pause = time.sleep


@dataclass(frozen=True, slots=True)
class BarRequest:
    """Ask for the bars that open in [start, end); the newest of them is what is waited for."""

    instrument: str
    """By the desk's name, which the venue knows."""
    timeframe: str
    start: Epoch
    end: Epoch
    newest: Epoch
    """The open of the bar that must be there and be said twice."""


@dataclass(slots=True)
class PollResult:
    """Hold what came of a request: the last read, whether it was said twice, and else why not."""

    bars: Bars = field(default_factory=Bars.empty)
    is_settled: bool = False
    problem: str = ""
    reads: int = 0


def fetch(venue: DataVenue, calendar: Calendar, request: BarRequest) -> Bars:
    """Return the bars of a request, made of shorter ones where the venue has none such.

    Raises Retry and Degraded as the venue does; Degraded also for bars that are no bars.
    """
    timeframe = request.timeframe
    if venue.reach_seconds(timeframe):
        return _checked(
            venue.bars(request.instrument, timeframe, request.start, request.end), timeframe
        )
    for part in finer(timeframe):
        if venue.reach_seconds(part):
            # From its session's open, for the first bar needs all its parts.
            session = calendar.session_at(request.start) or calendar.next_session(request.start)
            start = min(request.start, session.opens_at) if session else request.start
            parts = venue.bars(request.instrument, part, start, request.end)
            whole = aggregate(_checked(parts, part), part, timeframe, calendar)
            inside = (whole.opens_at >= request.start) & (whole.opens_at < request.end)
            return whole.slice(int(np.argmax(inside))) if inside.any() else Bars.empty()
    raise Degraded(f"{venue.name} has no {timeframe} bars, and none they could be made of")


def poll(
    venue: DataVenue, calendar: Calendar, requests: Collection[BarRequest]
) -> dict[BarRequest, PollResult]:
    """Return what a venue says of each request once it says it twice, or as far as it got."""
    results = {request: PollResult() for request in requests}
    left = list(requests)
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        began = time.monotonic()
        for request in list(left):
            if _ask(venue, calendar, request, results[request]):
                left.remove(request)
        now = time.monotonic()
        if not left or now + PAUSE_SECONDS > until:
            return results
        pause(max(0.0, PAUSE_SECONDS - (now - began)))


def _ask(venue: DataVenue, calendar: Calendar, request: BarRequest, result: PollResult) -> bool:
    """Read once more; return whether that was the last time."""
    result.reads += 1
    try:
        bars = fetch(venue, calendar, request)
    except TokenRefused as error:
        result.problem = str(error)
        return True
    except (Retry, Degraded) as error:
        result.problem = str(error)
        return False
    before, now = _bar(result.bars, request.newest), _bar(bars, request.newest)
    if len(bars):
        result.bars = bars
    if now is None:
        result.problem = f"{venue.name} gives no such bar"
        return False
    result.is_settled = now == before
    result.problem = "" if result.is_settled else f"{venue.name} did not say it twice"
    return result.is_settled


def _bar(bars: Bars, opens_at: Epoch) -> tuple[float, ...] | None:
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
