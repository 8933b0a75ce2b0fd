"""The last bars of each timeframe, kept in memory: a new one costs a look at what has changed.

A row of features needs a quarter's bars, and reading them all again for each new bar was most of
what its features cost. Postgres tells what has changed: `xmin` is the transaction that wrote a row,
so a bar that was added, corrected or taken away changes the count or the sum. Where only new bars
have come they alone are read; anything else reads all again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from django.db import connections

from markets.domain.bars import Bars
from markets.models import Bar
from tradingsite.clock import Epoch

Load = Callable[[str, str, Epoch], Bars]
"""Read the bars of a database and a timeframe that close after an instant."""
Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Cached:
    start: Epoch
    bars: Bars
    version: Version


class RecentBars:
    """Answer with the bars after an instant, the same as reading them."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._kept: dict[tuple[Any, str], _Cached] = {}

    def after(self, alias: str, timeframe: str, start: Epoch) -> Bars:
        """Return the bars of a timeframe that close after an instant, in order."""
        key = (connections[alias].settings_dict["NAME"], timeframe)
        kept = self._kept.get(key)
        # It moves on once a quarter.
        if kept is not None and kept.start != start:
            kept = None
        bars, version = self._now(alias, timeframe, start, kept)
        if len(bars):
            self._kept[key] = _Cached(start, bars, version)
        else:
            self._kept.pop(key, None)
        return bars

    def _now(
        self, alias: str, timeframe: str, start: Epoch, kept: _Cached | None
    ) -> tuple[Bars, Version]:
        last = int(kept.bars.closes_at[-1]) if kept else start
        old, whole = _versions(alias, timeframe, start, last)
        if kept is None or old != kept.version:
            return self._load(alias, timeframe, start), whole
        if whole == old:
            return kept.bars, whole
        new = self._load(alias, timeframe, Epoch(last))
        pairs = ((getattr(kept.bars, each.name), getattr(new, each.name)) for each in fields(Bars))
        return Bars(*(np.concatenate(pair) for pair in pairs)), whole


def _versions(alias: str, timeframe: str, start: int, last: int) -> tuple[Version, Version]:
    """Return what identifies the rows that close in (start, last], and all after the start."""
    query = (
        "SELECT count(*) FILTER (WHERE closes_at <= to_timestamp(%s)), "  # noqa: S608
        "coalesce(sum(xmin::text::bigint) FILTER (WHERE closes_at <= to_timestamp(%s)), 0), "
        "count(*), coalesce(sum(xmin::text::bigint), 0) "
        f"FROM {Bar._meta.db_table} WHERE timeframe = %s AND closes_at > to_timestamp(%s)"
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(query, [last, last, timeframe, start])
        old_count, old_sum, count, total = map(int, cursor.fetchone())
    return (old_count, old_sum), (count, total)
