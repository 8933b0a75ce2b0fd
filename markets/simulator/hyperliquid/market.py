"""The exchange's market: assets, marks, books, candles and funding, all functions of market time.

The price is the shared market's; spreads, depth, volumes, open interest and premium follow stated
rules and random numbers by key, so that whoever asks again about the same instant gets the same.
The book refills at once: what an order takes from it does not move the price.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

import numpy as np

from markets.domain.bars import Bars, FloatArray
from markets.domain.calendar import epoch_day
from markets.simulator.noise import key_of, uniform, wave
from markets.simulator.price_path import WORLDS
from markets.simulator.prices import Prices

HOUR = 3_600
DAY = 86_400
INTERVALS = {
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": 7 * DAY,
}
MOST_CANDLES = 5_000
DEPTH_LEVELS = 20
# Units on the first level are this at least and up to twice as much again; each level further
# out holds half of the first more.
_LEVEL_UNITS = 0.3
_BEAT_SECONDS = 2.0
_UNITS_PER_MINUTE = 20.0
_PERIODS = (600, 2 * HOUR, DAY)
# Funding of an hour by the documented formula: an eighth of the premium, and of the gap between
# the interest and the premium where that gap is small.
_INTEREST = 0.0001
_GAP = 0.0005
_PREMIUM_DEVIATION = 0.0003


@dataclass(frozen=True, slots=True)
class Asset:
    """Describe a perpetual contract; its place in the universe is its number on the wire."""

    name: str
    size_decimals: int
    most_leverage: int
    interest_units: float
    """About how much of it is open."""

    @property
    def size_step(self) -> Decimal:
        """Return the smallest step of a size, in units."""
        return Decimal(1).scaleb(-self.size_decimals)

    def tick(self, price: Decimal) -> Decimal:
        """Return the step of a price: five significant figures, whole numbers always allowed."""
        figures = price.adjusted() - 4
        decimals = 6 - self.size_decimals
        return Decimal(1).scaleb(min(max(figures, -decimals), 0))


UNIVERSE = (Asset("BTC", 5, 40, 28_000.0),)
BY_NAME = {asset.name: asset for asset in UNIVERSE}


@dataclass(frozen=True, slots=True)
class Level:
    """Hold one price of a book, and how much stands there, in units."""

    price: Decimal
    size: Decimal
    orders: int


@dataclass(frozen=True, slots=True)
class Book:
    """Hold both sides of an instant's book, the best first."""

    at: float
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @property
    def mid(self) -> Decimal:
        """Return the price between the best bid and the best offer."""
        return (self.bids[0].price + self.asks[0].price) / 2


