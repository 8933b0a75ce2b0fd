"""The plain network: two layers over the flattened window. Quick on a CPU, the default."""

from __future__ import annotations

from torch import Tensor, nn

from training.nets.encoder import Encoder

_WIDTH = 64


class MlpEncoder(Encoder):
    """Encode a window by a tanh layer of 64 and one of the code's size."""

    def __init__(self, feature_count: int, window: int, hidden: int) -> None:
        super().__init__(feature_count, window, hidden)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(window * feature_count, _WIDTH),
            nn.Tanh(),
            nn.Linear(_WIDTH, hidden),
            nn.Tanh(),
        )

    def encode(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of normalised windows (B, window, features)."""
        codes: Tensor = self.layers(windows)
        return codes
