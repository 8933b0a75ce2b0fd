"""The environment's state: whatever a step changes is in it, so that a restored one plays on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from markets.domain.bars import BoolArray, FloatArray
from tests.panels import random_features, random_panel
from training.rl.env import BatchEnv, Episodes
from training.rl.reward import RewardSettings

ROWS, ACCOUNTS, STEPS = 600, 8, 120
# What is worked out anew at every step, and what no step changes.
PASSING = {"_actions", "_orders", "_table", "_inputs"}
FIXED = {"panel", "episodes", "_account_states", "_transitions", "_no_infos"}


class FeeEnv(BatchEnv):
    """An environment whose author forgot to declare a column."""

    fees: FloatArray | None = None

    def advance(self, actions: npt.NDArray[Any]) -> tuple[FloatArray, BoolArray, BoolArray]:
        answer = super().advance(actions)
        fees = np.zeros(self.num_envs) if self.fees is None else self.fees
        self.fees = fees + np.abs(self.quantity)
        return answer


def make(kind: type[BatchEnv], seed: int) -> BatchEnv:
    episodes = Episodes(
        4, bars=40, exploring_starts=True, reward=RewardSettings(sharpe_weight=0.01)
    )
    return kind(random_panel(ROWS), random_features(ROWS, 3), episodes, ACCOUNTS, 2, seed)


def play(env: BatchEnv, seed: int) -> list[Any]:
    """Return what many steps of random actions show and pay, episodes' ends among them."""
    actions = np.random.default_rng(seed).integers(0, 7, (STEPS, ACCOUNTS))
    return [env.step(taken)[:3] for taken in actions]


def differing(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return not np.array_equal(one, other)
    if isinstance(one, np.random.Generator):
        return bool(one.bit_generator.state != other.bit_generator.state)
    return bool(one != other)


def not_restored(kind: type[BatchEnv]) -> set[str]:
    """Return the attributes in which an environment restored from another's state differs."""
    played, restored = make(kind, 1), make(kind, 2)
    play(played, 3)
    restored.load_state_dict(played.state_dict())
    assert np.array_equal(played._table.buffer, restored._table.buffer)
    return {
        name
        for name in (vars(played).keys() | vars(restored).keys()) - PASSING - FIXED
        if differing(getattr(played, name), getattr(restored, name))
    }


def test_all_that_steps_change_is_restored() -> None:
    assert not_restored(BatchEnv) == set()


def test_a_column_that_is_not_in_the_state_is_found() -> None:
    assert not_restored(FeeEnv) == {"fees"}


def test_a_restored_environment_plays_on_as_the_other_does() -> None:
    played, restored = make(BatchEnv, 1), make(BatchEnv, 2)
    play(played, 3)
    state = played.state_dict()
    restored.load_state_dict(state)
    for one, other in zip(play(played, 4), play(restored, 4), strict=True):
        for name in ("bar", "account"):
            assert np.array_equal(one[0][name], other[0][name])
        assert np.array_equal(one[1], other[1]) and np.array_equal(one[2], other[2])


def test_a_state_is_a_copy() -> None:
    env, restored = make(BatchEnv, 1), make(BatchEnv, 2)
    state = env.state_dict()
    shown = env.observe()
    play(env, 3)  # which starts episodes anew, and writes columns in place for that
    restored.load_state_dict(state)
    for name in ("bar", "account"):
        assert np.array_equal(restored.observe()[name], shown[name])


def test_a_state_of_other_columns_is_refused() -> None:
    env = make(BatchEnv, 1)
    state = env.state_dict()
    state["columns"]["_move"] = state["columns"].pop("_transition")
    with pytest.raises(ValueError, match="_move, _transition"):
        env.load_state_dict(state)
