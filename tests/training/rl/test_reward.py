import math
from collections.abc import Sequence

import numpy as np
import pytest

from markets.domain.bars import FloatArray
from tests.panels import make_panel, random_features
from training.rl.env import Episodes, SingleEnv
from training.rl.reward import (
    FIRST_MEAN,
    FIRST_SQUARE,
    RewardSettings,
    differential_sharpe,
    sharpe_reward,
    step_reward,
)

SETTINGS = RewardSettings()


def test_reward_is_the_log_of_growth() -> None:
    assert step_reward(100.0, 101.0, 0.0, 0.0, SETTINGS) == pytest.approx(100 * math.log(1.01))


def test_only_a_deepening_drawdown_is_penalised() -> None:
    flat = step_reward(100.0, 100.0, 0.2, 0.2, SETTINGS)
    recovering = step_reward(100.0, 100.0, 0.2, 0.1, SETTINGS)
    deepening = step_reward(100.0, 100.0, 0.1, 0.2, SETTINGS)
    assert flat == recovering == 0.0
    assert deepening == pytest.approx(-100 * 0.1 * 0.1)


def test_losing_more_than_everything_stays_finite() -> None:
    assert step_reward(100.0, -50.0, 0.0, 1.5, SETTINGS) == pytest.approx(
        100 * (math.log(0.01) - 0.15)
    )


def test_rewards_of_columns_are_those_of_scalars() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.uniform(50, 150, (2, 40))
    deep, deeper = rng.uniform(0, 0.5, (2, 40))
    columns = step_reward(before, after, deep, deeper, SETTINGS, np.log, np.maximum)
    scalars = [step_reward(*row, SETTINGS) for row in zip(before, after, deep, deeper, strict=True)]
    assert columns == pytest.approx(scalars, abs=1e-12)


def test_differential_sharpe_prefers_steady_gains() -> None:
    def total(moves: Sequence[float]) -> float:
        mean, square, sum_ = FIRST_MEAN, FIRST_SQUARE, 0.0
        for move in moves:
            value, mean, square = differential_sharpe(move, mean, square, SETTINGS)
            sum_ += value
        return sum_

    steady = [0.001] * 400
    shaky = [0.011, -0.009] * 200
    assert total(steady) > total(shaky) > total([-move for move in steady])


def test_differential_sharpe_is_clipped_and_its_variance_floored() -> None:
    value, _, _ = differential_sharpe(1.0, 0.0, 1e-12, SETTINGS)
    assert abs(value) <= SETTINGS.sharpe_clip
    quiet, _, _ = differential_sharpe(0.0, 1e-9, 0.0, SETTINGS)
    assert math.isfinite(quiet)
    assert sharpe_reward(3.0, RewardSettings()) == 0.0
    assert sharpe_reward(3.0, RewardSettings(sharpe_weight=0.01)) == pytest.approx(3.0)


def _play(
    close: FloatArray, actions: Sequence[int], charges: float, settings: RewardSettings
) -> tuple[float, float]:
    """Return the summed reward and the final wealth of actions over one episode."""
    bars = len(actions)
    panel = make_panel(
        close, buy_rate=charges, sell_rate=charges, slippage=0.0001, funding_rate=1e-5
    )
    episodes = Episodes(limit_lots=4, bars=bars, reward=settings)
    env = SingleEnv(panel, random_features(len(panel)), episodes)
    env.reset(options={"bar": env.first_bar})
    rewards = []
    for action in actions:
        _, reward, ruined, truncated, info = env.step(action)
        rewards.append(reward)
        if ruined or truncated:
            break
    return sum(rewards), info["equity"] / env.capital


# The same market ranked wrongly by a widely used library's stock reward.
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("charges", [0.0002, 0.001])
@pytest.mark.parametrize("sharpe_weight", [0.0, 0.0001])
def test_reward_ranks_churn_below_flat_below_hold(
    seed: int, charges: float, sharpe_weight: float
) -> None:
    settings = RewardSettings(sharpe_weight=sharpe_weight)
    bars = 2_000
    noise = np.random.default_rng(seed).standard_normal(bars + 40) * 0.002
    drift = np.log(1.533) / bars - noise[32:].sum() / bars
    close = 20_000 * np.exp(np.cumsum(noise + drift))
    hold, churn, flat = 3, [0, 6] * (bars // 2), [3] * bars
    churned, stayed, held = (
        _play(close, actions, charges, settings)
        for actions in (churn, flat, [0] + [hold] * (bars - 1))
    )
    assert churned[0] < stayed[0] < held[0]
    assert churned[1] < stayed[1] < held[1]
    assert stayed == (0.0, 1.0)
    assert held[1] > 1.4
