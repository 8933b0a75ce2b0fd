"""The reward: growth of the account after every cost, less a price on deepening drawdowns.

Plain operators, so that the scalar and the batch environment share the formulas; columns pass
numpy's log, minimum and maximum. Because the first term adds up to the log of final wealth, a
policy cannot earn reward by trading: churning pays its charges here as in the account.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RUIN_RATIO = 0.2
"""An account at or below this share of its capital is ruined, which ends its episode for good."""

# One bar can take more than everything; the logarithm needs something left.
_LEAST_GROWTH = 0.01

# Where the differential Sharpe's moving averages begin: no return, a variance of (32 bp)^2.
FIRST_MEAN = 0.0
FIRST_SQUARE = 1e-5


@dataclass(frozen=True, slots=True)
class RewardSettings:
    """Weigh the parts of the reward.

    The differential Sharpe ratio is off by default: it showed no gain yet. Its decay is the weight
    of the newest bar in the moving averages, its clip bounds one bar's term, and its variance
    floor, (10 bp)^2, keeps a quiet account from blowing it up.
    """

    scale: float = 100.0
    drawdown_weight: float = 0.1
    sharpe_weight: float = 0.0
    sharpe_decay: float = 0.01
    sharpe_clip: float = 3.0
    sharpe_variance_floor: float = 1e-6


def step_reward(
    equity_before: Any,
    equity_after: Any,
    drawdown_before: Any,
    drawdown_after: Any,
    settings: RewardSettings,
    log: Callable[[Any], Any] = math.log,
    maximum: Callable[..., Any] = max,
) -> Any:
    """Return the reward of one bar without the Sharpe term; drawdowns are ratios of the peak."""
    growth = log(maximum(equity_after / equity_before, _LEAST_GROWTH))
    deepened = maximum(drawdown_after - drawdown_before, 0.0)
    return settings.scale * (growth - settings.drawdown_weight * deepened)


def differential_sharpe(
    bar_return: Any,
    mean: Any,
    square: Any,
    settings: RewardSettings,
    minimum: Callable[..., Any] = min,
    maximum: Callable[..., Any] = max,
) -> tuple[Any, Any, Any]:
    """Return the clipped differential Sharpe ratio and the new moving averages.

    bar_return is the simple return; mean and square are the averages of it and of its square
    before the bar. Source: Moody and Saffell, "Reinforcement Learning for Trading", 1998.
    """
    mean_change = bar_return - mean
    square_change = bar_return * bar_return - square
    variance = maximum(square - mean * mean, settings.sharpe_variance_floor)
    ratio = (square * mean_change - 0.5 * mean * square_change) / variance**1.5
    clipped = maximum(minimum(ratio, settings.sharpe_clip), -settings.sharpe_clip)
    decay = settings.sharpe_decay
    return clipped, mean + decay * mean_change, square + decay * square_change


def sharpe_reward(clipped: Any, settings: RewardSettings) -> Any:
    """Return what a clipped differential Sharpe ratio adds to the reward of its bar."""
    return settings.scale * settings.sharpe_weight * clipped
