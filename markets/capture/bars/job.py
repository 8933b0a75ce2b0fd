"""The job of each minute: what is due of every market's bars, asked for at the same time.

Each market's venue is asked in a thread of its own, so that a broker that hangs holds up no other;
what is stored is stored here, market by market as the results come. A market that fails does not
keep the others from being stored: its error is raised at the end.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from django.conf import settings

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.capture.bars import comparison, polling, sources
from markets.capture.bars import due as due_bars
from markets.capture.bars.due import Due
from markets.capture.bars.policy import CollectionPolicy, current_policy
from markets.capture.bars.polling import BarRequest, PollResult
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry
from tradingsite.models import JobRun
from tradingsite.registry import MARKETS
from tradingsite.scheduling.jobs import Fulfilled, NotWanted, Skipped

log = logging.getLogger(__name__)

_comparison = comparison.Comparison()
_busy = threading.Lock()


def wanted(at: dt.datetime) -> None:
    """Want the minutes in which something is due, one firing at a time."""
    now = clock.market_epoch()
    if _busy.locked():
        raise NotWanted
    if not (_due(now) or _readings_due(now)):
        raise Fulfilled


def collect(run: JobRun) -> str:
    """Read what is due, store or compare it, and say how it went."""
    if not _busy.acquire(blocking=False):
        raise Skipped("the firing before is still at it")
    try:
        return _collect(clock.market_epoch(), current_policy())
    finally:
        _busy.release()


def _collect(now: Epoch, policy: CollectionPolicy) -> str:
    said: list[str] = []
    errors: list[Exception] = []
    due = _due(now)
    _wait_for_close(due)
    with ThreadPoolExecutor(max_workers=max(len(due), 1)) as pool:
        asked: dict[Future[dict[BarRequest, PollResult]], Due] = {}
        for each in due:
            venue, calendar = sources.venue_of(each.market), store.load_calendar(each.market)
            asked[pool.submit(polling.poll, venue, calendar, list(each.requests.values()))] = each
        for done in as_completed(asked):
            each = asked[done]
            try:
                said.append(_finish(each, done.result(), policy))
            except Exception as error:
                log.exception("bars of %s", each.market)
                errors.append(error)
    said += _fetch_exogenous(now, policy)
    if errors:
        raise errors[0]
    return "; ".join(said) or "nothing was due any more"


def _due(now: Epoch) -> list[Due]:
    find: Callable[[str, Epoch], Due] = (
        due_bars.due if current_policy().collects else _comparison.due
    )
    found = (find(market, now) for market in _markets_here())
    return [each for each in found if each.requests]


def _markets_here() -> list[str]:
    return [market for market in MARKETS if market in settings.DATABASES]


def _finish(due: Due, results: dict[BarRequest, PollResult], policy: CollectionPolicy) -> str:
    if policy.collects:
        return due_bars.finish(due, results, policy)
    return _comparison.finish(due, results)


def _wait_for_close(due: list[Due]) -> None:
    """Wait until a second of real time after the newest close."""
    closed_at = max((each.closed_at for each in due), default=0)
    left = polling.AFTER_CLOSE_SECONDS - (clock.market_seconds() - closed_at) / clock.speed()
    if left > 0.0:
        polling.pause(min(left, polling.AFTER_CLOSE_SECONDS))


def _readings_due(now: Epoch) -> list[tuple[exogenous_capture.Series, int]]:
    found = []
    for market in _markets_here():
        for series in exogenous_capture.of_market(market):
            start = exogenous_capture.due(series, now)
            # Beside imported bars a simulated venue has nothing to say.
            if start is not None and exogenous_capture.is_of_same_world(
                market, current_policy().source
            ):
                found.append((series, start))
    return found


def _fetch_exogenous(now: Epoch, policy: CollectionPolicy) -> list[str]:
    """Fetch the readings that are due; one that fails is asked for again and is no failure."""
    said = []
    for series, start in _readings_due(now):
        try:
            rows = exogenous_capture.fetch(series, Epoch(start), now)
        except (Retry, Degraded) as error:
            log.warning("%s: %s", series.name, error)
            said.append(f"{series.name} did not come: {error}")
            continue
        changed = exogenous_capture.upsert(series, rows, policy.source)
        said.append(f"{changed} of {series.name}")
    return said
