"""A trained policy as a bot asks it, straight from torch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from bots.decision.observation import (
    Float32Array,
)
from training.rl.barppo import BarPPO
from training.rl.kl_anchor import ReferencePolicy


class TorchPolicy:
    """Answer like a bot's policy, straight from torch: for evaluation without an export."""

    def __init__(self, model: BarPPO | ReferencePolicy) -> None:
        self._encoder = copy.deepcopy(model.encoder).cpu().eval()
        self._head = copy.deepcopy(model.head).cpu().eval()

    @torch.inference_mode()
    def encode(self, windows: Float32Array) -> Float32Array:
        """Return the codes (B, H) of raw feature windows (B, window, features)."""
        codes: Float32Array = self._encoder(_tensor(windows)).numpy()
        return codes

    @torch.inference_mode()
    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return the logits (B, 7) of codes (B, H) and account states (B, 4)."""
        logits: Float32Array = self._head(_tensor(code), _tensor(account))[0].numpy()
        return logits


def _tensor(array: Float32Array) -> Tensor:
    # torch shares the memory and warns of what it could not write to.
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))
