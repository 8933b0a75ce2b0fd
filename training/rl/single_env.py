"""The trading environment for one account, in plain code: the oracle of the one in columns.

It plays one slot's panel: a decision at the close of a bar from rows up to it, filled at the next
open with slippage and dated charges, its funding settled and marked at the next close; whole lots;
rolls. An episode starts at a random bar with the value of the position limit as capital. Its end is
a truncation, to be bootstrapped; ruin is a termination. The account is the bots' own sleeve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from bots.decision import accounting
from bots.decision.actions import DELTAS, target_lots
from bots.decision.engine import PanelBroker
from bots.decision.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    WINDOW,
    Float32Array,
    limit_notional,
)
from bots.decision.sleeve import Sleeve
from markets.domain.price_panel import PricePanel
from training.rl.reward import (
    FIRST_MEAN,
    FIRST_SQUARE,
    RUIN_RATIO,
    RewardSettings,
    differential_sharpe,
    sharpe_reward,
    step_reward,
)

EPISODE_BARS = 256


@dataclass(frozen=True, slots=True)
class Episodes:
    """Describe the episodes of a slot.

    Everything an episode shows or pays lies in the rows [start, stop): its first decision has its
    whole window behind it, its last mark is before stop. With exploring starts an episode begins
    with a random position, taken at the first close free of costs.
    """

    limit_lots: int
    start: int = 0
    stop: int | None = None
    bars: int = EPISODE_BARS
    exploring_starts: bool = False
    reward: RewardSettings = field(default_factory=RewardSettings)

    def first_bars(self, rows: int) -> tuple[int, int]:
        """Return the first and the last bar an episode may start at; ValueError if none may."""
        stop = rows if self.stop is None else self.stop
        first, last = self.start + WINDOW - 1, stop - 1 - self.bars
        if self.start < 0 or stop > rows or last < first:
            raise ValueError(
                f"an episode of {self.bars} bars after a window of {WINDOW} does not fit into "
                f"rows [{self.start}, {stop}) of {rows}"
            )
        return first, last


def row_observations(values: Float32Array) -> Float32Array:
    """Return feature rows with room for the account state behind each, (rows, F + 4)."""
    room = np.zeros((len(values), ACCOUNT_SIZE), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate((values, room), axis=1))


def row_space(features: int) -> spaces.Space[Any]:
    """Return the space of one feature row and the account state, (F + 4,)."""
    widest = np.full(features, np.finfo(np.float32).max, dtype=np.float32)
    low = np.concatenate((-widest, np.array(ACCOUNT_LOW, dtype=np.float32)))
    high = np.concatenate((widest, np.array(ACCOUNT_HIGH, dtype=np.float32)))
    return spaces.Box(low, high, dtype=np.float32)


class SingleEnv(gymnasium.Env[Float32Array, np.int64]):
    """Play one account: the observation is the current feature row and the account, (F + 4,).

    The feature row of a bar carries the higher timeframes' last closed rows with it. Reset takes
    the options "bar" (row of the first decision) and "lots" (position to start with).
    """

    metadata = {"render_modes": []}

    def __init__(self, panel: PricePanel, values: Float32Array, episodes: Episodes) -> None:
        self.observation_space = row_space(values.shape[1])
        self.action_space = spaces.Discrete(len(DELTAS))
        self.episodes = episodes
        self.first_bar, self.last_bar = episodes.first_bars(len(panel))
        self._rows = row_observations(values)
        self._broker = PanelBroker(panel)
        self._close = panel.close.data
        self._lot_size = panel.lot_size.data
        self._end = 0
        self.bar = 0
        self.drawdown = 0.0
        self.sleeve = Sleeve(episodes.limit_lots, 1.0, 1.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Start an episode and return its first observation, (F + 4,)."""
        super().reset(seed=seed)
        options = options or {}
        limit = self.episodes.limit_lots
        bar = options.get("bar")
        if bar is None:
            bar = self.np_random.integers(self.first_bar, self.last_bar, endpoint=True)
        lots = options.get("lots")
        if lots is None:
            exploring = self.episodes.exploring_starts
            lots = self.np_random.integers(-limit, limit, endpoint=True) if exploring else 0
        self.bar = int(bar)
        self._end = self.bar + self.episodes.bars
        price, lot_size = self._close[self.bar], self._lot_size[self.bar]
        self.capital = limit_notional(limit, lot_size, price)
        self.sleeve = Sleeve(limit, self.capital, lot_size)
        if lots:
            self.sleeve.fill(int(lots) * lot_size, price, 0.0)
        self.drawdown = 0.0
        self._mean, self._square = FIRST_MEAN, FIRST_SQUARE
        return self._observe(), {}

    def step(
        self, action: int | np.int64
    ) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Fill the action at the next open, mark at the next close; the observation is (F + 4,)."""
        sleeve = self.sleeve
        lots = target_lots(sleeve.lots, DELTAS[action], sleeve.limit_lots)
        self.bar = bar = self.bar + 1
        # In a bar's order: its open fills, its close pays funding and marks.
        self._broker.rebalance(sleeve, bar, lots)
        self._broker.fund(sleeve, bar)
        equity_before, drawdown_before = sleeve.equity, self.drawdown
        sleeve.mark(self._close[bar], self._lot_size[bar])
        self.drawdown = accounting.drawdown(sleeve.equity, sleeve.peak_equity)
        settings = self.episodes.reward
        reward = step_reward(equity_before, sleeve.equity, drawdown_before, self.drawdown, settings)
        if settings.sharpe_weight:
            clipped, self._mean, self._square = differential_sharpe(
                sleeve.equity / equity_before - 1.0, self._mean, self._square, settings
            )
            reward += sharpe_reward(clipped, settings)
        ruined = sleeve.equity <= RUIN_RATIO * self.capital
        truncated = bar >= self._end and not ruined
        return self._observe(), reward, ruined, truncated, {"equity": sleeve.equity, "lots": lots}

    def _observe(self) -> Float32Array:
        observation = self._rows[self.bar].copy()
        observation[-ACCOUNT_SIZE:] = self.sleeve.account(self._close[self.bar])
        row: Float32Array = observation

        return row
