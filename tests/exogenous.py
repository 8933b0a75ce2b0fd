"""Made readings of India VIX and funding, without a database."""

import numpy as np

from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.exogenous import FUNDING, SERIES_OF, VOLATILITY, Readings


def volatility(start: int, end: int, seed: int = 3) -> Readings:
    """Return levels of India VIX at the sessions' closes in (start, end]."""
    closes = NseCalendar(nse_sessions()).edges()[1]
    closes = closes[(closes > start) & (closes <= end)]
    steps = np.random.default_rng(seed).normal(0.0, 0.04, len(closes))
    return Readings(closes, np.round(15.0 * np.exp(0.3 * np.sin(np.cumsum(steps)) + steps), 4))


def funding(start: int, end: int, every: int = 3_600, seed: int = 4) -> Readings:
    """Return rates of funding at the multiples of an interval in (start, end]."""
    at = np.arange(start // every + 1, end // every + 1, dtype=np.int64) * every
    rates = np.random.default_rng(seed).normal(1e-4, 2e-4, len(at)) * (every / 28_800)
    return Readings(at, np.round(rates, 10))


def all_series(market: str, start: int, end: int) -> dict[str, Readings]:
    """Return every series that a market's features are made of."""
    if market == "nifty":
        return {VOLATILITY: volatility(start, end)}
    return {FUNDING: funding(start, end)}


def nothing(market: str) -> dict[str, Readings]:
    """Return every series without a reading."""
    return {name: Readings.empty() for name in SERIES_OF[market]}


def since(readings: Readings, start: int) -> Readings:
    """Return the readings after an instant, as the store loads them."""
    first = int(np.searchsorted(readings.at, start, side="right"))
    return Readings(readings.at[first:], readings.value[first:])


def until(readings: Readings, end: int) -> Readings:
    """Return the readings up to an instant."""
    stop = int(np.searchsorted(readings.at, end, side="right"))
    return Readings(readings.at[:stop], readings.value[:stop])
