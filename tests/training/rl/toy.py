"""A market that can be learned: the price returns to a level, and one feature says how far off."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch

from bots.decision.observation import Float32Array
from markets.domain.price_panel import PricePanel
from training.rl.barppo import BarPPO
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters

torch.set_num_threads(1)

LIMIT_LOTS = 4
BARS = 5_000
TRAIN_BARS = 3_000
FEATURES = 6

# Small enough that a rollout takes a few milliseconds.
SMALL = Hyperparameters(accounts=8, rollout_steps=16, batch_size=64, epochs=2)


def mean_reverting(bars: int = BARS, seed: int = 1) -> tuple[PricePanel, Float32Array]:
    """Return a panel with small costs and its features: the deviation first, then noise."""
    random = np.random.default_rng(seed)
    deviation, shocks = np.zeros(bars), 0.004 * random.normal(size=bars)
    for bar in range(1, bars):
        deviation[bar] = 0.9 * deviation[bar - 1] + shocks[bar]
    close = 20_000.0 * np.exp(deviation + np.cumsum(5e-4 * random.normal(size=bars)))
    opening = np.concatenate((close[:1], close[:-1]))
    opens_at = np.arange(bars, dtype=np.int64) * 3600

    def column(value: float) -> Any:
        return np.full(bars, value)

    panel = PricePanel(
        opens_at=opens_at,
        closes_at=opens_at + 3600,
        open=opening,
        close=close,
        previous_open=opening.copy(),
        roll=np.zeros(bars, dtype=np.bool_),
        lot_size=column(75.0),
        buy_rate=column(2e-5),
        sell_rate=column(1e-4),
        brokerage_rate=column(0.0),
        brokerage_cap=column(np.inf),
        funding_rate=column(0.0),
        slippage=1e-4,
    )
    features = random.normal(size=(bars, FEATURES)).astype(np.float32)
    features[:, 0] = 1.0 + 100.0 * deviation
    return panel, features


def make_model(
    panel: PricePanel,
    features: Float32Array,
    settings: Hyperparameters | None = None,
    seed: int = 0,
    device: str = "cpu",
    **episodes: Any,
) -> BarPPO:
    """Return an untrained BarPPO whose episodes stay within the first 3,000 rows."""
    settings = settings or Hyperparameters()
    stop = min(TRAIN_BARS, len(panel))
    env = BatchEnv(
        panel,
        features,
        Episodes(LIMIT_LOTS, stop=stop, exploring_starts=True, **episodes),
        settings.accounts,
        settings.group,
    )
    return BarPPO(env, features, settings, seed=seed, device=device)


def fingerprint(model: BarPPO) -> str:
    """Return a hash of every weight, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.policy.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
