import numpy as np
import pytest

from markets.domain import indicators
from markets.domain.bars import FloatArray

Prices = tuple[FloatArray, FloatArray, FloatArray]


@pytest.fixture
def prices() -> Prices:
    generator = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * generator.standard_normal(300)))
    return close * 1.01, close * 0.99, close


def test_relative_strength_of_a_rising_market_is_100(prices: Prices) -> None:
    strength = indicators.relative_strength(np.arange(1.0, 50.0))
    assert np.isnan(strength[:14]).all()
    assert strength[14:] == pytest.approx(100.0)
    assert 0.0 < indicators.relative_strength(prices[2])[-1] < 100.0


def test_exponential_average_starts_with_the_mean_and_forgets() -> None:
    values = np.array([1.0, 2.0, 3.0, 7.0, 7.0])
    average = indicators.exponential_average(values, 3)
    assert np.isnan(average[:2]).all()
    assert average[2:].tolist() == [2.0, 4.5, 5.75]


def test_macd_histogram_is_line_less_signal(prices: Prices) -> None:
    line, signal, histogram = indicators.macd(prices[2])
    assert histogram[50:] == pytest.approx((line - signal)[50:])


def test_bollinger_bands_lie_two_deviations_from_the_mean(prices: Prices) -> None:
    close = prices[2]
    upper, middle, lower = indicators.bollinger_bands(close, 20)
    assert middle[-1] == pytest.approx(close[-20:].mean())
    assert upper[-1] - middle[-1] == pytest.approx(2.0 * close[-20:].std())
    assert lower[-1] == pytest.approx(2.0 * middle[-1] - upper[-1])


def test_average_true_range_counts_the_gap_from_the_close_before() -> None:
    close = np.array([10.0] * 20 + [20.0] * 20)
    assert indicators.average_true_range(close, close, close, 10)[19] == 0.0
    assert indicators.average_true_range(close, close, close, 10)[20] == pytest.approx(1.0)


def test_directional_index_rises_in_a_trend(prices: Prices) -> None:
    trend = np.linspace(100.0, 200.0, 300)
    trending = indicators.directional_index(trend + 1.0, trend - 1.0, trend)
    assert trending[-1] > 90.0 > indicators.directional_index(*prices)[-1]


def test_standard_deviation_is_of_the_population() -> None:
    deviation = indicators.standard_deviation(np.array([1.0, 1.0, 3.0, 3.0]), 4)
    assert deviation[-1] == pytest.approx(1.0)


def every_indicator(high: FloatArray, low: FloatArray, close: FloatArray) -> list[FloatArray]:
    return [
        indicators.relative_strength(close),
        indicators.exponential_average(close, 12),
        *indicators.macd(close),
        *indicators.bollinger_bands(close),
        indicators.average_true_range(high, low, close),
        indicators.directional_index(high, low, close),
        indicators.standard_deviation(close, 16),
    ]


def test_no_indicator_looks_ahead(prices: Prices) -> None:
    full = every_indicator(*prices)
    high, low, close = prices
    cut = every_indicator(high[:200], low[:200], close[:200])
    for longer, shorter in zip(full, cut, strict=True):
        assert len(longer) == 300
        np.testing.assert_array_equal(longer[:200], shorter)


def test_prices_that_stand_still_are_neutral_and_falling_ones_are_not() -> None:
    still = np.full(60, 100.0)
    assert np.all(indicators.relative_strength(still)[14:] == 50.0)
    assert np.isnan(indicators.relative_strength(still)[:14]).all()
    falls = np.linspace(200.0, 100.0, 60)
    assert np.all(indicators.relative_strength(falls)[14:] == 0.0)
    # From the first move on its value is of moves, as ever.
    later = np.concatenate((still, [99.0]))
    assert list(indicators.relative_strength(later)[-2:]) == [50.0, 0.0]
