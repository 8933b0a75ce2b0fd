"""The simulated desk's check: the bars the simulator stored against those its broker shows.

Nothing is written but what is wrong: a bar that the simulator did not store is a gap, and one that
stands at other prices is a notice. Volumes are left out, since the simulated venues make their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from markets import store
from markets.capture.bars import gaps, sources, storage
from markets.capture.bars.due import CHECKED_BARS, LOOKBACK_SECONDS, Due
from markets.capture.bars.polling import BarRequest, PollResult
from markets.domain.bar_rule import expected
from markets.domain.bars import Bars
from markets.models import Source
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS

STORED_WITHIN_SECONDS = 5.0
"""Real time that the simulator has for storing a bar which its broker shows already."""
POLL_SECONDS = 0.25

pause = time.sleep


class Comparison:
    """Remember in this process up to which close each timeframe was compared."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], int] = {}

    def due(self, market: str, at: Epoch) -> Due:
        """Return what is to be compared at an instant; the first look only starts from there."""
        requests: dict[str, BarRequest] = {}
        since: dict[str, int] = {}
        closed_at = 0
        calendar = store.load_calendar(market)
        for timeframe in MARKETS[market].timeframes:
            opens, closes = expected(calendar, timeframe, at - LOOKBACK_SECONDS, at)
            if not len(closes):
                continue
            until = self._until.setdefault((market, timeframe), int(closes[-1]))
            later = np.flatnonzero(closes > until)[-CHECKED_BARS:]
            if len(later):
                first, newest = int(opens[later[0]]), int(opens[-1])
                instrument = sources.INSTRUMENTS[market]
                since[timeframe] = int(closes[later[0]]) - 1
                requests[timeframe] = BarRequest(
                    instrument, timeframe, Epoch(first), Epoch(closes[-1]), Epoch(newest)
                )
                closed_at = max(closed_at, int(closes[-1]))
        # Of imported bars, lived through again, the simulated broker has only an image.
        if requests and store.sources(market) != {Source.GENERATED}:
            return Due(market, at, {}, {})
        return Due(market, at, requests, since, Epoch(closed_at))

    def finish(self, due: Due, results: Mapping[BarRequest, PollResult]) -> str:
        """Compare the results with what is stored, tell what is wrong, and say how it stands."""
        market, calendar = due.market, store.load_calendar(due.market)
        same, wrong, unread = 0, [], []
        for timeframe, request in due.requests.items():
            bars = results[request].bars
            opens, closes = expected(calendar, timeframe, Epoch(due.since[timeframe]), due.at)
            self._until[market, timeframe] = int(closes[-1])
            there = int(np.isin(opens, bars.opens_at).sum())
            if there < len(opens):
                reason = results[request].problem or "the venue left them out"
                unread.append(f"{len(opens) - there} of {timeframe} ({reason})")
            missing, other = _wait(market, timeframe, bars)
            gaps.record(market, timeframe, missing.opens_at, "the simulator stored none")
            wrong += [f"{len(missing)} of {timeframe} not stored"] if len(missing) else []
            wrong += [f"{len(other)} of {timeframe} at other prices"] if len(other) else []
            same += there - len(missing) - len(other)
        gaps.mark_filled(market)
        _notify_differences(market, wrong, unread)
        return "; ".join([f"{MARKETS[market].title} {same} alike", *wrong, *unread])


def _wait(market: str, timeframe: str, bars: Bars) -> tuple[Bars, Bars]:
    """Return the bars not stored and those stored otherwise, once the simulator had its time."""
    until = time.monotonic() + STORED_WITHIN_SECONDS
    while True:
        missing, other = storage.differing(market, timeframe, bars)
        if not len(missing) or time.monotonic() >= until:
            return missing, other
        pause(POLL_SECONDS)


def _notify_differences(market: str, wrong: list[str], unread: list[str]) -> None:
    key, title = f"bars:{market}", MARKETS[market].title
    if wrong:
        text = (
            f"The simulator's bars of {title} are not those its venue shows: {'; '.join(wrong)}. "
            f"Nothing was changed; `manage.py bars gaps {market}` lists what is missing."
        )
        notices.notify("infrastructure", "warning", key, text)
    elif unread:
        text = (
            f"Bars of {title} could not be compared with the venue's at "
            f"{clock.market().astimezone(clock.IST):%H:%M}: {'; '.join(unread)}. The simulator "
            f"stores them by itself."
        )
        notices.notify("infrastructure", "info", key, text)
    else:
        notices.resolve(key)
