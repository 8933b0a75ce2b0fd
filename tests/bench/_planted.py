"""Markets with a planted edge, and the shares of it that perfect and plain methods reach.

The log price is a random walk plus a deviation d that returns to 0: d[t] = 0.94 d[t-1] + noise, so
the next bar's expected log return is (0.94 - 1) d[t]. Among 24 features one is a noisy view of d,
11 come from the price, one is volatility and 11 are noise. "easy" blurs the view by 0.3 of d's
deviation, "hard" by 1.0 with a louder random walk, "null" has no deviation at all. "regimes" is
"hard" with a random walk that is loud for some hundred bars and quiet for others, so that the
Sharpe ratio and the return are no longer the same thing.

Bars before TRAIN_STOP are for learning, constants of scale included; six spans of 3,890 bars after
them are for judging, each begun flat. Performance is counted in exposures of constant leverage:
a decision at a close is filled at the next open for COST of what is traded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bots.decision.observation import Float32Array
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from tests.panels import make_panel

LIMIT_LOTS = 4
LEVELS = np.arange(-LIMIT_LOTS, LIMIT_LOTS + 1) / LIMIT_LOTS
"""Exposures that whole lots allow, as ratios of the limit."""

COST = 2e-4
TRAIN_STOP = 16_000
FIRST_TEST_BAR, SPAN_BARS, SPANS = 16_100, 3_890, 6
BARS = FIRST_TEST_BAR + SPAN_BARS * SPANS + 10
TRAIN_STARTS = tuple(100 + 3_970 * span for span in range(4))
TEST_STARTS = tuple(FIRST_TEST_BAR + SPAN_BARS * span for span in range(SPANS))

PERSISTENCE, SHOCK = 0.94, 0.004
FEATURES, VIEW = 24, 11
LEVEL_SETTINGS: dict[str, dict[str, float]] = {
    "easy": {"blur": 0.3, "walk": 0.003, "planted": 1.0, "regimes": 0.0},
    "hard": {"blur": 1.0, "walk": 0.004, "planted": 1.0, "regimes": 0.0},
    "null": {"blur": 1.0, "walk": 0.004, "planted": 0.0, "regimes": 0.0},
    "regimes": {"blur": 1.0, "walk": 0.004, "planted": 1.0, "regimes": 0.7},
}
REGIME_PERSISTENCE = 0.99
"""Of the log volatility's deviation from its mean: regimes last some hundred bars."""

Follow = Callable[[IntArray, FloatArray], FloatArray]
"""From bars and exposures held, both (S,), to the exposures to hold next."""


@dataclass(frozen=True)
class Market:
    """One generated market; arrays are (BARS,) but for the features (BARS, 24)."""

    level: str
    seed: int
    open: FloatArray
    close: FloatArray
    features: Float32Array
    deviation: FloatArray
    walk: FloatArray
    """Standard deviation of the random walk's step into each bar."""
    scale: float
    """Standard deviation of the planted state over the training bars."""

    @property
    def expected(self) -> FloatArray:
        """Return the expected log return of the bar after each."""
        return (PERSISTENCE - 1.0) * self.deviation

    @cached_property
    def panel(self) -> PricePanel:
        """Return what the environment trades: one unit a lot, the cost as slippage."""
        return make_panel(self.close, self.open, lot_sizes=(1.0,), slippage=COST)

    @cached_property
    def gap(self) -> FloatArray:
        """Return each bar's simple return from the close before to its open."""
        return np.concatenate(([0.0], self.open[1:] / self.close[:-1] - 1.0))

    @cached_property
    def intraday(self) -> FloatArray:
        """Return each bar's simple return from its open to its close."""
        return self.close / self.open - 1.0


@dataclass(frozen=True)
class Result:
    """What a way of trading earned on each span: sums over its bars, (S,)."""

    log_return: FloatArray
    expected_return: FloatArray
    sharpe: FloatArray
    """Mean over deviation of a bar's return, not annualised."""
    drawdown: FloatArray
    """Deepest, as a ratio of the peak."""
    turnover: FloatArray
    returns: FloatArray
    """Simple returns (S, bars)."""