class PerpMarket:
    """Answer what the exchange's contracts are worth at an instant of market time."""

    def __init__(self, prices: Prices, seed: int = 7) -> None:
        self._prices = prices
        self._seed = seed

    def marks(self, asset: Asset, at: FloatArray) -> list[Decimal]:
        """Return the mark prices at instants."""
        prices = self._prices.spot(asset.name, at).tolist()
        return [_to_tick(asset, price) for price in prices]

    def mark(self, asset: Asset, at: float) -> Decimal:
        """Return the mark price at an instant."""
        return self.marks(asset, np.array([at]))[0]

    def oracle(self, asset: Asset, at: float) -> Decimal:
        """Return the index price, from which the mark is a premium away."""
        return _to_tick(asset, float(self.mark(asset, at)) / (1.0 + self.premium(asset, at)))

    def premium(self, asset: Asset, at: float) -> float:
        """Return how far the mark is above the index, as a ratio."""
        return float(self._premiums(asset, np.array([at]))[0])

    def funding_rate(self, asset: Asset, at: float) -> Decimal:
        """Return the rate of the hour that an instant lies in: what longs pay shorts for it."""
        return self.funding_rates(asset, np.array([at]))[0]

    def funding_rates(self, asset: Asset, at: FloatArray) -> list[Decimal]:
        """Return the rates of the hours that instants lie in."""
        premiums = self._premiums(asset, at - at % HOUR)
        gaps = np.clip(_INTEREST - premiums, -_GAP, _GAP)
        return [Decimal(repr(round(rate, 8))) for rate in ((premiums + gaps) / 8.0).tolist()]

    def open_interest(self, asset: Asset, at: float) -> Decimal:
        """Return how many units are open."""
        swing = wave(f"{asset.name} interest", self._seed, np.array([at]), _PERIODS)
        return Decimal(repr(round(asset.interest_units * (1.0 + 0.04 * float(swing[0])), 2)))

    def book(self, asset: Asset, at: float) -> Book:
        """Return the twenty best levels of both sides; the spread is one to two ticks."""
        price = Decimal(repr(float(self._prices.spot_at(asset.name, at))))
        tick = asset.tick(price)
        best_bid = _rounded(price - tick / 2, tick, ROUND_FLOOR)
        best_ask = _rounded(price + tick / 2, tick, ROUND_CEILING)
        numbers = int(at / _BEAT_SECONDS) * 2 * DEPTH_LEVELS + np.arange(2 * DEPTH_LEVELS)
        luck = uniform(key_of(f"{asset.name} depth", self._seed), numbers).tolist()
        bids, asks = luck[:DEPTH_LEVELS], luck[DEPTH_LEVELS:]
        return Book(
            at,
            tuple(_level(asset, best_bid - tick * i, i, each) for i, each in enumerate(bids)),
            tuple(_level(asset, best_ask + tick * i, i, each) for i, each in enumerate(asks)),
        )

    def candles(self, asset: Asset, interval: str, start: float, end: float, now: float) -> Bars:
        """Return the bars that open in [start, end), at most the last 5000, as they are now.

        A bar that opens before the end is told whole, or as far as it has formed.
        """
        seconds = INTERVALS[interval]
        until = min(-(-end // seconds) * seconds, now)
        oldest = (now // seconds - MOST_CANDLES + 1) * seconds
        listed = epoch_day(WORLDS["btc"].origin) * DAY
        first = -(-max(start, oldest, listed) // seconds) * seconds
        if first >= until:
            return Bars.empty()
        parts = self._prices.bars(asset.name, min(seconds, DAY), first, until)
        bars = _merged(parts, seconds) if seconds > DAY else parts
        volume = self._volumes(asset, bars, until)
        prices = (bars.open, bars.high, bars.low, bars.close)
        return Bars(bars.opens_at, bars.closes_at, *prices, volume)

    def day_volume(self, asset: Asset, at: float) -> float:
        """Return the units traded in the 24 hours before an instant."""
        whole = int(at) // 60
        return float(self._minutes(asset, whole - DAY // 60, whole).sum())

    def _premiums(self, asset: Asset, at: FloatArray) -> FloatArray:
        return _PREMIUM_DEVIATION * wave(f"{asset.name} premium", self._seed, at, _PERIODS)

    def _minutes(self, asset: Asset, first: int, stop: int) -> FloatArray:
        luck = uniform(key_of(f"{asset.name} volume", self._seed), np.arange(first, stop))
        return _UNITS_PER_MINUTE * (0.25 + 1.5 * luck)

    def _volumes(self, asset: Asset, bars: Bars, end: float) -> FloatArray:
        """Return the units of each bar; of a minute that is not over, none yet."""
        if not len(bars):
            return bars.volume
        first, stop = int(bars.opens_at[0]) // 60, int(end) // 60
        total = np.concatenate([[0.0], np.cumsum(self._minutes(asset, first, stop))])
        opens = bars.opens_at // 60 - first
        closes = np.minimum(bars.closes_at // 60 - first, stop - first)
        found: FloatArray = np.round(
            total[np.maximum(closes, opens)] - total[opens], asset.size_decimals
        )
        return found


def _merged(days: Bars, seconds: int) -> Bars:
    group = days.opens_at // seconds
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    ends = np.append(starts[1:], len(days)) - 1
    return Bars(
        days.opens_at[starts],
        days.opens_at[starts] + seconds,
        days.open[starts],
        np.maximum.reduceat(days.high, starts),
        np.minimum.reduceat(days.low, starts),
        days.close[ends],
        np.zeros(len(starts)),
    )


def _level(asset: Asset, price: Decimal, place: int, luck: float) -> Level:
    units = _LEVEL_UNITS * (1.0 + 2.0 * luck) * (1.0 + 0.5 * place)
    return Level(price, _rounded(Decimal(repr(units)), asset.size_step, ROUND_FLOOR), 1 + place % 4)


def _to_tick(asset: Asset, price: float) -> Decimal:
    exact = Decimal(repr(price))
    return _rounded(exact, asset.tick(exact), ROUND_HALF_EVEN)


def _rounded(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).quantize(Decimal(1), rounding=rounding) * step
