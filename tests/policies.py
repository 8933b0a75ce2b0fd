"""Policies without a model file: one that follows a script, one that answers by its inputs."""

import numpy as np

from bots.decision.actions import DELTAS
from bots.decision.observation import Float32Array


class ScriptedPolicy:
    """Answer the action written into the first feature of the window's last row."""

    def encode(self, windows: Float32Array) -> Float32Array:
        """Return the last row's first feature as the code."""
        return windows[:, -1, :1]

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return logits that are highest for the scripted action."""
        logits = np.zeros((1, len(DELTAS)), dtype=np.float32)
        logits[0, int(code[0, 0])] = 1.0
        return logits


class NoisePolicy:
    """Answer by fixed random weights of how a window's last row stands out, and the account.

    What stands still in a window, as funding almost does, must not decide alone.
    """

    def __init__(self, features: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._encoder = rng.standard_normal((features, 6)).astype(np.float32)
        self._head = rng.standard_normal((10, len(DELTAS))).astype(np.float32)

    def encode(self, windows: Float32Array) -> Float32Array:
        """Return the codes of windows, row by row: a batch must not change an answer."""
        moves = [window[-1] - window.mean(axis=0) for window in windows]
        return np.stack([np.tanh(move @ self._encoder) for move in moves])

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return the logits of one code and one account state."""
        return np.concatenate((code, account), axis=1) @ self._head


def script(actions: object, features: int = 2) -> Float32Array:
    """Return feature rows whose first column scripts an action a bar."""
    column = np.asarray(actions, dtype=np.float32)
    return np.stack((column,) * features, axis=1)