def make_market(level: str, seed: int) -> Market:
    """Return a market; the same level and seed give the same one."""
    settings = LEVEL_SETTINGS[level]
    random = np.random.default_rng(seed)
    shocks = random.standard_normal(BARS) * SHOCK * settings["planted"]
    deviation = np.zeros(BARS)
    for bar in range(1, BARS):
        deviation[bar] = PERSISTENCE * deviation[bar - 1] + shocks[bar]
    steps = settings["walk"] * _loudness(settings["regimes"], seed)
    price = np.log(100.0) + np.cumsum(random.standard_normal(BARS) * steps) + deviation
    close = np.exp(price)
    gaps = random.standard_normal(BARS) * 2e-4
    open_ = np.concatenate((close[:1], close[:-1] * np.exp(gaps[1:])))
    scale = float(deviation[:TRAIN_STOP].std()) if settings["planted"] else 1.0
    columns = _price_features(price)
    view = deviation / scale + random.standard_normal(BARS) * settings["blur"]
    volatility = columns.pop()
    columns += [view, volatility / volatility[:TRAIN_STOP].mean() - 1.0]
    columns += [random.standard_normal(BARS) for _ in range(FEATURES - len(columns))]
    features = np.clip(np.nan_to_num(np.stack(columns, axis=1)), -5.0, 5.0).astype(np.float32)
    return Market(level, seed, open_, close, features, deviation, steps, scale)


def _loudness(spread: float, seed: int) -> FloatArray:
    """Return the random walk's volatility over its usual one, (BARS,): its log has this spread."""
    # Draws of its own, so that the other levels are what they were.
    random = np.random.default_rng((seed, 1))
    shocks = random.standard_normal(BARS) * np.sqrt(1.0 - REGIME_PERSISTENCE**2)
    level = np.zeros(BARS)
    for bar in range(1, BARS):
        level[bar] = REGIME_PERSISTENCE * level[bar - 1] + shocks[bar]
    loudness: FloatArray = np.exp(spread * level - spread**2)
    return loudness


def _price_features(price: FloatArray) -> list[FloatArray]:
    """Return momenta and distances from averages over volatility, and volatility last."""
    changes = np.diff(price, prepend=price[0])
    volatility = np.sqrt(np.convolve(changes**2, np.ones(20) / 20)[:BARS] + 1e-12)
    columns = []
    for bars in (1, 2, 4, 8, 16, 32):
        moved = np.concatenate((np.zeros(bars), price[bars:] - price[:-bars]))
        columns.append(moved / (volatility * np.sqrt(bars) + 1e-9))
    level = price - price[0]
    for bars in (4, 8, 16, 32, 64):
        average = np.convolve(level, np.ones(bars) / bars)[:BARS]
        average[:bars] = level[:bars]
        columns.append((level - average) / (volatility * np.sqrt(bars) + 1e-9))
    return [*columns, volatility]


def earned(market: Market, exposures: FloatArray, starts: tuple[int, ...]) -> Result:
    """Return what exposures (bars + 1, S) earned, held from each span's start, the first flat."""
    before, after = exposures[:-1], exposures[1:]
    decided = np.asarray(starts) + np.arange(len(after))[:, None]
    traded = np.abs(after - before)
    growth = (1.0 + before * market.gap[decided + 1]) * (1.0 + after * market.intraday[decided + 1])
    returns = growth * (1.0 - traded * COST) - 1.0
    expected = after * market.expected[decided] - traded * COST
    return Result(
        log_return=np.log1p(returns).sum(axis=0),
        expected_return=expected.sum(axis=0),
        sharpe=returns.mean(axis=0) / (returns.std(axis=0) + 1e-12),
        drawdown=_deepest_drawdown(returns),
        turnover=traded.mean(axis=0),
        returns=returns.T,
    )


def _deepest_drawdown(returns: FloatArray) -> FloatArray:
    wealth = np.concatenate((np.ones((1, returns.shape[1])), np.cumprod(1.0 + returns, axis=0)))
    drawdown: FloatArray = (1.0 - wealth / np.maximum.accumulate(wealth, axis=0)).max(axis=0)
    return drawdown


def follow(market: Market, rule: Follow, starts: tuple[int, ...] = TEST_STARTS) -> Result:
    """Return what a rule earns that is asked at every close of the spans."""
    bars = np.asarray(starts)
    exposures = [np.zeros(len(starts))]
    for step in range(SPAN_BARS - 2):
        exposures.append(rule(bars + step, exposures[-1]))
    return earned(market, np.stack(exposures), starts)


def oracle(market: Market, starts: tuple[int, ...] = TEST_STARTS) -> Result:
    """Return what the best policy earns that sees the planted deviation itself."""
    return _by_value_iteration(market, market.deviation, float(market.deviation.std()), starts)


def kalman(market: Market, starts: tuple[int, ...] = TEST_STARTS) -> Result:
    """Return what the best policy earns on an exact filter of the two public signals."""
    estimate = kalman_estimate(market)
    return _by_value_iteration(market, estimate, float(estimate[:TRAIN_STOP].std()), starts)


