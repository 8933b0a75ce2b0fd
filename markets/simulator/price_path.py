"""The generated market: one seeded price path per market, its history and its future.

A fresh machine has no data and no keys, so it learns and trades on this path. It runs from a
fixed origin to the end of the verified calendar whatever "now" is: history is the part before
now, and the simulated market later reveals the rest of the very same path. Bars of every
timeframe and quotes at every instant are cut from the same three-minute steps, so they agree.

log price = trend + random walk + deviations. Volatility is shared by all of them: U-shaped
through the session, clustered from day to day, multiplied by a regime (calm, bull, bear, crash)
that also drifts; shocks have fat tails, and the market moves on unseen while it is closed, which
makes the opening gaps. The deviations are the planted edge: unlike a real market, this one pays
who sells its excesses and buys its dips, so that a learner that works can be told from one that
does not. Their sizes are set so that every slot leaves a plain linear forecast a yearly Sharpe
ratio of about two to four after costs; most of the variance of an hour must then be theirs.
`edge=False` builds the twin without deviations and regimes of drift, where nothing can be earned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from markets.domain import timeframes
from markets.domain.bars import Bars, BoolArray, FloatArray, IntArray
from markets.domain.calendar import Calendar, Session
from markets.simulator.noise import extreme, fat_tailed
from tradingsite.clock import Epoch

STEP_SECONDS = 180
LAST_DATE = date(2026, 12, 31)

TickArray = npt.NDArray[np.int32]


class Deviation(NamedTuple):
    """Describe one mean-reverting swing round the random walk, in trading time."""

    half_life_hours: float
    deviation_ratio: float
    """Standard deviation of the swing, as a ratio of the price."""

    @property
    def persistence(self) -> float:
        """Return the part of the swing that is left after a step."""
        return float(0.5 ** (STEP_SECONDS / 3_600.0 / self.half_life_hours))

    @property
    def shock(self) -> float:
        """Return the standard deviation of what a step adds to the swing."""
        return self.deviation_ratio * math.sqrt(1.0 - self.persistence**2)

    def path(self, stream: np.random.Generator, scale: FloatArray) -> FloatArray:
        """Return the swing after each step, its shocks multiplied by a scale."""
        persistence = self.persistence
        shocks = (self.shock * scale * stream.standard_normal(len(scale))).tolist()
        values = accumulate(shocks, lambda value, shock: persistence * value + shock)
        return np.fromiter(values, dtype=np.float64, count=len(shocks))


class Regime(NamedTuple):
    """Describe a spell of the market."""

    name: str
    odds: float
    mean_days: float
    drift: float
    """Per year, in multiples of the market's yearly volatility."""
    volatility: float
    """Multiplies the volatility of the day, relative to the other regimes."""


@dataclass(frozen=True, slots=True)
class World:
    """Hold what distinguishes one generated market from another."""

    number: int
    origin: date
    first_price: float
    last_price: float
    tick: float
    sessions_per_year: float
    session_steps: int
    """Steps of an ordinary session; with those of the night, to which the volatility refers."""
    volatility_per_year: float
    """Of the steps, scaled to a year; that of daily returns is less, as the swings revert."""
    night_steps: int
    """Unseen steps the market takes between two sessions: they make the opening gap."""
    deviations: tuple[Deviation, ...]
    volume_per_step: float

    @property
    def steps_per_year(self) -> float:
        """Return the steps of a year, the unseen ones counted in."""
        return self.sessions_per_year * (self.session_steps + self.night_steps)

    @property
    def step_volatility(self) -> float:
        """Return the standard deviation of the log change of an average step."""
        return self.volatility_per_year / math.sqrt(self.steps_per_year)


REGIMES = (
    Regime("calm", 0.40, 90.0, 0.4, 0.75),
    Regime("bull", 0.33, 60.0, 2.2, 0.95),
    Regime("bear", 0.22, 45.0, -2.2, 1.35),
    Regime("crash", 0.05, 7.0, -9.0, 2.40),
)
WORLDS = {
    "nifty": World(
        number=1,
        origin=date(2011, 6, 1),
        first_price=5_500.0,
        last_price=25_000.0,
        tick=0.05,
        sessions_per_year=248.0,
        session_steps=125,
        volatility_per_year=0.18,
        night_steps=25,
        deviations=(Deviation(3.0, 0.0036), Deviation(7.0, 0.0071)),
        volume_per_step=0.0,
    ),
    "btc": World(
        number=2,
        origin=date(2022, 1, 1),
        first_price=46_000.0,
        last_price=90_000.0,
        tick=1.0,
        sessions_per_year=365.0,
        session_steps=480,
        volatility_per_year=0.52,
        night_steps=0,
        deviations=(Deviation(10.0, 0.0125),),
        volume_per_step=60.0,
    ),
}


