"""A price for every instant of bars that were stored: the real past, lived through again.

Within a bar the price runs from its open over both extremes to its close, like the generated one,
so that whoever watches sees the bar's own high and low and nothing beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from markets import store
from markets.domain.bars import Bars, FloatArray
from markets.domain.timeframes import seconds
from tradingsite.registry import MARKETS


@dataclass(frozen=True, slots=True)
class StoredPath:
    """Follow stored bars; between two of them the last close stands."""

    bars: Bars

    @classmethod
    def of(cls, market: str) -> StoredPath | None:
        """Return the path of a market's finest stored bars, None where it has none."""
        for timeframe in sorted(MARKETS[market].timeframes, key=seconds):
            bars = store.load_bars(market, timeframe)
            if len(bars):
                return cls(bars)
        return None

    @property
    def ends_at(self) -> int:
        """Return when the last bar closes."""
        return int(self.bars.closes_at[-1])

    def covers(self, at: float) -> bool:
        """Return whether an instant lies among the bars, between two of them included."""
        return int(self.bars.opens_at[0]) <= at < self.ends_at

    def price(self, at: float) -> float | None:
        """Return the price at an instant, None outside every bar."""
        place = int(np.searchsorted(self.bars.opens_at, at, side="right")) - 1
        if place < 0 or at >= self.bars.closes_at[place]:
            return None
        return float(self.prices(np.array([at]))[0])

    def prices(self, at: FloatArray) -> FloatArray:
        """Return the prices at instants; outside the bars the last close, before the first NaN."""
        bars = self.bars
        place = np.searchsorted(bars.opens_at, at, side="right") - 1
        known, place = place >= 0, np.maximum(place, 0)
        length = bars.closes_at[place] - bars.opens_at[place]
        progress = np.clip((at - bars.opens_at[place]) / length, 0.0, 1.0) * 3.0
        opened, closed = bars.open[place], bars.close[place]
        rises = closed >= opened
        first = np.where(rises, bars.low[place], bars.high[place])
        second = np.where(rises, bars.high[place], bars.low[place])
        leg = np.minimum(progress.astype(np.int64), 2)
        start = np.choose(leg, [opened, first, second])
        end = np.choose(leg, [first, second, closed])
        return np.where(known, np.round(start + (progress - leg) * (end - start), 4), np.nan)