def kalman_estimate(market: Market) -> FloatArray:
    """Return the deviation as filtered from its blurred view and the price's changes.

    A change of the price is a change of the deviation plus the random walk's step, so the state is
    the deviation now and before. The filter knows how loud the walk is at each bar.
    """
    settings, price = LEVEL_SETTINGS[market.level], np.log(market.close)
    move = np.array([[PERSISTENCE, 0.0], [1.0, 0.0]])
    shock = np.diag([SHOCK**2, 0.0])
    see = np.array([[1.0 / market.scale, 0.0], [1.0, -1.0]])
    blur = np.diag([settings["blur"] ** 2, 0.0])
    view = market.features[:, VIEW].astype(np.float64)
    state, covariance = np.zeros(2), np.eye(2) * SHOCK**2 / (1.0 - PERSISTENCE**2)
    estimate = np.zeros(len(price))
    for bar in range(1, len(price)):
        state, covariance = move @ state, move @ covariance @ move.T + shock
        blur[1, 1] = market.walk[bar] ** 2
        spread = see @ covariance @ see.T + blur
        gain = np.linalg.solve(spread, see @ covariance).T
        seen = np.array([view[bar], price[bar] - price[bar - 1]])
        state = state + gain @ (seen - see @ state)
        covariance = covariance - gain @ see @ covariance
        estimate[bar] = state[0]
    return estimate


def _by_value_iteration(
    market: Market, signal: FloatArray, deviation: float, starts: tuple[int, ...]
) -> Result:
    """Follow the policy that is best for a signal of this deviation, over a grid of 101 values."""
    grid = np.linspace(-4.0 * deviation, 4.0 * deviation, 101)
    innovation = deviation * np.sqrt(1.0 - PERSISTENCE**2)
    odds = np.exp(-0.5 * ((grid - PERSISTENCE * grid[:, None]) / innovation) ** 2)
    odds /= odds.sum(axis=1, keepdims=True)
    variance = np.diff(np.log(market.close[:TRAIN_STOP])).var()
    now = (PERSISTENCE - 1.0) * grid[:, None] * LEVELS - 0.5 * variance * LEVELS**2
    cost = np.abs(LEVELS[:, None] - LEVELS) * COST
    values = np.zeros((len(grid), len(LEVELS)))
    for _ in range(800):
        held = now + 0.99 * (odds @ values)
        values = (held[:, None, :] - cost).max(axis=2)
    best = (held[:, None, :] - cost).argmax(axis=2)

    def rule(bars: IntArray, exposures: FloatArray) -> FloatArray:
        seen = np.abs(grid - signal[bars][:, None]).argmin(axis=1)
        place = np.rint((exposures + 1.0) * LIMIT_LOTS).astype(int)
        wanted: FloatArray = LEVELS[best[seen, place]]
        return wanted

    return follow(market, rule, starts)


def ridge(market: Market, starts: tuple[int, ...] = TEST_STARTS) -> Result:
    """Return what a linear forecast from eight bars' features earns with a band of no trade.

    Its penalty and band are those that earned most on the last 3,000 training bars.
    """
    rows = market.features.astype(np.float64)
    lagged = np.concatenate([np.roll(rows, lag, axis=0) for lag in range(8)], axis=1)
    inputs = np.concatenate((lagged, np.ones((BARS, 1))), axis=1)
    price = np.log(market.close)
    target = np.diff(price, append=price[-1])
    fitted, checked = np.arange(200, 13_000), np.arange(13_000, TRAIN_STOP - 1)
    choices = [
        (_band_profit(_fit(inputs, target, fitted, penalty)[checked], target[checked], band), i)
        for i, (penalty, band) in enumerate(_RIDGE_CHOICES)
    ]
    penalty, band = _RIDGE_CHOICES[max(choices)[1]]
    forecast = _fit(inputs, target, np.arange(200, TRAIN_STOP - 1), penalty)
    return follow(
        market,
        lambda bars, held: np.where(
            forecast[bars] > band, 1.0, np.where(forecast[bars] < -band, -1.0, held)
        ),
        starts,
    )


_RIDGE_CHOICES = [
    (penalty, band)
    for penalty in (100.0, 1_000.0, 10_000.0, 100_000.0)
    for band in (0.0, 1e-4, 2e-4, 4e-4, 8e-4)
]


def _fit(inputs: FloatArray, target: FloatArray, rows: IntArray, penalty: float) -> FloatArray:
    seen = inputs[rows]
    weights = np.linalg.solve(
        seen.T @ seen + penalty * np.eye(seen.shape[1]), seen.T @ target[rows]
    )
    forecast: FloatArray = inputs @ weights
    return forecast


def _band_profit(forecast: FloatArray, moves: FloatArray, band: float) -> float:
    held = profit = 0.0
    for wanted, moved in zip(forecast.tolist(), moves.tolist(), strict=True):
        new = 1.0 if wanted > band else -1.0 if wanted < -band else held
        profit += new * moved - abs(new - held) * COST
        held = new
    return profit


def share(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the pooled share of one over the other."""
    return float(one.sum() / other.sum())