@dataclass(frozen=True, slots=True)
class PricePath:
    """Hold one market's whole path: prices in ticks at each three-minute step of its sessions."""

    market: str
    tick: float
    session_opens: IntArray
    session_closes: IntArray
    first_steps: IntArray
    """Number of each session's first step, and past the last session the number of steps."""
    opens_at: IntArray
    open: TickArray
    high: TickArray
    low: TickArray
    close: TickArray
    volume: TickArray
    """In thousandths of the unit traded."""
    pauses: tuple[tuple[int, int], ...] = ()
    """When the exchange stood still: a bar that lies in a pause is none, as in the calendar."""
    silences: tuple[tuple[int, int], ...] = ()
    """When the index has no price and futures have: such a bar is part of the one before it."""

    @classmethod
    def build(cls, market: str, calendar: Calendar, seed: int = 7, edge: bool = True) -> PricePath:
        """Return the path of a market, the same for the same seed and calendar.

        `edge=False` takes swings and drifts out and gives the swings' variance to the random
        walk: the steps are as volatile, and the days somewhat more, as nothing reverts.
        """
        world = WORLDS.get(market)
        if world is None:
            raise ValueError(f"no generated market {market!r}; there are {', '.join(WORLDS)}")
        sessions = calendar.sessions(world.origin, LAST_DATE)
        pauses = (calendar.pause_on(session.date) for session in sessions)
        grid = _Grid.of(sessions, world.night_steps)
        streams = np.random.default_rng([seed, world.number]).spawn(6)
        day_scale, day_drift = _days(streams[0], world, len(grid.session_opens))
        scale = day_scale[grid.session] * _session_shape(world, grid)
        levels = _walk(streams[1], world, scale, day_drift[grid.session], edge)
        if edge:
            for deviation, stream in zip(world.deviations, streams[2].spawn(9), strict=False):
                levels[1:] += deviation.path(stream, scale)
        seen_scale = scale[grid.seen]
        opened, closed = levels[grid.seen], levels[grid.seen + 1]
        sigma = world.step_volatility * seen_scale
        return cls(
            market,
            world.tick,
            grid.session_opens,
            grid.session_closes,
            grid.first_steps,
            grid.opens_at,
            _ticks(opened, world),
            _ticks(extreme(streams[3], opened, closed, sigma, +1.0), world),
            _ticks(extreme(streams[4], opened, closed, sigma, -1.0), world),
            _ticks(closed, world),
            _volume(streams[5], world, seen_scale),
            tuple(pause for pause in pauses if pause is not None),
            tuple(each for session in sessions for each in calendar.silences_on(session.date)),
        )

    @property
    def ends_at(self) -> int:
        """Return the instant after which the path knows no price."""
        return int(self.session_closes[-1])

    def bars(self, timeframe: str, start: Epoch, end: Epoch) -> Bars:
        """Return the bars with opens_at >= start that have closed by the end."""
        length = timeframes.seconds(timeframe)
        first, stop = np.searchsorted(self.opens_at, [start, end])
        session = np.searchsorted(self.session_opens, self.opens_at[first:stop], side="right") - 1
        offset = self.opens_at[first:stop] - self.session_opens[session]
        starts = np.flatnonzero(offset % length == 0)
        opens_at = self.opens_at[first + starts]
        ends = self.session_closes[session[starts]]
        closes_at = np.minimum(opens_at + length, ends)
        if self.silences:
            silent, last = self._silent(opens_at, closes_at)
            closes_at = np.where(last, ends, closes_at)[~silent]
            starts, opens_at = starts[~silent], opens_at[~silent]
        starts = starts[: int(np.searchsorted(closes_at, end, side="right"))]
        if len(starts) == 0:
            return Bars.empty()
        count = len(starts)
        # Steps of a last bar that has not closed fall off with the count of the complete ones.
        steps = slice(int(first), int(np.searchsorted(self.opens_at, closes_at[count - 1])))
        lasts = np.append(starts[1:], steps.stop - first) - 1
        bars = Bars(
            opens_at[:count],
            closes_at[:count],
            self._prices(self.open[steps][starts]),
            self._prices(np.maximum.reduceat(self.high[steps], starts)),
            self._prices(np.minimum.reduceat(self.low[steps], starts)),
            self._prices(self.close[steps][lasts]),
            np.add.reduceat(self.volume[steps], starts, dtype=np.int64) / 1_000.0,
        )
        return self._without_pauses(bars)

    def price(self, at: float) -> float | None:
        """Return the quote at an instant, None while the market is closed.

        Within a step the quote runs from its open over both extremes to its close, so that the
        quotes of a bar touch its high and low and never leave them.
        """
        session = int(np.searchsorted(self.session_opens, at, side="right")) - 1
        if session < 0 or at >= self.session_closes[session]:
            return None
        number, seconds = divmod(at - int(self.session_opens[session]), STEP_SECONDS)
        step = int(self.first_steps[session]) + int(number)
        left = int(self.session_closes[session] - self.opens_at[step])
        opened, closed = int(self.open[step]), int(self.close[step])
        high, low = int(self.high[step]), int(self.low[step])
        extremes = (low, high) if closed >= opened else (high, low)
        progress = seconds / min(STEP_SECONDS, left)
        ticks = np.interp(progress, (0.0, 1 / 3, 2 / 3, 1.0), (opened, *extremes, closed))
        return round(round(float(ticks)) * self.tick, 2)

    def prices(self, at: FloatArray) -> FloatArray:
        """Return the quotes at instants, those of `price`; while it is closed, the last before.

        Before the first session there is none: NaN.
        """
        session = np.searchsorted(self.session_opens, at, side="right") - 1
        known, session = session >= 0, np.maximum(session, 0)
        # A closed market stands where it closed, at the very end of its last step.
        inside = np.minimum(at, self.session_closes[session]) - self.session_opens[session]
        inside = np.maximum(inside, 0.0)
        number = np.minimum(inside // STEP_SECONDS, self._last_number[session])
        step = self.first_steps[session] + number.astype(np.int64)
        left = self.session_closes[session] - self.opens_at[step]
        progress = (inside - number * STEP_SECONDS) / np.minimum(STEP_SECONDS, left)
        opened, closed = self.open[step], self.close[step]
        rises = closed >= opened
        first = np.where(rises, self.low[step], self.high[step])
        second = np.where(rises, self.high[step], self.low[step])
        place = progress * 3.0
        ticks = np.where(
            place < 1.0,
            opened + place * (first - opened),
            np.where(
                place < 2.0,
                first + (place - 1.0) * (second - first),
                second + (place - 2.0) * (closed - second),
            ),
        )
        return np.where(known, np.round(np.rint(ticks) * self.tick, 2), np.nan)

    def _silent(self, opens_at: IntArray, closes_at: IntArray) -> tuple[BoolArray, BoolArray]:
        """Return which bars lie in a silence, and which are the last before one."""
        begins, ends = np.array(self.silences, dtype=np.int64).T
        place = np.maximum(np.searchsorted(begins, opens_at, side="right") - 1, 0)
        silent = (begins[place] <= opens_at) & (closes_at <= ends[place])
        to_the_end = begins[np.isin(ends, self.session_closes)]
        return silent, np.isin(closes_at, to_the_end)

    def _without_pauses(self, bars: Bars) -> Bars:
        kept = np.ones(len(bars), dtype=bool)
        for stops, resumes in self.pauses:
            kept &= (bars.opens_at < stops) | (bars.closes_at > resumes)
        if kept.all():
            return bars
        return Bars(*(getattr(bars, each.name)[kept] for each in fields(Bars)))

    @property
    def _last_number(self) -> IntArray:
        return np.diff(self.first_steps) - 1

    def _prices(self, ticks: TickArray) -> FloatArray:
        return np.round(ticks.astype(np.float64) * self.tick, 2)


class _Grid(NamedTuple):
    """Hold the times of all steps in the order of the path, and where the unseen ones are."""

    session_opens: IntArray
    session_closes: IntArray
    first_steps: IntArray
    opens_at: IntArray
    seen: IntArray
    """Place of each step among all steps, the unseen ones of the nights counted in."""
    session: IntArray
    """Session of every step, seen or not; a night belongs to the session it leads to."""

    @classmethod
    def of(cls, sessions: Sequence[Session], night_steps: int) -> _Grid:
        opens = np.array([session.opens_at for session in sessions], dtype=np.int64)
        closes = np.array([session.closes_at for session in sessions], dtype=np.int64)
        counts = -((opens - closes) // STEP_SECONDS)
        firsts = np.concatenate([[0], np.cumsum(counts)])
        number = np.arange(len(opens))
        session = np.repeat(number, counts)
        steps = np.arange(len(session))
        return cls(
            opens,
            closes,
            firsts,
            opens[session] + (steps - firsts[session]) * STEP_SECONDS,
            steps + (session + 1) * night_steps,
            np.repeat(number, counts + night_steps),
        )


def _walk(
    stream: np.random.Generator, world: World, scale: FloatArray, drift: FloatArray, edge: bool
) -> FloatArray:
    """Return the log price before the first and after each step, without the deviations."""
    taken = sum(deviation.shock**2 for deviation in world.deviations) if edge else 0.0
    steps = np.sqrt(world.step_volatility**2 - taken) * scale * fat_tailed(stream, len(scale))
    if edge:
        steps += drift / world.steps_per_year
    levels = np.concatenate([[0.0], np.cumsum(steps)])
    # The trend that leads from the first price to the last, whatever the seed.
    change = np.log(world.last_price / world.first_price)
    levels += np.log(world.first_price) + np.linspace(0.0, change - levels[-1], len(levels))
    return levels


def _days(stream: np.random.Generator, world: World, count: int) -> tuple[FloatArray, FloatArray]:
    """Return each session's volatility multiplier, of mean square 1, and its drift."""
    odds = np.array([regime.odds / regime.mean_days for regime in REGIMES])
    spells = stream.choice(len(REGIMES), size=count, p=odds / odds.sum())
    lengths = stream.geometric([1.0 / REGIMES[spell].mean_days for spell in spells])
    regime = np.repeat(spells, lengths)[:count]
    shocks = 0.28 * np.sqrt(1.0 - 0.97**2) * stream.standard_normal(count)
    cluster = np.fromiter(accumulate(shocks, lambda value, shock: 0.97 * value + shock), float)
    scale = np.array([each.volatility for each in REGIMES])[regime] * np.exp(cluster)
    drift = world.volatility_per_year * np.array([each.drift for each in REGIMES])[regime]
    return scale / np.sqrt(np.mean(scale**2)), drift - drift.mean()


def _session_shape(world: World, grid: _Grid) -> FloatArray:
    """Return each step's volatility relative to its day, of mean square 1 over the seen steps."""
    shape = np.ones(len(grid.session))
    session = grid.session[grid.seen]
    opens, length = grid.session_opens[session], (grid.session_closes - grid.session_opens)[session]
    place = (grid.opens_at - opens + STEP_SECONDS / 2) / length
    if world.night_steps:
        # Longer closures gap wider, less so than in proportion.
        hours = np.diff(grid.session_opens, prepend=grid.session_opens[0] - 86_400) / 3_600.0
        shape = ((hours / 24.0) ** 0.25)[grid.session]
        curve = 0.75 + 1.6 * np.exp(-place / 0.06) + 0.7 * np.exp(-(1.0 - place) / 0.10)
    else:
        # Round the clock: busiest in the American afternoon, quietest twelve hours away.
        curve = 1.0 + 0.3 * np.cos(2.0 * np.pi * (place - 15.0 / 24.0))
    shape[grid.seen] = curve / np.sqrt(np.mean(curve**2))
    return shape


def _ticks(logs: FloatArray, world: World) -> TickArray:
    return np.round(np.exp(logs) / world.tick).astype(np.int32)


def _volume(stream: np.random.Generator, world: World, scale: FloatArray) -> TickArray:
    noise = np.exp(0.6 * stream.standard_normal(len(scale)) - 0.18)
    return np.round(1_000.0 * world.volume_per_step * scale**1.2 * noise).astype(np.int32)
