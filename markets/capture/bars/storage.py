"""Putting what was read where it belongs: bars, then features, then the gaps that it fills.

One transaction a market, under the lock of whoever writes its bars, so that two collectors at once
end in the same rows as one. Reads may come late, twice and in any order: a bar is stored once,
and stored again only where the venue says something else of it, which the log then tells.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from django.db import transaction

from markets import store
from markets.capture.bars import gaps
from markets.domain import bar_rule, timeframes
from markets.domain.bars import PRICES, Bars, BoolArray
from markets.domain.calendar import Calendar
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import CONTEXTS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """Count what reads have changed."""

    new: int = 0
    corrected: int = 0
    filled: int = 0
    """Gaps that had been written down and are none any more."""


def upsert(
    market: str,
    found: Mapping[str, Bars],
    source: str,
    *,
    corrects: bool = True,
    with_features: bool = True,
) -> UpsertCounts:
    """Store the bars of each timeframe and all that follows from them; return what changed.

    Stored bars are left as they are unless `corrects`. Raises WrongSource where bars of another
    source are.
    """
    new = corrected = 0
    changed_from: dict[str, Epoch] = {}
    with transaction.atomic(using=market):
        store.lock_bars(market)
        calendar = store.load_calendar(market)
        for timeframe in sorted(found, key=timeframes.seconds, reverse=True):
            bars = _on_calendar(market, timeframe, found[timeframe], calendar)
            is_new, differs = _compared(market, timeframe, bars)
            wanted = is_new | differs if corrects else is_new
            if not wanted.any():
                continue
            rows = bars.where(wanted)
            store.save_bars(market, timeframe, rows, source)
            new += int(is_new.sum())
            corrected += int(differs.sum()) if corrects else 0
            _note_change(changed_from, market, timeframe, rows)
        if with_features:
            order = sorted(changed_from, key=timeframes.seconds, reverse=True)
            store.append_all(market, {timeframe: changed_from[timeframe] for timeframe in order})
        filled = gaps.mark_filled(market)
    return UpsertCounts(new, corrected, filled)


def differing(market: str, timeframe: str, bars: Bars) -> tuple[Bars, Bars]:
    """Return which of the bars are not stored, and which are stored at other prices."""
    is_new, differs = _compared(market, timeframe, bars, prices_only=True, says=False)
    return bars.where(is_new), bars.where(differs)


def _on_calendar(market: str, timeframe: str, bars: Bars, calendar: Calendar) -> Bars:
    """Return the bars that the calendar gives; the log tells of one that it does not."""
    lawful = bar_rule.is_on_calendar(bars.opens_at, timeframe, calendar)
    for opens_at in bars.opens_at[~lawful].tolist():
        log.warning(
            "%s %s: no bar opens at %s by the calendar, so the venue's is left out",
            market,
            timeframe,
            bar_rule.format_ist(opens_at),
        )
    return bars if lawful.all() else bars.where(lawful)


def _compared(
    market: str, timeframe: str, bars: Bars, *, prices_only: bool = False, says: bool = True
) -> tuple[BoolArray, BoolArray]:
    """Return for each bar whether it is not stored, and whether it is stored otherwise."""
    if not len(bars):
        return bars.compared(bars)
    first, last = int(bars.opens_at[0]), int(bars.closes_at[-1])
    stored = store.load_bars(market, timeframe, Epoch(first), Epoch(last))
    is_new, differs = bars.compared(stored, PRICES) if prices_only else bars.compared(stored)
    if says:
        for row in np.flatnonzero(differs):
            place = int(np.searchsorted(stored.opens_at, bars.opens_at[row]))
            log.warning(
                "%s %s bar of %s is said otherwise now: %s, was %s",
                market,
                timeframe,
                clock.from_seconds(int(bars.opens_at[row])).isoformat(),
                _prices_of(bars, int(row)),
                _prices_of(stored, place),
            )
    return is_new, differs


def _note_change(changed_from: dict[str, Epoch], market: str, timeframe: str, rows: Bars) -> None:
    """Note from which open on each timeframe's features depend on changed bars."""
    for each in store.dependent_timeframes(market, timeframe):
        since = Epoch(rows.opens_at[0])
        if timeframe in CONTEXTS[market, each]:
            # A row joins a context that has closed by its own close, and closes within its length.
            since = Epoch(rows.closes_at[0]) - timeframes.seconds(each)
        changed_from[each] = min(changed_from.get(each, since), since)


def _prices_of(bars: Bars, row: int) -> str:
    return ", ".join(f"{name} {getattr(bars, name)[row]:.4f}" for name in (*PRICES, "volume"))
