"""What every underlying of the simulated market is worth at any instant: a function of time.

NIFTY and BTC follow the generated path, or stored bars; the other indices and the shares follow
NIFTY with a swing of their own. Nothing here remembers: the same instant gives the same price, so
history, quotes and ticks agree however they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from markets.domain.bars import Bars, FloatArray
from markets.domain.calendar import Calendar
from markets.simulator.noise import wave

MINUTE = 60
_WEEK = 7 * 86_400
_REFERENCE = 25_000.0
_SWINGS = (180, 3_600, 86_400, 12 * 86_400)


class PriceSource(Protocol):
    """A price for every instant: a generated `PricePath`, or bars that were stored."""

    @property
    def ends_at(self) -> int:
        """Return the instant after which there is no price."""

    def prices(self, at: FloatArray) -> FloatArray:
        """Return the prices at instants; while the market is closed, the last one before."""


class PriceAt(Protocol):
    """A price as a function of instants."""

    def __call__(self, at: FloatArray, /) -> FloatArray:
        """Return the prices at instants."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Describe what follows NIFTY: its price when NIFTY is 25,000, its beta, its own swing."""

    level: float
    beta: float
    swing: float
    """Standard deviation of its own swing, as a ratio of the price."""
    tick: float = 0.05


FOLLOWERS: dict[str, Follower] = {
    "BANKNIFTY": Follower(55_000.0, 1.12, 0.012),
    "SENSEX": Follower(81_800.0, 0.99, 0.002, 0.01),
    "RELIANCE": Follower(1_420.0, 1.05, 0.03, 0.1),
    "HDFCBANK": Follower(985.0, 1.0, 0.02),
    "ICICIBANK": Follower(1_380.0, 1.1, 0.02, 0.1),
    "INFY": Follower(1_510.0, 0.8, 0.03, 0.1),
    "TCS": Follower(3_150.0, 0.7, 0.03, 0.1),
    "SBIN": Follower(905.0, 1.2, 0.03),
    "NIFTYBEES": Follower(281.0, 1.0, 0.001, 0.01),
}


class Prices:
    """Answer what an underlying is worth."""

    def __init__(self, nifty: PriceSource, btc: PriceSource, nse: Calendar, seed: int = 7) -> None:
        self.nse = nse
        self._paths = {"NIFTY": nifty, "BTC": btc}
        self._seed = seed

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names there are prices of."""
        return (*self._paths, *FOLLOWERS, "INDIA VIX")

    def spot(self, name: str, at: FloatArray) -> FloatArray:
        """Return the prices at instants; while the market is closed, the last one before."""
        if name in self._paths:
            return self._paths[name].prices(at)
        if name == "INDIA VIX":
            return self._vix(at)
        follower = FOLLOWERS[name]
        own = wave(name, self._seed, self._open_time(at), _SWINGS)
        ratio = self._paths["NIFTY"].prices(at) / _REFERENCE
        raw = follower.level * ratio**follower.beta * np.exp(follower.swing * own)
        return np.round(np.rint(raw / follower.tick) * follower.tick, 2)

    def spot_at(self, name: str, at: float) -> float:
        """Return the price at one instant."""
        return float(self.spot(name, np.array([at]))[0])

    def bars(self, name: str, seconds: int, start: float, end: float) -> Bars:
        """Return the bars of an underlying that open in [start, end), the forming one included.

        Every price turns at whole minutes only, so a bar's extremes are among its minutes' ends.
        """
        sessions = self._sessions(name, start, end)
        return bars_of(lambda at: self.spot(name, at), sessions, seconds, start, end)

    def _sessions(self, name: str, start: float, end: float) -> list[tuple[int, int]]:
        if name == "BTC":
            first = int(start) // 86_400
            days = range(first, int(end) // 86_400 + 1)
            return [(day * 86_400, (day + 1) * 86_400) for day in days]
        return sessions_between(self.nse, start, end)

    def _vix(self, at: FloatArray) -> FloatArray:
        nifty = self._paths["NIFTY"]
        with np.errstate(invalid="ignore"):
            week = np.log(nifty.prices(at) / nifty.prices(np.maximum(at - _WEEK, 0.0)))
        own = wave("INDIA VIX", self._seed, self._open_time(at), _SWINGS)
        level = 13.5 + 2.2 * own - 110.0 * np.nan_to_num(week)
        return np.round(np.clip(level, 9.0, 70.0) / 0.0025) * 0.0025

    def _open_time(self, at: FloatArray) -> FloatArray:
        """Return each instant, or the last close before it: swings stand still with the market."""
        opens, closes = self.nse.edges()
        session = np.maximum(np.searchsorted(opens, at, side="right") - 1, 0)
        return np.minimum(at, closes[session]).astype(np.float64)


def sessions_between(calendar: Calendar, start: float, end: float) -> list[tuple[int, int]]:
    """Return the opens and closes of the sessions that touch [start, end)."""
    opens, closes = calendar.edges()
    first = int(np.searchsorted(closes, start, side="right"))
    last = int(np.searchsorted(opens, end, side="left"))
    return list(zip(opens[first:last].tolist(), closes[first:last].tolist(), strict=True))


def bars_of(
    price: PriceAt,
    sessions: list[tuple[int, int]],
    seconds: int,
    start: float,
    end: float,
) -> Bars:
    """Return the bars of a price that is a function of time, the last one perhaps still forming."""
    columns: list[tuple[FloatArray, ...]] = []
    for opens_at, closes_at in sessions:
        first = opens_at + max(0, -(-(int(start) - opens_at) // seconds)) * seconds
        stop = min(float(closes_at), end)
        if first >= stop:
            continue
        times = np.append(np.arange(first, stop, MINUTE, dtype=np.float64), stop)
        values = price(times)
        length = seconds // MINUTE
        starts = np.arange(0, len(times) - 1, length)
        tops = np.maximum(values[:-1], values[1:])
        bottoms = np.minimum(values[:-1], values[1:])
        ends = np.minimum(starts + length, len(times) - 1)
        columns.append(
            (
                times[starts],
                np.minimum(times[starts] + seconds, closes_at),
                values[starts],
                np.maximum.reduceat(tops, starts),
                np.minimum.reduceat(bottoms, starts),
                values[ends],
            )
        )
    if not columns:
        return Bars.empty()
    opens, closes, opened, high, low, closed = map(np.concatenate, zip(*columns, strict=True))
    whole = opens.astype(np.int64), closes.astype(np.int64)
    return Bars(*whole, opened, high, low, closed, np.zeros(len(opens)))
