"""What an asset's past says of it, and what it cannot say."""

import datetime as dt
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.allocator import metrics
from markets.allocator.metrics import Metrics, day_number, day_of, measure, months_back
from tests.markets.allocator.pasts import AS_OF, series, walk

CLOSES = st.lists(st.floats(1.0, 1e6), min_size=2, max_size=300).map(np.array)


def test_returns_are_from_one_months_end_to_another() -> None:
    days = np.array([day_number(dt.date(2025, 5, 31)), *range(day_number(AS_OF) - 40, 20_700)])
    closes = np.full(len(days), 100.0)
    closes[0] = 50.0
    closes[days >= day_number(dt.date(2026, 5, 1))] = 110.0
    closes[days >= day_number(AS_OF)] = 999.0  # of the month that has begun
    found = measure(metrics.Series("one", "equity", "INR", days, closes), AS_OF)
    assert found.return_1m == pytest.approx(0.1)
    assert found.return_3m is None and found.return_6m is None  # no close near those dates
    assert found.return_12m == pytest.approx(1.2)
    assert found.momentum == pytest.approx(1.0)


def test_a_short_past_says_less() -> None:
    found = measure(series(walk(100)), AS_OF)
    assert found.return_1m is not None and found.return_3m is not None
    assert found.return_6m is None and found.return_12m is None and found.momentum is None
    assert found.volatility is not None and found.max_drawdown is not None
    few = measure(series(walk(40)), AS_OF)
    assert few.volatility is None and few.max_drawdown is None
    nothing = measure(series(np.array([])), AS_OF)
    assert nothing == Metrics(*[None] * 7)


def test_an_asset_whose_closes_ended_long_ago_says_nothing_of_now() -> None:
    found = measure(series(walk(), last=AS_OF - dt.timedelta(days=30)), AS_OF)
    assert found.return_1m is None and found.volatility is None and found.max_drawdown is None


@pytest.mark.parametrize("days_a_week, days_a_year", [(7, 365.25), (5, 365.25 * 5 / 7)])
def test_volatility_is_annualised_by_the_days_a_market_trades(
    days_a_week: int, days_a_year: float
) -> None:
    days = np.array([day for day in range(20_000, 23_000) if day % 7 < days_a_week])
    found = metrics.volatility(days, walk(len(days)))
    assert found == pytest.approx(0.01 * days_a_year**0.5, rel=0.05)


def test_a_price_that_stands_still_has_none() -> None:
    found = measure(series(np.full(500, 42.0)), AS_OF)
    assert (found.volatility, found.max_drawdown, found.return_12m) == (0.0, 0.0, 0.0)
    still = np.zeros(60)
    assert metrics.correlation(still, walk(60)) is None


@given(CLOSES)
def test_a_drawdown_is_the_worst_of_all_pairs(closes: np.ndarray) -> None:
    found = metrics.max_drawdown(closes)
    worst = max(1.0 - closes[later:].min() / closes[later] for later in range(len(closes)))
    assert found == pytest.approx(worst) and 0.0 <= found < 1.0


@given(CLOSES, st.floats(0.01, 100.0))
def test_the_unit_of_a_price_changes_nothing(closes: np.ndarray, unit: float) -> None:
    plain, scaled = (measure(series(each), AS_OF) for each in (closes, closes * unit))
    for name in Metrics.__slots__:
        first, second = getattr(plain, name), getattr(scaled, name)
        assert (first is None) == (second is None)
        assert first is None or first == pytest.approx(second, rel=1e-6, abs=1e-7)


@given(CLOSES, st.integers(1, 60))
def test_what_comes_later_changes_nothing(closes: np.ndarray, days: int) -> None:
    whole = series(closes, last=AS_OF + dt.timedelta(days=days))
    assert measure(whole, AS_OF) == measure(whole.before(AS_OF), AS_OF)


@given(st.integers(0, 10_000))
def test_returns_of_months_compound(seed: int) -> None:
    past = series(walk(500, seed=seed))
    quarters = [months_back(AS_OF, months) for months in (12, 9, 6, 3, 0)]
    product = 1.0
    for start, end in pairwise(quarters):
        product *= 1.0 + (metrics.period_return(past, start, end) or 0.0)
    assert product - 1.0 == pytest.approx(measure(past, AS_OF).return_12m)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2090, 1, 1)), st.integers(0, 36))
def test_months_back_are_months(date: dt.date, months: int) -> None:
    found = months_back(date, months)
    assert (date.year * 12 + date.month) - (found.year * 12 + found.month) == months
    assert found.day == date.day or (found + dt.timedelta(days=1)).day == 1
    assert day_of(day_number(found)) == found


def test_weeks_are_whole_and_common() -> None:
    crypto = series(walk(200, seed=2), "crypto")
    whole = series(walk(200), "stock")
    # The stock trades on weekdays, and not at all in one of the weeks.
    open_days = (whole.days + 3) % 7 < 5
    open_days &= (whole.days + 3) // 7 != (day_number(AS_OF) + 3) // 7 - 5
    stock = metrics.Series(
        *("stock", "equity", "INR"), whole.days[open_days], whole.closes[open_days]
    )
    found = metrics.weekly([crypto, stock], AS_OF)
    alone = metrics.weekly([crypto], AS_OF)
    assert found.names == ("crypto", "stock")
    assert len(found.returns) == len(alone.returns) - 2  # into that week and out of it
    friday = stock.closes[np.searchsorted(stock.days, day_number(dt.date(2026, 5, 29)))]
    before = stock.closes[np.searchsorted(stock.days, day_number(dt.date(2026, 5, 22)))]
    assert found.returns[-1, 1] == pytest.approx(friday / before - 1.0)
    midweek = metrics.weekly([crypto], dt.date(2026, 5, 28))
    assert len(midweek.returns) == len(alone.returns) - 1


@given(st.integers(0, 1_000), st.integers(0, 1_000))
def test_correlations_are_numpys_and_symmetric(first: int, second: int) -> None:
    one, other = walk(60, seed=first), walk(60, seed=second)
    found = metrics.correlation(one, other)
    assert found is not None and -1.0 <= found <= 1.0
    assert found == pytest.approx(metrics.correlation(other, one))
    assert metrics.correlation(one, one) == pytest.approx(1.0)
    assert metrics.correlation(one, -one) == pytest.approx(-1.0)
