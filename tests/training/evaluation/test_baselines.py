"""Accounts that follow given lots: the same money as the replay's, order by order."""

from dataclasses import replace

import numpy as np
import pytest

from bots.decision.engine import SlotInputs, replay_slot
from bots.decision.observation import WINDOW, limit_notional
from markets.domain.price_panel import PricePanel
from tests.training.rl import toy
from training.evaluation import baselines


class Whims:
    """A policy that does anything at any time."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def encode(self, windows: np.ndarray) -> np.ndarray:
        return np.zeros((len(windows), 1), dtype=np.float32)

    def act(self, code: np.ndarray, account: np.ndarray) -> np.ndarray:
        return self._random.normal(size=(1, 7)).astype(np.float32)


def rolling_panel(bars: int = 900) -> PricePanel:
    """A panel with everything on it that costs money: rolls, new lots, brokerage, funding."""
    panel, _ = toy.mean_reverting(bars)
    roll = np.zeros(bars, dtype=np.bool_)
    roll[100::150] = True
    lot_size = np.where(np.arange(bars) < 400, 75.0, 65.0)
    previous_open = np.where(roll, panel.open * 0.996, panel.open)
    return replace(
        panel,
        roll=roll,
        lot_size=lot_size,
        previous_open=previous_open,
        brokerage_rate=np.full(bars, 3e-4),
        brokerage_cap=np.full(bars, 20.0),
        funding_rate=np.where(np.arange(bars) % 8 == 0, 1e-4, -2e-5),
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_lots_earn_what_the_replay_says(seed: int) -> None:
    panel = rolling_panel()
    values = np.zeros((len(panel), 3), dtype=np.float32)
    result = replay_slot(SlotInputs("toy", panel, values, Whims(seed), toy.LIMIT_LOTS))
    cut = panel.slice(WINDOW - 1)
    followed = baselines.simulate(cut, result.lots, float(result.path.equity[0]))
    np.testing.assert_allclose(followed.equity, result.path.equity, rtol=1e-12)
    assert followed.turnover == pytest.approx(result.path.turnover)
    assert followed.charges == pytest.approx(result.path.charges)
    assert followed.slippage == pytest.approx(result.path.slippage)
    assert len(result.path.trades) > 300


def test_flat_and_held_are_the_replays_baselines() -> None:
    panel = rolling_panel()
    values = np.zeros((len(panel), 3), dtype=np.float32)
    result = replay_slot(SlotInputs("toy", panel, values, Whims(1), toy.LIMIT_LOTS))
    cut, bars = panel.slice(WINDOW - 1), len(result.lots)
    lots = np.stack(
        [baselines.constant_lots(0, bars), baselines.constant_lots(toy.LIMIT_LOTS, bars)]
    )
    capital = limit_notional(toy.LIMIT_LOTS, float(cut.lot_size[0]), float(cut.close[0]))
    flat, held = baselines.simulate(cut, lots, capital).equity
    np.testing.assert_allclose(flat, result.flat.equity)
    np.testing.assert_allclose(held, result.buy_and_hold.equity, rtol=1e-12)


def test_dearer_orders_cost_so_many_times_as_much() -> None:
    panel = rolling_panel()
    lots = np.random.default_rng(4).integers(-4, 5, size=len(panel) - 1)
    once, twice = (
        baselines.simulate(baselines.scale_costs(panel, times), lots, 1e7) for times in (1.0, 2.0)
    )
    assert twice.slippage == pytest.approx(2.0 * once.slippage)
    assert twice.charges == pytest.approx(2.0 * once.charges, rel=1e-3)
    assert twice.equity[-1] < once.equity[-1]


def test_other_times_hold_as_much_and_trade_as_often() -> None:
    lots = np.repeat(np.random.default_rng(5).integers(-4, 5, size=50), 10)
    others = baselines.shifted_positions(lots, seed=1, paths=20)
    assert others.shape == (20, 500)
    for path in others:
        assert not np.array_equal(path, lots)
        assert np.array_equal(np.sort(path), np.sort(lots))
        changes = np.count_nonzero(np.diff(path))
        assert abs(changes - np.count_nonzero(np.diff(lots))) <= 1
    assert np.array_equal(others, baselines.shifted_positions(lots, seed=1, paths=20))


def test_the_cross_of_averages_looks_back_only() -> None:
    close = np.exp(np.cumsum(np.random.default_rng(6).normal(size=400) * 0.01))
    lots = baselines.ema_cross(close, 4)
    assert set(np.unique(lots[60:])) <= {-4, 0, 4} and not lots[:47].any()
    np.testing.assert_array_equal(lots[:300], baselines.ema_cross(close[:300], 4))
    rising = baselines.ema_cross(np.linspace(100.0, 200.0, 100), 4)
    assert (rising[48:] == 4).all()
