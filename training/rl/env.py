"""The trading environment for many accounts as columns; `SingleEnv` is the same for one account.

Both play the same episodes and must pay the same rewards. Here no Python loop runs over accounts
but those that begin anew, and a step is few numpy calls, as it is these that take the time: a
million steps of 64 accounts are about a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from bots.decision import accounting
from bots.decision.actions import DELTAS, TransitionTable
from bots.decision.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    AccountStates,
    Float32Array,
    limit_notional,
)
from markets.domain.bars import BoolArray, FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from training.rl.bar_inputs import BarTable
from training.rl.reward import (
    FIRST_MEAN,
    FIRST_SQUARE,
    RUIN_RATIO,
    differential_sharpe,
    sharpe_reward,
    step_reward,
)
from training.rl.shared_vec_env import SharedVecEnv
from training.rl.single_env import EPISODE_BARS, Episodes, SingleEnv, row_observations, row_space

__all__ = ["EPISODE_BARS", "BatchEnv", "Episodes", "SingleEnv"]

# An array, because numpy takes half a call's time to bring a Python number to a column's kind.
_ONE = np.array(1)
_KINDS = {"IntArray": np.int64, "FloatArray": np.float64}


class BatchEnv(SharedVecEnv):
    """Play many accounts as columns, for stable-baselines3 and for trainers that read columns.

    An observation is {"bar": (N, 1) int64, "account": (N, 4) float32}; with as_rows it is the
    feature row and the account, (N, F + 4) float32, like SingleEnv's. Accounts come in groups of
    `group` that share one bar path; a ruined one begins anew at its group's bar. The columns below
    are (N,), and new ones after every step.
    """

    bar: IntArray
    """Row of the last close: the next decision is made there."""
    lots: FloatArray
    quantity: FloatArray
    cash: FloatArray
    equity: FloatArray
    capital: FloatArray
    entry_equity: FloatArray
    peak_equity: FloatArray
    bars_held: FloatArray
    drawdown: FloatArray
    """Ratio of the peak."""
    sharpe_mean: FloatArray
    sharpe_square: FloatArray
    _end: IntArray
    """Row of the last close of the account's episode."""
    _transition: IntArray
    """Of its lots and the first action, by the TransitionTable."""
    _ruin_equity: FloatArray

    def __init__(
        self,
        panel: PricePanel,
        values: Float32Array,
        episodes: Episodes,
        accounts: int = 64,
        group: int = 1,
        seed: int | None = None,
        as_rows: bool = False,
        stagger: bool = True,
    ) -> None:
        if accounts % group:
            raise ValueError(f"{accounts} accounts do not make whole groups of {group}")
        self.render_mode = None
        self.episodes = episodes
        self.group = group
        self.rng = np.random.default_rng(seed)
        self.first_bar, self.last_bar = episodes.first_bars(len(panel))
        self._stagger = stagger
        self.panel = panel
        self._rows = row_observations(values) if as_rows else None
        space: spaces.Space[Any] = row_space(values.shape[1])
        if not as_rows:
            low, high = (np.array(each, dtype=np.float32) for each in (ACCOUNT_LOW, ACCOUNT_HIGH))
            bar = spaces.Box(0, len(panel) - 1, (1,), dtype=np.int64)
            space = spaces.Dict({"bar": bar, "account": spaces.Box(low, high, dtype=np.float32)})
        super().__init__(accounts, space, spaces.Discrete(len(DELTAS)))
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(accounts)]
        self._account_states = AccountStates(accounts)
        self._transitions = TransitionTable(episodes.limit_lots)
        self._table = BarTable(panel, episodes, accounts)
        self._inputs = self._table.inputs
        orders = np.empty((2, accounts))
        self._orders = orders, orders[0], orders[1]
        self.reset()

    def reset(self) -> Any:
        """Start every group at a random bar and return the first observations.

        The first episodes are cut at random lengths, so that later ones do not all end at once.
        """
        if self._seeds[0] is not None:
            self.rng = np.random.default_rng(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        count = self.num_envs
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.zeros(count, dtype=kind))
        groups = count // self.group
        self.start_episodes(range(count), self.draw_bars(groups))
        if self._stagger:
            played = self.rng.integers(0, self.episodes.bars, groups)
            self._end -= played.repeat(self.group)
        return self.observe()

    def state_dict(self) -> dict[str, Any]:
        """Return all that a step changes, as copies: what a training that goes on needs.

        "columns" are arrays (N,) by name, "inputs" the (20, N) of the last bars, and "random" the
        state of the random numbers, plain enough for JSON.
        """
        return {
            "columns": {name: getattr(self, name).copy() for name in _COLUMNS},
            "inputs": self._table.buffer.copy(),
            "random": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of `state_dict`; raise ValueError where its columns are others."""
        if differing := sorted(state["columns"].keys() ^ _COLUMNS.keys()):
            raise ValueError(
                f"the state of the environment is of another version: {', '.join(differing)} "
                "stand in one of the two alone"
            )
        for name, kind in _COLUMNS.items():
            setattr(self, name, np.array(state["columns"][name], dtype=kind))
        # In place, for the inputs are views of it.
        self._table.buffer[:] = state["inputs"]
        self.rng.bit_generator.state = state["random"]

    @property
    def elapsed(self) -> IntArray:
        """Return the bars since each account's group began its episode, (N,)."""
        return self.bar - self._end + self.episodes.bars

    def draw_bars(self, groups: int) -> list[int]:
        """Return random bars their episodes may start at, the same for all accounts of a group."""
        # Mostly one is asked for, and numpy takes four times as long to draw an array of one.
        draw, first, last = self.rng.integers, self.first_bar, self.last_bar
        drawn = [int(draw(first, last, endpoint=True)) for _ in range(groups)]
        return [bar for bar in drawn for _ in range(self.group)]

    def start_episodes(
        self,
        accounts: Iterable[int],
        bars: Sequence[int] | IntArray,
        lots: Iterable[int] | None = None,
    ) -> None:
        """Start fresh episodes of some accounts (M,), given by number, at some bars (M,).

        Without lots (M,) they start flat, or with random ones where the episodes explore starts.
        All columns but `bar` are written in place.
        """
        limit = self.episodes.limit_lots
        if lots is None and self.episodes.exploring_starts:
            lots = self.rng.integers(-limit, limit, len(bars), endpoint=True).tolist()
        elif lots is None:
            lots = [0] * len(bars)
        # Observations show `bar` itself, so it is replaced; the other columns are ours alone.
        self.bar = self.bar.copy()
        close, lot_size = self.panel.close.data, self.panel.lot_size.data
        # A loop, as few begin at once: an array of one costs more than ten plain numbers.
        for account, bar, held in zip(accounts, bars, lots, strict=True):
            quantity = held * lot_size[bar]
            capital = limit_notional(limit, lot_size[bar], close[bar])
            self.bar[account] = bar
            self._end[account] = bar + self.episodes.bars
            self._transition[account] = self._transitions.first_of(held)
            self._inputs.units[1, account] = self._inputs.units[3, account] = capital
            self._ruin_equity[account] = RUIN_RATIO * capital
            self.lots[account] = held
            self.quantity[account] = quantity
            self.cash[account] = accounting.settle(capital, quantity, close[bar], 0.0)
            self.equity[account] = self.capital[account] = capital
            self.entry_equity[account] = self.peak_equity[account] = capital
            self.bars_held[account] = self.drawdown[account] = 0.0
            self.sharpe_mean[account] = FIRST_MEAN
            self.sharpe_square[account] = FIRST_SQUARE

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Play one bar of actions (N,); return rewards, who is ruined, who is truncated, all (N,).

        Nothing starts anew: that is `place`. Raises IndexError at the end of the rows.
        """
        bar = self.bar + _ONE
        self._table.read(bar)
        self.bar = bar
        # In a bar's order: orders fill at its open, funding is paid and marks made at its close.
        self._trade(actions)
        if self._table.pays_funding:
            self.cash = accounting.pay_funding(self.cash, self.quantity, self._inputs.funding)
        rewards = self._mark()
        ruined = self.equity <= self._ruin_equity
        # True is greater than False: due, and not ruined.
        return rewards, ruined, (self.bar >= self._end) > ruined

    def _mark(self) -> FloatArray:
        """Value the accounts at the close and return the bar's rewards (N,)."""
        equity_before, drawdown_before = self.equity, self.drawdown
        self.equity = accounting.equity(self.cash, self.quantity, self._inputs.close)
        self.peak_equity = np.maximum(self.peak_equity, self.equity)
        self.drawdown = accounting.drawdown(self.equity, self.peak_equity)
        settings = self.episodes.reward
        rewards: FloatArray = step_reward(
            equity_before,
            self.equity,
            drawdown_before,
            self.drawdown,
            settings,
            np.log,
            np.maximum,
        )
        if settings.sharpe_weight:
            clipped, self.sharpe_mean, self.sharpe_square = differential_sharpe(
                self.equity / equity_before - 1.0,
                self.sharpe_mean,
                self.sharpe_square,
                settings,
                np.minimum,
                np.maximum,
            )
            rewards = rewards + sharpe_reward(clipped, settings)
        return rewards

    def _trade(self, actions: npt.NDArray[Any]) -> None:
        now, table = self._inputs, self._transitions
        transition = self._transition + actions
        self._transition = table.next.take(transition)
        numbers = table.numbers.take(transition, axis=1)
        flags = table.flags.take(transition, axis=1)
        # The rest of accounting.split: lot sizes change at rolls only, where nothing is kept.
        positions = numbers[:2] * now.lot_sizes
        kept, wanted = positions[0], positions[1]
        orders, closing, opening = self._orders
        np.subtract(kept, self.quantity, closing)
        np.subtract(wanted, kept, opening)
        # Written over the sales' columns, which the next bar fills anew.
        np.putmask(now.sell, flags[:4], now.buy)
        values = orders * now.sell[:2]
        charges = accounting.order_charges(
            np.abs(values), now.sell[2:], now.brokerage_rate, now.brokerage_cap, np.minimum
        )
        cash = accounting.pay(self.cash, values[0], charges[0])
        self.cash = accounting.pay(cash, values[1], charges[1])
        self.entry_equity = self.entry_equity.copy()
        np.putmask(self.entry_equity, flags[4], cash)
        self.bars_held = self.bars_held * numbers[2] + numbers[3]
        self.lots, self.quantity = numbers[1], wanted

    def account(self) -> Float32Array:
        """Return the account states (N, 4) at the last close."""
        return self._write_account(np.empty((self.num_envs, ACCOUNT_SIZE), dtype=np.float32))

    def _write_account(self, out: Float32Array) -> Float32Array:
        states = self._account_states.of(
            self.lots,
            self.equity - self.entry_equity,
            self.bars_held,
            self.peak_equity - self.equity,
            self._inputs.units,
        )
        out[:] = states.T
        return out

    def observe(self) -> Any:
        """Return the observations of all accounts at the last close."""
        if self._rows is None:
            return {"bar": self.bar[:, None], "account": self.account()}
        rows = self._rows.take(self.bar, axis=0, mode="clip")
        self._write_account(rows[:, -ACCOUNT_SIZE:])
        return rows

    def _observe_fresh(self, observation: Any, accounts: list[int]) -> None:
        # A fresh account has neither won, aged nor lost, so this need not observe all again.
        if self._rows is None:
            observation["bar"] = self.bar[:, None]
            states = observation["account"]
            states[accounts] = 0.0
        else:
            for each in accounts:
                observation[each] = self._rows[self.bar[each]]
            states = observation[:, -ACCOUNT_SIZE:]
        for each in accounts:
            states[each, 0] = self.lots[each] / self.episodes.limit_lots

    def step_wait(self) -> Any:
        """Play a bar, start ended episodes anew, return what stable-baselines3 expects.

        That is observations, rewards (float32), ends and infos; an ended account's info has
        "terminal_observation" and whether it was truncated, which asks for bootstrapping.
        """
        rewards, ruined, truncated = self.advance(self._actions)
        observation = self.observe()
        ended = ruined | truncated
        infos = self._no_infos
        if np.count_nonzero(ended):
            infos = infos.copy()
            accounts = ended.nonzero()[0].tolist()
            for each in accounts:
                infos[each] = {
                    "TimeLimit.truncated": bool(truncated[each]),
                    "terminal_observation": _row_of(observation, each),
                }
            self._restart(accounts)
            self._observe_fresh(observation, accounts)
        return observation, rewards.astype(np.float32), ended, infos

    def _restart(self, accounts: list[int]) -> None:
        # All accounts of a group are due at once, so whole groups are drawn new bars.
        due = [each for each in accounts if self.bar[each] >= self._end[each]]
        if due:
            self.start_episodes(due, self.draw_bars(len(due) // self.group))
        if len(due) < len(accounts):
            ruined_alone = [each for each in accounts if each not in due]
            # In the middle of its group's episode, which it goes on with and must end with.
            end = self._end.copy()
            self.start_episodes(ruined_alone, self.bar[ruined_alone].tolist())
            self._end = end


# Every column that the class declares: `reset` makes them, and `state_dict` holds them.
_COLUMNS = {name: _KINDS[kind] for name, kind in BatchEnv.__annotations__.items()}


def _row_of(observation: Any, account: int) -> Any:
    if isinstance(observation, dict):
        return {name: column[account].copy() for name, column in observation.items()}
    return observation[account].copy()
