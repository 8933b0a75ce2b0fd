"""What is due of a market's bars at an instant, and what is done with the results.

A bar that has just closed is asked for at once; one that did not come is a gap, which is asked for
again every five minutes for an hour and once an hour for three days. Every read reaches back over
the last bars, so that what the venue corrects is corrected here, and some time after a session's
close they are read again, for a daily close may be told late.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from markets import store
from markets.capture.bars import gaps, sources, storage
from markets.capture.bars.policy import CollectionPolicy
from markets.capture.bars.polling import BarRequest, PollResult
from markets.domain.bars import IntArray
from markets.domain.calendar import Calendar
from markets.models import Bar
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS

FRESH_SECONDS = 120
"""Market time for which every firing asks for a bar that has closed."""
OFTEN_SECONDS, OFTEN_MINUTES = 3_600, 5
SELDOM_AT_MINUTE = 20
LOOKBACK_SECONDS = 3 * 86_400
LONGEST_ABSENCE_SECONDS = 90 * 86_400
"""A longer absence is for `manage.py bars backfill`."""
CHECKED_BARS = 30
"""How many of the last bars each read holds against the stored ones."""
AGAIN_AFTER_CLOSE_MINUTES = (5, 30, 180)

log = logging.getLogger(__name__)


NEVER = Epoch(0)


@dataclass(frozen=True, slots=True)
class Due:
    """Hold what is asked of a market's venue now, by timeframe, and from when on it was looked."""

    market: str
    at: Epoch
    requests: Mapping[str, BarRequest]
    since: Mapping[str, int]
    closed_at: Epoch = NEVER
    """When the newest bar closed that is asked for."""


def due(market: str, at: Epoch) -> Due:
    """Return what is to be read at an instant, in epoch seconds; nothing without requests."""
    calendar = store.load_calendar(market)
    found = {
        timeframe: (looked_from, *gaps.missing(market, timeframe, Epoch(looked_from), at))
        for timeframe in MARKETS[market].timeframes
        if (looked_from := _expected_from(market, timeframe, at)) is not None
    }
    is_time = _is_read_again(calendar, at) or any(
        _is_polled_now(market, timeframe, absent, closes, at)
        for timeframe, (_, _, absent, closes) in found.items()
    )
    requests: dict[str, BarRequest] = {}
    since: dict[str, int] = {}
    closed_at = 0
    for timeframe, (looked_from, opens, absent, _) in found.items():
        if not is_time or not len(opens):
            continue
        if len(absent) or _is_read_again(calendar, at):
            newest = int(calendar.closes_at(timeframe, opens[-1:])[0])
            since[timeframe] = looked_from
            requests[timeframe] = _request_for(market, timeframe, opens, absent, Epoch(newest))
            closed_at = max(closed_at, newest)
    return Due(market, at, requests, since, Epoch(closed_at))


def _request_for(
    market: str, timeframe: str, opens: IntArray, absent: IntArray, closes_at: Epoch
) -> BarRequest:
    """Return the question for the missing bars, and for the last ones in any case."""
    first = int(opens[-min(CHECKED_BARS, len(opens))])
    if len(absent):
        first = min(first, int(absent[0]))
    # To the close: asked up to its open, a venue may show the bar as it was then.
    return BarRequest(
        sources.INSTRUMENTS[market], timeframe, Epoch(first), closes_at, Epoch(opens[-1])
    )


def finish(due: Due, results: Mapping[BarRequest, PollResult], policy: CollectionPolicy) -> str:
    """Store the results, write down what is missing, tell of it, and say what was done."""
    market = due.market
    found = {name: results[each].bars for name, each in due.requests.items()}
    counts = storage.upsert(market, found, policy.source)
    lacking: list[str] = []
    for timeframe, each in due.requests.items():
        result = results[each]
        _, absent, _ = gaps.missing(market, timeframe, Epoch(due.since[timeframe]), due.at)
        reason = result.problem or "the venue left it out"
        gaps.record(market, timeframe, absent, reason)
        if len(absent):
            lacking.append(f"{len(absent)} of {timeframe} ({reason})")
        elif not result.is_settled:
            log.warning("%s %s: stored, though %s", market, timeframe, result.problem)
    _notify_missing(market, lacking)
    parts = [f"{counts.new} new"]
    parts += [f"{counts.corrected} corrected"] if counts.corrected else []
    parts += [f"{counts.filled} gaps filled"] if counts.filled else []
    parts += [f"missing: {', '.join(lacking)}"] if lacking else []
    return f"{MARKETS[market].title} {', '.join(parts)}"


def _notify_missing(market: str, lacking: list[str]) -> None:
    key = f"bars:{market}"
    if not lacking:
        notices.resolve(key)
        return
    notices.notify(
        "infrastructure",
        "warning",
        key,
        f"Bars of {MARKETS[market].title} are missing: {'; '.join(lacking)}. They are asked for "
        f"again by themselves; `manage.py bars gaps {market}` lists them.",
    )


def _expected_from(market: str, timeframe: str, at: Epoch) -> int | None:
    """Return from which close on bars are expected; None for a timeframe that has none yet."""
    rows = Bar.on(market).objects.filter(timeframe=timeframe).order_by("-opens_at")
    newest = rows.values_list("closes_at", flat=True).first()
    if newest is None:
        return None
    return max(min(clock.epoch(newest), at - LOOKBACK_SECONDS), at - LONGEST_ABSENCE_SECONDS)


def _is_polled_now(
    market: str, timeframe: str, absent: IntArray, closes: IntArray, at: Epoch
) -> bool:
    """Return whether the missing bars of a timeframe have their time now."""
    if not len(absent):
        return False
    age, minute = at - int(closes[-1]), at // 60 % 60
    if age < FRESH_SECONDS:
        return True
    if age < OFTEN_SECONDS and minute % OFTEN_MINUTES == 0:
        return True
    # What nobody has asked for yet, as after an absence of our own, is asked for at once.
    return minute == SELDOM_AT_MINUTE or gaps.count_noted(market, timeframe, absent) < len(absent)


def _is_read_again(calendar: Calendar, at: Epoch) -> bool:
    """Return whether a session closed some minutes ago that are a time to read again."""
    session = calendar.previous_session(at)
    return session is not None and (at - session.closes_at) // 60 in AGAIN_AFTER_CLOSE_MINUTES
