"""The codes of bars on the device, each worked out once for as long as it stays right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from markets.domain.bars import IntArray

_ENCODE_CHUNK = 1024


class EmbeddingCache:
    """Encode each bar once per rollout, however many accounts and windows look at it.

    Weights stand still during a rollout, so a code stays right until `clear`, and those of a frozen
    encoder for ever. Bars are asked for along paths: one not encoded yet is encoded with those that
    follow it, in large batches.
    """

    def __init__(
        self, encode: Callable[[Tensor], Tensor], bars: int, hidden: int, device: torch.device
    ) -> None:
        self._encode = encode
        self._device = device
        self._codes = torch.zeros(bars, hidden, device=device)
        # On the host: asking the device whether a bar is known would wait for it at every step.
        self._is_encoded = np.zeros(bars, dtype=np.bool_)

    def clear(self) -> None:
        """Forget the codes: the encoder has changed."""
        self._is_encoded[:] = False

    def fill(self, bars: range) -> None:
        """Encode all of these bars now, as long runs, in which windows share the most work."""
        self._encode_along(np.array([bars.start]), len(bars) - 1)

    def get(self, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,) on the device that were encoded before."""
        return self._codes[bars]

    def get_or_encode(self, bars: IntArray, ahead: int) -> Tensor:
        """Return the codes (B, hidden) of bars (B,), some of them not encoded yet.

        Those bring the next `ahead` bars of their path along.
        """
        missing_bars = bars[~self._is_encoded[bars]]
        if len(missing_bars):
            self._encode_along(missing_bars, ahead)
        return self._codes[torch.from_numpy(bars).to(self._device)]

    def _encode_along(self, missing_bars: IntArray, ahead: int) -> None:
        requested = np.zeros_like(self._is_encoded)
        steps = np.unique(missing_bars)[:, None] + np.arange(ahead + 1)
        requested[steps[steps < len(requested)]] = True
        missing = np.flatnonzero(requested & ~self._is_encoded)
        for start in range(0, len(missing), _ENCODE_CHUNK):
            chunk = torch.from_numpy(missing[start : start + _ENCODE_CHUNK]).to(self._device)
            self._codes[chunk] = self._encode(chunk)
        self._is_encoded[missing] = True
