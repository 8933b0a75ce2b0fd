import numpy as np
import pytest

from bots.decision.actions import HOLD
from bots.decision.engine import SlotInputs, replay_slot
from tests.panels import random_features, random_panel
from tests.policies import NoisePolicy
from training.evaluation import metrics


def test_returns_and_net_return_by_hand() -> None:
    equity = np.array([100.0, 110.0, 99.0])
    assert metrics.returns(equity) == pytest.approx([0.1, -0.1])
    assert metrics.net_return(equity) == pytest.approx(-0.01)
    assert metrics.max_drawdown(equity) == pytest.approx(0.1)


def test_sharpe_is_mean_over_deviation_and_grows_with_the_root_of_time() -> None:
    moves = np.array([0.01, 0.03])
    assert metrics.sharpe(moves) == pytest.approx(0.02 / (0.02 / np.sqrt(2)))
    assert metrics.annual_sharpe(moves, 400.0) == pytest.approx(20 * metrics.sharpe(moves))


def test_sharpe_of_an_account_that_never_moved_is_zero() -> None:
    assert metrics.sharpe(np.zeros(50)) == 0.0
    assert metrics.sharpe(np.full(50, 0.001)) == 0.0
    assert metrics.sharpe(np.array([0.01])) == 0.0


def test_bars_per_year_counts_the_closed_hours() -> None:
    hourly = np.arange(0, 366 * 24 * 3_600, 3_600)
    assert metrics.bars_per_year(hourly) == pytest.approx(365.25 * 24)
    assert metrics.bars_per_year(hourly[::2]) == pytest.approx(365.25 * 12)
    with pytest.raises(ValueError, match="two bars"):
        metrics.bars_per_year(hourly[:1])


def test_action_shares_and_entropy() -> None:
    even = np.tile(np.arange(7), 10)
    assert metrics.action_shares(even) == pytest.approx([1 / 7] * 7)
    assert metrics.action_entropy(even) == pytest.approx(1.0)
    assert metrics.action_entropy(np.full(70, HOLD)) == 0.0
    assert metrics.action_shares(np.array([], dtype=np.int64)).tolist() == [0.0] * 7


def test_a_policy_that_always_answers_the_same_is_collapsed() -> None:
    actions, lots = np.full(500, 0), np.full(500, 4)
    assert (
        metrics.collapse_reason(actions, lots) == 'it answered "strong buy" on 100.0% of 500 bars'
    )
    assert metrics.collapse_reason(np.array([], dtype=int), np.array([], dtype=int)) is not None


def test_a_policy_that_trades_seldom_is_not_collapsed() -> None:
    actions, lots = np.full(5_000, HOLD), np.zeros(5_000, dtype=np.int64)
    actions[[100, 2_000, 4_000]] = 0, 6, 0
    lots[100:2_000] = 4
    lots[4_000:] = 4
    assert metrics.collapse_reason(actions, lots) is None


def test_summary_of_a_replay_adds_up() -> None:
    panel = random_panel(500, seed=4)
    result = replay_slot(SlotInputs("nifty-15m", panel, random_features(500), NoisePolicy(5), 4))
    summary = metrics.summarise(result)
    capital = result.path.equity[0]
    assert summary.net_return == pytest.approx(result.path.net_pnl / capital)
    assert summary.turnover_per_bar * capital * 468 == pytest.approx(result.path.turnover)
    assert summary.max_drawdown == result.path.max_drawdown
    assert sum(summary.action_shares) == pytest.approx(1.0)
    assert summary.collapsed is None


def test_an_account_that_lost_everything_is_over() -> None:
    moves = metrics.returns(np.array([100.0, 110.0, -5.0, -20.0, 40.0]))
    np.testing.assert_allclose(moves, [0.1, metrics.ALL_LOST, 0.0, 0.0])
    assert np.isfinite(np.log1p(moves)).all()
    np.testing.assert_allclose(metrics.returns(np.array([100.0, 0.0])), [metrics.ALL_LOST])
