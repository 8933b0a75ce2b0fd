"""Steps a CPU second of the trading environments, random actions, everything paid and delivered.

Every step trades whole lots with slippage and dated charges, keeps the position's state, rolls
contracts and returns the feature row (30 columns, higher timeframes among them) with the account;
the funded ones pay for being held as well, as a perpetual's do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tests.panels import random_features, random_funding, random_panel
from training.rl.env import BatchEnv, Episodes, SingleEnv

ROWS = 20_000
FEATURES = 30
SINGLE_STEPS = 40_000
BATCH_STEPS = 4_000
REPEATS = 3


def run() -> dict[str, float]:
    """Return the best of three runs of each environment."""
    return {
        "single_steps_per_cpu_s": _best(_single_steps),
        "batch64_steps_per_cpu_s": _best(lambda: _batch_steps(64)),
        "batch256_steps_per_cpu_s": _best(lambda: _batch_steps(256)),
        "batch64_index_steps_per_cpu_s": _best(lambda: _batch_steps(64, as_rows=False)),
        "batch64_funded_steps_per_cpu_s": _best(lambda: _batch_steps(64, funded=True)),
    }


def _best(measure: Callable[[], float]) -> float:
    return max(measure() for _ in range(REPEATS))


def _single_steps() -> float:
    env = SingleEnv(random_panel(ROWS), random_features(ROWS, FEATURES), Episodes(limit_lots=4))
    actions = np.random.default_rng(0).integers(0, 7, SINGLE_STEPS).tolist()
    env.reset(seed=0)
    began = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return SINGLE_STEPS / (time.process_time() - began)


def _batch_steps(accounts: int, *, as_rows: bool = True, funded: bool = False) -> float:
    env = BatchEnv(
        random_panel(ROWS, funding_rate=random_funding(ROWS) if funded else 0.0),
        random_features(ROWS, FEATURES),
        Episodes(limit_lots=4),
        accounts=accounts,
        seed=0,
        as_rows=as_rows,
    )
    actions = np.random.default_rng(0).integers(0, 7, (BATCH_STEPS, accounts))
    env.reset()
    began = time.process_time()
    for taken in actions:
        env.step(taken)
    return BATCH_STEPS * accounts / (time.process_time() - began)
