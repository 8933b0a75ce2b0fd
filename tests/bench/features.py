"""Build the features of 36,000 fifteen-minute bars at once, and of one new bar after them.

The figures take two context timeframes with them, as a NIFTY 15m row does, and are CPU time of
one thread. `max_abs_difference` compares rows computed one by one with the rebuild: it is zero.
"""

import statistics
import time

import numpy as np

from markets.domain import features
from markets.domain.bars import Bars
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.exogenous import HISTORY_SECONDS, Readings
from markets.simulator.price_path import PricePath
from tests import exogenous
from tradingsite.clock import Epoch

BARS = 36_000
NEW_BARS = 60
MARKET, TIMEFRAME, CONTEXTS = "nifty", "15m", ("1h", "1d")


def run() -> dict[str, float]:
    """Return the figures."""
    calendar = NseCalendar(nse_sessions())
    path = PricePath.build(MARKET, calendar)
    bars = {name: path.bars(name, Epoch(0), Epoch(path.ends_at)) for name in (TIMEFRAME, *CONTEXTS)}
    bars[TIMEFRAME] = bars[TIMEFRAME].slice(len(bars[TIMEFRAME]) - BARS)
    readings = exogenous.all_series(MARKET, 0, path.ends_at)

    def recent(since: Epoch | None) -> dict[str, Readings]:
        # As the store loads them.
        start = 0 if since is None else since - HISTORY_SECONDS
        return {name: exogenous.since(each, start) for name, each in readings.items()}

    def timed(known: dict[str, Bars], since: Epoch | None) -> tuple[features.Features, float]:
        near = recent(since)
        started = time.process_time()
        rows = features.compute(MARKET, TIMEFRAME, known, near, calendar, since)
        return rows, time.process_time() - started

    rebuilds = [timed(bars, None) for _ in range(5)]
    bulk = rebuilds[0][0]
    seconds, differences = [], []
    # Spread over a quarter, for the first bar of a block costs the least and its last the most.
    for row in np.linspace(len(bulk) - 1_600, len(bulk) - 1, NEW_BARS).astype(int):
        limit = int(bulk.closes_at[row])
        known = {name: each.before(limit) for name, each in bars.items()}
        rows, taken = timed(known, Epoch(bulk.opens_at[row]))
        seconds.append(taken)
        differences.append(float(np.abs(rows.values - bulk.values[row : row + 1]).max()))
        if len(rows) != 1:
            raise AssertionError(f"one new bar gave {len(rows)} rows")
    return {
        "rebuild_bars_per_s": BARS / min(taken for _, taken in rebuilds),
        "rebuild_s": min(taken for _, taken in rebuilds),
        "incremental_ms": 1_000.0 * statistics.median(seconds),
        "features_per_row": float(bulk.values.shape[1]),
        "max_abs_difference": max(differences),
    }
