"""The trading environment for many accounts as columns; `SingleEnv` is the same for one account.

Both play the same episodes and must pay the same rewards; here no Python loop runs over accounts,
so a million steps take about a second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from bots import accounting
from bots.actions import DELTAS, target_lots_array
from bots.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    Float32Array,
    account_state,
    limit_notional,
)
from markets.bars import BoolArray, FloatArray, IntArray
from markets.tape import Tape
from training.reward import (
    FIRST_MEAN,
    FIRST_SQUARE,
    RUIN_RATIO,
    differential_sharpe,
    sharpe_reward,
    step_reward,
)
from training.single_env import EPISODE_BARS, Episodes, SingleEnv, row_observations, row_space

__all__ = ["EPISODE_BARS", "BatchEnv", "Episodes", "SingleEnv"]


class _Now(NamedTuple):
    """Hold what the bars just closed say, a column an account.

    What an order needs is (2, N), for the closing and the opening order: numpy multiplies equal
    shapes in half the time.
    """

    buy_prices: FloatArray
    sell_prices: FloatArray
    buy_rate: FloatArray
    sell_rate: FloatArray
    brokerage_rate: FloatArray
    brokerage_cap: FloatArray
    carried: FloatArray
    lot_size: FloatArray
    close: FloatArray
    notional: FloatArray


class BatchEnv(VecEnv):
    """Play many accounts as columns, for stable-baselines3 and for trainers that read columns.

    An observation is {"bar": (N, 1) int64, "account": (N, 4) float32}; with as_rows it is the
    feature row and the account, (N, F + 4) float32, like SingleEnv's. Accounts come in groups of
    `group` that share one bar path; a ruined one begins anew at its group's bar. The columns below
    are public, (N,), and new ones after every step.
    """

    bar: IntArray
    """Row of the last close: the next decision is made there."""
    elapsed: IntArray
    """Bars since the group's episode began."""
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

    def __init__(
        self,
        tape: Tape,
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
        self.first_bar, self.last_bar = episodes.first_bars(len(tape))
        self._stop = len(tape) if episodes.stop is None else episodes.stop
        self._stagger = stagger
        self._tape = tape
        self._rows = row_observations(values) if as_rows else None
        self._deltas = np.array(DELTAS)
        space: spaces.Space[Any] = row_space(values.shape[1])
        if not as_rows:
            low, high = (np.array(each, dtype=np.float32) for each in (ACCOUNT_LOW, ACCOUNT_HIGH))
            bar = spaces.Box(0, len(tape) - 1, (1,), dtype=np.int64)
            space = spaces.Dict({"bar": bar, "account": spaces.Box(low, high, dtype=np.float32)})
        super().__init__(accounts, space, spaces.Discrete(len(DELTAS)))
        self._no_infos: list[dict[str, Any]] = [{} for _ in range(accounts)]
        self._load(tape)
        self.reset()

    def _load(self, tape: Tape) -> None:
        # One table with a row a bar, so that a step reads one place of memory for each account;
        # `_now` names the rows of its transpose.
        references = (tape.previous_open, tape.open)
        self._table = np.stack(
            [
                *(accounting.fill_price(price, 1, tape.slippage) for price in references),
                *(accounting.fill_price(price, -1, tape.slippage) for price in references),
                *(tape.buy_rate,) * 2,
                *(tape.sell_rate,) * 2,
                *(tape.brokerage_rate,) * 2,
                *(tape.brokerage_cap,) * 2,
                ~tape.roll,
                tape.lot_size,
                tape.close,
                limit_notional(self.episodes.limit_lots, tape.lot_size, tape.close),
            ],
            axis=1,
        )
        self._buffer = np.empty((self._table.shape[1], self.num_envs))
        self._now = _Now(*self._buffer[:12].reshape(6, 2, -1), *self._buffer[12:])
        self._orders = np.empty((2, self.num_envs))

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
        self.elapsed = np.zeros(count, dtype=np.int64)
        for name in _MONEY:
            setattr(self, name, np.zeros(count))
        groups = count // self.group
        self.place(np.arange(count), np.repeat(self.draw_bars(groups), self.group))
        if self._stagger:
            played = self.rng.integers(0, self.episodes.bars, groups)
            self.elapsed = np.repeat(played, self.group)
        return self.observe()

    def draw_bars(self, count: int) -> IntArray:
        """Return random bars an episode may start at."""
        return self.rng.integers(self.first_bar, self.last_bar, count, endpoint=True)

    def place(
        self, accounts: IntArray, bars: IntArray, lots: npt.NDArray[Any] | None = None
    ) -> None:
        """Start fresh episodes of some accounts, given by number, at some bars.

        Without lots they start flat, or with random ones where the episodes explore starts. All
        columns but `bar` are written in place.
        """
        limit = self.episodes.limit_lots
        if lots is None and self.episodes.exploring_starts:
            lots = self.rng.integers(-limit, limit, len(bars), endpoint=True)
        elif lots is None:
            lots = np.zeros(len(bars))
        lot_size, close = self._tape.lot_size[bars], self._tape.close[bars]
        quantity = lots * lot_size
        capital = limit_notional(limit, lot_size, close)
        self._now.notional[accounts] = capital
        fresh = {
            "bar": bars,
            "elapsed": 0,
            "lots": lots,
            "quantity": quantity,
            "cash": accounting.settle(capital, quantity, close, 0.0),
            "equity": capital,
            "capital": capital,
            "entry_equity": capital,
            "peak_equity": capital,
            "bars_held": 0.0,
            "drawdown": 0.0,
            "sharpe_mean": FIRST_MEAN,
            "sharpe_square": FIRST_SQUARE,
        }
        # Observations show `bar` itself, so it is replaced; the other columns are ours alone.
        self.bar = self.bar.copy()
        for name, value in fresh.items():
            getattr(self, name)[accounts] = value
        self._room = self._stop - 1 - int(self.bar.max())

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Play one bar; return rewards (float64), which accounts are ruined, which are truncated.

        Nothing starts anew: that is `place`. Raises IndexError at the end of the rows.
        """
        if self._room < 1:
            raise IndexError(f"an account is at row {self._stop - 1}, the last of its episodes")
        self._room -= 1
        self.bar = self.bar + 1
        self.elapsed = self.elapsed + 1
        self._buffer[:] = self._table.take(self.bar, axis=0, mode="clip").T
        self._trade(actions)
        equity_before, drawdown_before = self.equity, self.drawdown
        self.equity = accounting.equity(self.cash, self.quantity, self._now.close)
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
        ruined = self.equity <= RUIN_RATIO * self.capital
        return rewards, ruined, (self.elapsed >= self.episodes.bars) & ~ruined

    def _trade(self, actions: npt.NDArray[Any]) -> None:
        now = self._now
        self.lots = target_lots_array(
            self.lots, self._deltas.take(actions), self.episodes.limit_lots
        )
        held, wanted = self.quantity, self.lots * now.lot_size
        closing, opening = accounting.split(held, wanted, now.carried, np.minimum, np.maximum)
        orders = self._orders
        orders[0], orders[1] = closing, opening
        buys = orders > 0.0
        prices = np.where(buys, now.buy_prices, now.sell_prices)
        charges = accounting.order_charges(
            np.abs(orders) * prices,
            np.where(buys, now.buy_rate, now.sell_rate),
            now.brokerage_rate,
            now.brokerage_cap,
            np.minimum,
        )
        cash = accounting.settle(self.cash, closing, prices[0], charges[0])
        # A position that stays on its side goes on, through a roll too; any other is new.
        continued = held * wanted > 0.0
        self.entry_equity = np.where(continued, self.entry_equity, cash)
        self.bars_held = self.bars_held * continued + (wanted != 0.0)
        self.cash = accounting.settle(cash, opening, prices[1], charges[1])
        self.quantity = wanted

    def account(self) -> Float32Array:
        """Return the account states (N, 4) at the last close."""
        return self._write_account(np.empty((self.num_envs, ACCOUNT_SIZE), dtype=np.float32))

    def _write_account(self, out: Float32Array) -> Float32Array:
        state = account_state(
            self.lots,
            self.episodes.limit_lots,
            self.equity - self.entry_equity,
            self.bars_held,
            self.peak_equity - self.equity,
            self._now.notional,
            np.minimum,
            np.maximum,
        )
        for column, values in enumerate(state):
            out[:, column] = values
        return out

    def observe(self) -> Any:
        """Return the observations of all accounts at the last close."""
        if self._rows is None:
            return {"bar": self.bar[:, None], "account": self.account()}
        rows = self._rows.take(self.bar, axis=0, mode="clip")
        self._write_account(rows[:, -ACCOUNT_SIZE:])
        return rows

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
            for each in ended.nonzero()[0].tolist():
                infos[each] = {
                    "TimeLimit.truncated": bool(truncated[each]),
                    "terminal_observation": _row_of(observation, each),
                }
            self._restart(ruined)
            observation = self.observe()
        return observation, rewards.astype(np.float32), ended, infos

    def _restart(self, ruined: BoolArray) -> None:
        due = self.elapsed >= self.episodes.bars
        members = due.nonzero()[0]
        if len(members):
            self.place(members, np.repeat(self.draw_bars(len(members) // self.group), self.group))
        ruined_alone = (ruined & ~due).nonzero()[0]
        if len(ruined_alone):
            elapsed = self.elapsed.copy()
            self.place(ruined_alone, self.bar[ruined_alone])
            self.elapsed = elapsed

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
)


def _row_of(observation: Any, account: int) -> Any:
    if isinstance(observation, dict):
        return {name: column[account] for name, column in observation.items()}
    return observation[account]
