"""The trading environment for many accounts as columns; `SingleEnv` is the same for one account.

Both play the same episodes and must pay the same rewards. Here no Python loop runs over accounts
but those that begin anew, and a step is few numpy calls, as it is these that take the time: a
million steps of 64 accounts are about a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from bots.decision import accounting
from bots.decision.actions import DELTAS, TransitionTable
from bots.decision.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    AccountStates,
    Float32Array,
    account_units,
    limit_notional,
)
from markets.domain.bars import BoolArray, FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from training.rl.reward import (
    FIRST_MEAN,
    FIRST_SQUARE,
    RUIN_RATIO,
    differential_sharpe,
    sharpe_reward,
    step_reward,
)
from training.rl.single_env import EPISODE_BARS, Episodes, SingleEnv, row_observations, row_space

__all__ = ["EPISODE_BARS", "BatchEnv", "Episodes", "SingleEnv"]

# An array, because numpy takes half a call's time to bring a Python number to a column's kind.
_ONE = np.array(1)


class BarInputs(NamedTuple):
    """Hold what the bars just closed say, a column an account.

    What an order needs is (2, N), for the closing and the opening order, and the units of the
    account states are (4, N): numpy multiplies equal shapes in half the time.
    """

    buy: FloatArray
    sell: FloatArray
    """(4, N): the prices of both orders and the rates of both, if they buy or sell."""
    units: FloatArray
    brokerage_rate: FloatArray
    brokerage_cap: FloatArray
    lot_sizes: FloatArray
    """(2, N): of what is kept, which is 0 at a roll, and of what is wanted."""
    close: FloatArray
    funding: FloatArray
    """What a unit pays over the bar."""


class BatchEnv(VecEnv):
    """Play many accounts as columns, for stable-baselines3 and for trainers that read columns.

    An observation is {"bar": (N, 1) int64, "account": (N, 4) float32}; with as_rows it is the
    feature row and the account, (N, F + 4) float32, like SingleEnv's. Accounts come in groups of
    `group` that share one bar path; a ruined one begins anew at its group's bar. The columns below
    are public, (N,), and new ones after every step.
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
        self._load(panel)
        self.reset()

    def _load(self, panel: PricePanel) -> None:
        # One table with a row a bar, so that a step reads one place of memory for each account;
        # `_inputs` names the rows of its transpose.
        limit = self.episodes.limit_lots
        self._notional = limit_notional(limit, panel.lot_size, panel.close)
        references = (panel.previous_open, panel.open)
        table = np.stack(
            [
                *(accounting.fill_price(price, 1, panel.slippage) for price in references),
                *(panel.buy_rate,) * 2,
                *(accounting.fill_price(price, -1, panel.slippage) for price in references),
                *(panel.sell_rate,) * 2,
                *np.broadcast_arrays(*account_units(limit, self._notional)),
                *(panel.brokerage_rate,) * 2,
                *(panel.brokerage_cap,) * 2,
                panel.lot_size * ~panel.roll,
                panel.lot_size,
                panel.close,
                accounting.funding_per_unit(panel.close, panel.funding_rate),
            ],
            axis=1,
        )
        # Most markets have none, and two calls of numpy's are a twentieth of a step.
        self._pays_funding = bool(panel.funding_rate.any())
        self._table = table[: self.episodes.stop]
        self._buffer = np.repeat(table[:1].T, self.num_envs, axis=1)
        fours, twos = self._buffer[:12], self._buffer[12:18]
        self._inputs = BarInputs(
            *fours.reshape(3, 4, -1), *twos.reshape(3, 2, -1), *self._buffer[18:]
        )
        orders = np.empty((2, self.num_envs))
        self._orders = orders, orders[0], orders[1]

    def reset(self) -> Any:
        """Start every group at a random bar and return the first observations.

        The first episodes are cut at random lengths, so that later ones do not all end at once.
        """
        if self._seeds[0] is not None:
            self.rng = np.random.default_rng(self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        count = self.num_envs
        self.bar = np.zeros(count, dtype=np.int64)
        self._end = np.zeros(count, dtype=np.int64)
        self._transition = np.zeros(count, dtype=np.int64)
        for name in _MONEY:
            setattr(self, name, np.zeros(count))
        groups = count // self.group
        self.start_episodes(range(count), self.draw_bars(groups))
        if self._stagger:
            played = self.rng.integers(0, self.episodes.bars, groups)
            self._end -= played.repeat(self.group)
        return self.observe()

    @property
    def elapsed(self) -> IntArray:
        """Return the bars since each group's episode began."""
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
        """Start fresh episodes of some accounts, given by number, at some bars.

        Without lots they start flat, or with random ones where the episodes explore starts. All
        columns but `bar` are written in place.
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
        """Play one bar; return rewards (float64), which accounts are ruined, which are truncated.

        Nothing starts anew: that is `place`. Raises IndexError at the end of the rows.
        """
        bar = self.bar + _ONE
        try:
            self._buffer[:] = self._table.take(bar, axis=0).T
        except IndexError:
            last = len(self._table) - 1
            raise IndexError(f"an account is at row {last}, the last of its episodes") from None
        self.bar = bar
        self._trade(actions)
        if self._pays_funding:
            self.cash = accounting.pay_funding(self.cash, self.quantity, self._inputs.funding)
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
        ruined = self.equity <= self._ruin_equity
        # True is greater than False: due, and not ruined.
        return rewards, ruined, (self.bar >= self._end) > ruined

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

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Take the actions of the next step."""
        self._actions = actions

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
        # All accounts of a group are due at once.
        due = [each for each in accounts if self.bar[each] >= self._end[each]]
        if due:
            self.start_episodes(due, self.draw_bars(len(due) // self.group))
        if len(due) < len(accounts):
            ruined_alone = [each for each in accounts if each not in due]
            end = self._end.copy()
            self.start_episodes(ruined_alone, self.bar[ruined_alone].tolist())
            self._end = end

    def close(self) -> None:
        """Do nothing: columns hold nothing open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute once for every account asked for: they share one environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: accounts share one environment."""
        raise NotImplementedError(f"set {attr_name} on the BatchEnv itself")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refuse: accounts share one environment."""
        raise NotImplementedError(f"call {method_name} on the BatchEnv itself")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return that no account is wrapped on its own."""
        return [False] * len(list(self._get_indices(indices)))


_MONEY = (
    "lots",
    "quantity",
    "cash",
    "equity",
    "capital",
    "entry_equity",
    "peak_equity",
    "bars_held",
    "drawdown",
    "sharpe_mean",
    "sharpe_square",
    "_ruin_equity",
)


def _row_of(observation: Any, account: int) -> Any:
    if isinstance(observation, dict):
        return {name: column[account].copy() for name, column in observation.items()}
    return observation[account].copy()
