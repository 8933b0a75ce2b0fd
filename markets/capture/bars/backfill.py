"""History from the venue: in pieces that one request gives, over what is there, as often as wanted.

A run that breaks off keeps the pieces it has stored, and the next one goes over them unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.bars import gaps, polling, sources, storage
from markets.capture.bars.policy import CollectionPolicy
from markets.capture.bars.polling import BarRequest
from markets.capture.bars.storage import UpsertCounts
from markets.domain import timeframes
from markets.domain.bar_rule import Span
from markets.domain.bars import Bars
from markets.domain.calendar import DAY_SECONDS, IST_OFFSET_SECONDS
from markets.domain.expected_bars import finer
from markets.venues.base import DataVenue, NotListed, TokenRefused
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry
from tradingsite.registry import MARKETS

YEARS = {"15m": 4, "1h": 4, "4h": 4, "1d": 15}
"""How far back a market's history reaches unless told otherwise."""
TRIES = 3
PAUSE_SECONDS = 2.0

Report = Callable[[int, int], None]
"""Told how many of how many seconds of history are done."""

log = logging.getLogger(__name__)


def backfill(
    market: str,
    timeframe: str,
    start: Epoch,
    end: Epoch,
    policy: CollectionPolicy,
    report: Report = lambda done, total: None,
) -> UpsertCounts:
    """Store a timeframe's bars that open in [start, end) and have closed; return what changed.

    Raises Retry or Degraded where a piece does not come at the third try; the pieces before it
    are stored then, with their features.
    """
    pieces = list(_pieces(market, timeframe, start, end))
    counts = UpsertCounts()
    try:
        for first, stop in pieces:
            counts = _sum(counts, _store(market, timeframe, Epoch(first), Epoch(stop), policy))
            report(stop - start, end - start)
    finally:
        if counts.new or counts.corrected:
            for each in store.dependent_timeframes(market, timeframe):
                store.append_features(market, each, start - timeframes.seconds(each))
    _record_left_out(market, timeframe, start, end)
    return counts


def repair(
    market: str,
    timeframe: str,
    missing: Sequence[Span],
    policy: CollectionPolicy,
    report: Report = lambda done, total: None,
) -> UpsertCounts:
    """Ask once more for missing bars, as few requests as hold them all; return what changed."""
    counts = UpsertCounts()
    windows = plan(market, timeframe, missing)
    try:
        for number, (first, stop) in enumerate(windows, start=1):
            counts = _sum(counts, _store(market, timeframe, Epoch(first), Epoch(stop), policy))
            report(number, len(windows))
    finally:
        if counts.new or counts.corrected:
            for each in store.dependent_timeframes(market, timeframe):
                since = windows[0][0] - timeframes.seconds(each)
                store.append_features(market, each, Epoch(since))
    return counts


def plan(market: str, timeframe: str, missing: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the windows in which missing bars are asked for: from an open to a close."""
    reach = _reach(sources.venue_of(market), timeframe) - DAY_SECONDS
    length = timeframes.seconds(timeframe)
    windows: list[tuple[int, int]] = []
    for span in missing:
        if windows and span.last - windows[-1][0] < reach:
            windows[-1] = (windows[-1][0], span.last + length)
        else:
            windows.append((span.first, span.last + length))
    return windows


def backfill_readings(
    series: exogenous_capture.Series, start: Epoch, end: Epoch, policy: CollectionPolicy
) -> int:
    """Store a series' readings in (start, end]; return how many are new or changed."""
    rows = _tried(lambda: exogenous_capture.fetch(series, start, end), series.name)
    return exogenous_capture.upsert(series, rows, policy.source)


def first_instant(timeframe: str, end: Epoch) -> int:
    """Return where a timeframe's history begins unless told otherwise."""
    return end - int(YEARS[timeframe] * 365.25 * DAY_SECONDS)


def _store(
    market: str, timeframe: str, start: Epoch, stop: Epoch, policy: CollectionPolicy
) -> UpsertCounts:
    venue, calendar = sources.venue_of(market), store.load_calendar(market)
    request = BarRequest(sources.INSTRUMENTS[market], timeframe, start, stop, start)
    what = f"{market} {timeframe} from {clock.from_seconds(start):%Y-%m-%d}"
    bars: Bars = _tried(lambda: polling.fetch(venue, calendar, request), what)
    found = {timeframe: bars}
    # Features need all of it, and are computed once at the end.
    return storage.upsert(
        market, found, policy.source, corrects=policy.collects, with_features=False
    )


def _tried(ask: Callable[[], polling.Result], what: str) -> polling.Result:
    for attempt in range(1, TRIES + 1):
        try:
            return ask()
        except (TokenRefused, NotListed):
            raise
        except (Retry, Degraded) as error:
            if attempt == TRIES:
                raise
            log.warning("try %d of %d for %s: %s", attempt, TRIES, what, error)
            polling.pause(PAUSE_SECONDS * attempt)
    raise AssertionError("the last try returns or raises")


def _pieces(market: str, timeframe: str, start: Epoch, end: Epoch) -> Iterator[tuple[int, int]]:
    """Give windows that begin with a day of the market's and that one request gives."""
    offset = IST_OFFSET_SECONDS if MARKETS[market].calendar == "NSE" else 0
    length = max(_reach(sources.venue_of(market), timeframe) // DAY_SECONDS, 1) * DAY_SECONDS
    first = start
    while first < end:
        day = (first + offset) // DAY_SECONDS * DAY_SECONDS - offset
        stop = min(day + length, end)
        yield first, stop
        first = Epoch(stop)


def _reach(venue: DataVenue, timeframe: str) -> int:
    for each in (timeframe, *finer(timeframe)):
        if reach := venue.reach_seconds(each):
            return reach
    raise Degraded(f"{venue.name} has no {timeframe} bars, and none they could be made of")


def _record_left_out(market: str, timeframe: str, start: Epoch, end: Epoch) -> None:
    until = min(end, clock.market_epoch())
    _, absent, _ = gaps.missing(market, timeframe, start, until)
    gaps.record(market, timeframe, absent, "the venue left it out of its history")


def _sum(one: UpsertCounts, other: UpsertCounts) -> UpsertCounts:
    return UpsertCounts(
        one.new + other.new, one.corrected + other.corrected, one.filled + other.filled
    )
