"""The bench's planted market: money by hand, yardsticks in order, nothing where no edge is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import _planted as planted
from tests.bench.learn import excess_z


@pytest.fixture(scope="module")
def market() -> planted.Market:
    return planted.make_market("easy", 7)


def test_what_exposures_earn_is_counted_bar_by_bar(market: planted.Market) -> None:
    exposures = np.array([[0.0], [1.0], [1.0], [-0.5]])
    start = 500
    result = planted.earned(market, exposures, (start,))
    open_, close = market.open[start:], market.close[start:]
    wealth = close[1] / open_[1] * (1.0 - planted.COST) * close[2] / close[1]
    wealth *= open_[3] / close[2] * (1.0 - 0.5 * (close[3] / open_[3] - 1.0))
    wealth *= 1.0 - 1.5 * planted.COST
    assert result.log_return[0] == pytest.approx(np.log(wealth))
    expected = market.expected[start : start + 3] @ [1.0, 1.0, -0.5] - 2.5 * planted.COST
    assert result.expected_return[0] == pytest.approx(expected)
    assert result.turnover[0] == pytest.approx(2.5 / 3)


def test_the_panel_has_the_market_s_prices_and_costs(market: planted.Market) -> None:
    assert market.panel.slippage == planted.COST
    np.testing.assert_array_equal(market.panel.close, market.close)
    assert market.features.shape == (planted.BARS, planted.FEATURES)
    assert np.isfinite(market.features).all()


def test_constants_of_scale_are_the_training_bars(market: planted.Market) -> None:
    stop = planted.TRAIN_STOP
    assert market.scale == pytest.approx(market.deviation[:stop].std())
    # The blurred view is of the state, and the other noise is of nothing.
    state = market.deviation / market.scale
    assert np.corrcoef(market.features[:, planted.VIEW], state)[0, 1] > 0.9
    assert abs(np.corrcoef(market.features[:, -1], state)[0, 1]) < 0.05


def test_who_sees_more_earns_more(market: planted.Market) -> None:
    starts = (16_100,)
    best = planted.oracle(market, starts).expected_return[0]
    filtered = planted.kalman(market, starts).expected_return[0]
    held = planted.follow(market, lambda bars, _: np.ones(len(bars)), starts).expected_return[0]
    assert best > filtered > 0.8 * best > 0.0
    assert held < 0.2 * best


def test_nothing_is_expected_without_an_edge() -> None:
    market = planted.make_market("null", 7)
    assert not market.expected.any()
    held = planted.follow(market, lambda bars, _: np.ones(len(bars)))
    flat = planted.follow(market, lambda bars, _: np.zeros(len(bars)))
    assert max(excess_z(market, held), excess_z(market, flat)) == 0.0


def test_only_regimes_change_the_walk_s_volatility() -> None:
    hard, regimes = planted.make_market("hard", 7), planted.make_market("regimes", 7)
    assert np.ptp(hard.walk) == 0.0
    np.testing.assert_array_equal(hard.deviation, regimes.deviation)
    changes = np.diff(np.log(regimes.close))
    loud = regimes.walk[1:] > np.quantile(regimes.walk, 0.8)
    quiet = regimes.walk[1:] < np.quantile(regimes.walk, 0.2)
    assert changes[loud].std() > 1.5 * changes[quiet].std()
    # They last: the market is mostly as loud as it was twenty bars ago.
    assert np.corrcoef(regimes.walk[20:], regimes.walk[:-20])[0, 1] > 0.6


def test_the_deepest_drawdown_is_from_the_peak() -> None:
    market = planted.make_market("easy", 7)
    held = planted.follow(market, lambda bars, _: np.ones(len(bars)), (16_100,))
    wealth = np.cumprod(np.concatenate(([1.0], 1.0 + held.returns[0])))
    peaks = np.maximum.accumulate(wealth)
    assert held.drawdown[0] == pytest.approx(((peaks - wealth) / peaks).max())
