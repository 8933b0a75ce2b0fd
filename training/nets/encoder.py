"""What every market encoder shares: the normalisation, and codes for bars or for windows.

An encoder sees the market only, never the account, so its code of a bar serves every account
that looks at that bar. The normalisation is part of it, so an exported graph takes raw features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

CLIP = 5.0
_SMALLEST_STD = 1e-6


class Encoder(nn.Module):
    """Turn windows (B, window, features) of raw features into codes (B, hidden)."""

    mean: Tensor
    scale: Tensor
    """One over the standard deviation, and 0 for a feature that is masked."""

    def __init__(self, feature_count: int, window: int, hidden: int) -> None:
        super().__init__()
        self.feature_count, self.window, self.hidden = feature_count, window, hidden
        self.register_buffer("mean", torch.zeros(feature_count))
        self.register_buffer("scale", torch.ones(feature_count))

    @property
    def std(self) -> Tensor:
        """Return the standard deviations (features,), 0 for a feature that is masked."""
        return torch.where(self.scale > 0.0, 1.0 / self.scale, 0.0)

    def fit_normalisation(self, training_rows: npt.NDArray[np.float32]) -> None:
        """Take mean and standard deviation from the rows (T, features) of the training span only.

        A constant feature is masked: it is exactly 0 here and wherever the encoder goes, because
        weights that never saw it move know nothing of what it means when it does.
        """
        # In float64: a float32 sum over a long span loses the digits that a deviation is made of.
        mean = training_rows.mean(axis=0, dtype=np.float64)
        std = training_rows.std(axis=0, dtype=np.float64)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            bad = np.flatnonzero(~np.isfinite(mean + std)).tolist()
            raise ValueError(f"feature columns {bad} of the training span are not finite")
        moves = std >= _SMALLEST_STD
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(moves, 1.0 / np.where(moves, std, 1.0), 0.0)))

    def normalise(self, rows: Tensor) -> Tensor:
        """Return rows (..., features) centred, scaled and clipped to +-5; masked ones are 0."""
        return ((rows - self.mean) * self.scale).clamp(-CLIP, CLIP)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of raw windows (B, window, features), as is exported."""
        return self.encode(self.normalise(windows))

    def encode(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of normalised windows (B, window, features)."""
        raise NotImplementedError

    def encode_bars(self, rows: Tensor, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,), each a row number into normalised rows (T, F).

        The same as encoding the window that ends with each bar, which a network that can share
        work between overlapping windows overrides. Every bar must be at least window - 1.
        """
        return self.encode(windows_of(rows, bars, self.window))


def windows_of(rows: Tensor, bars: Tensor, window: int) -> Tensor:
    """Return the windows (B, window, F) of contiguous rows (T, F) that end with each bar (B,)."""
    length, features = rows.shape
    # A view in which row i is the window that starts at i: a gather copies whole windows.
    view = rows.as_strided((length - window + 1, window * features), (features, 1))
    return view[bars - (window - 1)].view(-1, window, features)


def shared_windows(bars: Tensor, window: int, row_count: int) -> tuple[Tensor, Tensor]:
    """Return the distinct rows (M,) under the windows of bars (B,), and each window's places.

    The places (window, B), oldest bar first, index the M rows: what a network works out of one row
    alone it does M times instead of B * window times. Raises IndexError for bars outside
    [0, row_count) of the rows; every bar must be at least window - 1.
    """
    steps = torch.arange(1 - window, 1, device=bars.device)
    under = bars + steps[:, None]
    marked = torch.zeros(row_count, dtype=torch.bool, device=bars.device)
    marked[under] = True
    places = marked.cumsum(0) - 1
    return marked.nonzero()[:, 0], places[under]
