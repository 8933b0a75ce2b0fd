"""Bars a CPU second of a replay through the live decision code, with an exported MLP policy.

Encoder and head are the ONNX graphs a bot would load, run by onnxruntime on one thread. The replay
includes the flat and the buy-and-hold account. `sequential` encodes each bar alone, as live.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bots.decision.engine import SlotInputs, replay_slot
from bots.decision.risk import RiskGate
from bots.modelstore.bundle import ENCODER, HEAD, OnnxPolicy
from tests.panels import random_features, random_panel
from training.rl.barppo import BarPPO
from training.rl.env import BatchEnv, Episodes
from training.rl.hyperparameters import Hyperparameters
from training.rl.onnx_export import export_model

ROWS = 20_000
FEATURES = 28
SEQUENTIAL_ROWS = 5_000
LIMIT_LOTS = 4
REPEATS = 3


def run() -> dict[str, float]:
    """Return the best of three replays of each kind, and what the replayed policy did."""
    policy = _policy()
    whole, part = _slot(ROWS, policy), _slot(SEQUENTIAL_ROWS, policy)
    result = replay_slot(whole)
    return {
        "replay_bars_per_s": _best(whole, sequential=False),
        "sequential_bars_per_s": _best(part, sequential=True),
        "orders_per_bar": len(result.path.trades) / len(result.actions),
    }


def _policy() -> OnnxPolicy:
    # Untrained weights answer as quickly as trained ones.
    settings = Hyperparameters(network="mlp")
    panel, values = random_panel(2_000), random_features(2_000, FEATURES)
    env = BatchEnv(panel, values, Episodes(LIMIT_LOTS), settings.accounts, settings.group)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_model(BarPPO(env, values, settings), folder, values)
        return OnnxPolicy((folder / ENCODER).read_bytes(), (folder / HEAD).read_bytes())


def _slot(rows: int, policy: OnnxPolicy) -> SlotInputs:
    return SlotInputs(
        "nifty-15m", random_panel(rows), random_features(rows, FEATURES), policy, LIMIT_LOTS
    )


def _best(slot: SlotInputs, *, sequential: bool) -> float:
    best = 0.0
    for _ in range(REPEATS):
        began = time.process_time()
        result = replay_slot(slot, RiskGate(1e12), sequential=sequential)
        best = max(best, len(result.actions) / (time.process_time() - began))
    return best
