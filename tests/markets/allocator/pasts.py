"""Made pasts of assets, to measure and to weigh."""

import datetime as dt

import numpy as np

from markets.allocator.metrics import Series, day_number
from markets.domain.bars import FloatArray

AS_OF = dt.date(2026, 6, 1)


def series(
    closes: FloatArray,
    name: str = "one",
    last: dt.date = AS_OF - dt.timedelta(days=1),
    asset_class: str = "equity",
) -> Series:
    """Return closes of consecutive days, the last on a date."""
    stop = day_number(last) + 1
    days = np.arange(stop - len(closes), stop, dtype=np.int64)
    return Series(name, asset_class, "INR", days, np.asarray(closes, dtype=np.float64))


def walk(count: int = 800, deviation: float = 0.01, seed: int = 1) -> FloatArray:
    """Return a random walk of closes, its steps of one deviation."""
    steps = np.random.default_rng(seed).normal(0.0, deviation, count)
    return np.asarray(np.round(100.0 * np.exp(np.cumsum(steps)), 4))
