"""What stands beside the bars, as columns, and what of it a bar may know: India VIX, funding.

A reading counts for a bar from a minute after its own instant, because that is when it has come to
the desk: the one of the very instant at which a bar closes belongs to the next bar, in training as
live. So the volatility of a session's close is known from the next session on, and a payment of the
hour from the next bar on. What is not known, or is too old to be believed, is 0: the level of an
ordinary day and no change. A feature that is 0 over a whole training span is masked by the encoder,
so that no live value can push a model off what it has seen.

Sums of rates are sums of whole numbers, so that a value does not depend on where the readings given
begin: a rebuild of ten years and the increment of one bar agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from markets.domain.bars import FloatArray, IntArray
from markets.domain.calendar import DAY_SECONDS, Calendar

VOLATILITY = "INDIA VIX 1d"
"""India VIX at the sessions' closes: the one form of it that imported histories have as well."""
FUNDING = "FUNDING"
"""What longs paid shorts at each payment, as a ratio of the position's value."""
SERIES_OF = {"nifty": (VOLATILITY,), "btc": (FUNDING,)}
"""The series that a market's features, and what its positions cost, are made of."""

KNOWN_AFTER_SECONDS = 60
HISTORY_SECONDS = 30 * DAY_SECONDS
"""How far before its close the readings of a bar's row reach, and more."""

TYPICAL_VOLATILITY = 15.0
"""The level that counts as 0, near India VIX's median since 2010."""
SESSIONS_BACK = 2
"""A level from before the last two sessions is too old; one of them may lack its reading."""
LONGEST_INTERVAL_SECONDS = 8 * 3_600
"""No exchange pays funding more seldom; a longer pause is a hole in the readings."""
ASSUMED_RATE = 0.0001
"""What longs pay for eight hours where nobody knows: the interest in both exchanges' formulas."""
# A venue's payments come a moment after the hour.
_JITTER_SECONDS = 600
RECENT_SECONDS = LONGEST_INTERVAL_SECONDS + _JITTER_SECONDS
MEAN_SECONDS = 3 * DAY_SECONDS
_BPS_OF_INTERVAL = 10_000 * LONGEST_INTERVAL_SECONDS
_UNIT = 1e10
"""Readings are stored to ten decimals."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Hold a series: when each reading is of, in ascending epoch seconds, and its value."""

    at: IntArray
    value: FloatArray

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def empty(cls) -> Readings:
        """Return a series without a reading."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0))


def columns(
    market: str, readings: Mapping[str, Readings], closes_at: IntArray, calendar: Calendar
) -> dict[str, FloatArray]:
    """Return the features that bars closing at ascending instants have of a market's readings."""
    missing = [name for name in SERIES_OF[market] if name not in readings]
    if missing:
        raise ValueError(f"{market} features need the readings of {', '.join(missing)} too")
    if market == "nifty":
        return volatility_columns(readings[VOLATILITY], closes_at, calendar)
    return funding_columns(readings[FUNDING], closes_at)


def volatility_columns(
    readings: Readings, closes_at: IntArray, calendar: Calendar
) -> dict[str, FloatArray]:
    """Return the last known level against the typical one and its change over a session, as logs.

    Both are 0 where the level is unknown or older than the last two sessions.
    """
    at, level = readings.at, readings.value
    if not len(at):
        return dict.fromkeys(("vix", "vix_change"), np.zeros(len(closes_at)))
    opens, closes = calendar.edges()
    limit = closes_at - KNOWN_AFTER_SECONDS
    # A reading is of the session that opened last before it; sessions are counted from 1 on.
    session = np.searchsorted(opens, at)
    last = np.searchsorted(at, limit, side="right") - 1
    before = np.maximum(last - 1, 0)
    closed = np.searchsorted(closes, limit, side="right")
    is_known = (last >= 0) & (session[last] > closed - SESSIONS_BACK) & (level[last] > 0.0)
    has_change = is_known & (last > 0) & (level[before] > 0.0)
    has_change &= session[before] >= session[last] - SESSIONS_BACK
    now = np.where(is_known, level[last], TYPICAL_VOLATILITY)
    return {
        "vix": np.log(now / TYPICAL_VOLATILITY),
        "vix_change": np.log(now / np.where(has_change, level[before], now)),
    }


def funding_columns(readings: Readings, closes_at: IntArray) -> dict[str, FloatArray]:
    """Return what longs paid lately and over three days, each in basis points for eight hours.

    "Lately" is eight hours, the last payment of an exchange that pays every eight and the mean of
    the last eight of one that pays hourly, so that both mean the same. Both are 0 where the last
    payment is older than that, and the mean also where less than half of its days is known.
    """
    limit = closes_at - KNOWN_AFTER_SECONDS
    paid, covered = _running(readings)
    stop = np.searchsorted(readings.at, limit, side="right")
    rates = []
    for window in (RECENT_SECONDS, MEAN_SECONDS):
        start = np.searchsorted(readings.at, limit - window, side="right")
        seconds = covered[stop] - covered[start]
        rate = (paid[stop] - paid[start]) * (_BPS_OF_INTERVAL / _UNIT) / np.maximum(seconds, 1)
        rates.append((rate, seconds))
    (recent, recent_seconds), (mean, mean_seconds) = rates
    is_fresh = recent_seconds > 0
    return {
        "funding": np.where(is_fresh, recent, 0.0),
        "funding_mean": np.where(is_fresh & (2 * mean_seconds >= MEAN_SECONDS), mean, 0.0),
    }


def paid_between(readings: Readings, after: IntArray, until: IntArray) -> FloatArray:
    """Return the sums of the rates paid in each (after, until].

    Where the last payment known is older than the longest interval, holding is not free: the
    exchanges' own rate of interest, to which funding falls back, is assumed.
    """
    paid, _ = _running(readings)
    first, stop = (np.searchsorted(readings.at, each, side="right") for each in (after, until))
    known = _known_seconds(readings, until) - _known_seconds(readings, after)
    assumed = (until - after - known) * (ASSUMED_RATE / LONGEST_INTERVAL_SECONDS)
    return (paid[stop] - paid[first]) / _UNIT + assumed


def _known_seconds(readings: Readings, at: IntArray) -> IntArray:
    """Return for how long, before each instant, a payment known was fresh."""
    if not len(readings):
        return np.zeros(len(at), dtype=np.int64)
    fresh = np.minimum(np.diff(readings.at), RECENT_SECONDS)
    before = np.concatenate(([0], np.cumsum(fresh)))
    last = np.searchsorted(readings.at, at, side="right") - 1
    place = np.maximum(last, 0)
    since = np.minimum(at - readings.at[place], RECENT_SECONDS)
    return np.where(last < 0, 0, before[place] + since)


def _running(readings: Readings) -> tuple[IntArray, IntArray]:
    """Return the rates paid and the seconds they were for before each reading, and after all."""
    at = readings.at
    rates = np.rint(readings.value * _UNIT).astype(np.int64)
    lasted = np.diff(at, prepend=at[:1] - LONGEST_INTERVAL_SECONDS)
    lasted = np.minimum(lasted, LONGEST_INTERVAL_SECONDS)
    return np.append(0, np.cumsum(rates)), np.append(0, np.cumsum(lasted))
