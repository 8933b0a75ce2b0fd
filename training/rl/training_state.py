"""What a training's state is made of, and which training it is of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bots.decision.observation import Float32Array
from training.rl.env import BatchEnv
from training.rl.hyperparameters import Hyperparameters

# stable-baselines3 names the one shared extractor three times.
_ALIASES = ("pi_features_extractor.", "vf_features_extractor.")


def policy_weights(policy: nn.Module) -> dict[str, Tensor]:
    """Return a policy's tensors by name, each once, the normalisation among them."""
    state = policy.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith(_ALIASES)}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return an optimizer's tensors by the parameter's number and their name.

    Each is shaped as its parameter, but for the count of steps, ().
    """
    return {str(number): state for number, state in optimizer.state_dict()["state"].items()}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, state: dict[str, dict[str, Tensor]]
) -> None:
    """Let an optimizer of the same parameters go on from a state of `optimizer_state`."""
    numbered = {int(number): tensors for number, tensors in state.items()}
    # Its rates stay: they follow the steps done, and are set before every update.
    optimizer.load_state_dict(optimizer.state_dict() | {"state": numbered})


def training_identity(
    env: BatchEnv,
    features: Float32Array,
    hyperparameters: Hyperparameters,
    seed: int | None,
    total_timesteps: int,
) -> str:
    """Return a hash of all that decides how a training goes; features are (T, F)."""
    settings: list[Any] = [
        *(hyperparameters.to_manifest(), seed, total_timesteps, repr(env.episodes)),
    ]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    panel = env.panel
    for array in (features, panel.open, panel.close, panel.previous_open):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
