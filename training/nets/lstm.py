"""The recurrent network: one layer over each bar, then a long short-term memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.nets.encoder import Encoder, shared_windows


class LstmEncoder(Encoder):
    """Encode a window by the state of an LSTM after its last bar.

    Source: Hochreiter and Schmidhuber 1997; the forget gates begin at 1 (Jozefowicz et al. 2015),
    without which 32 bars are too long for the first of them to be felt.
    """

    def __init__(self, feature_count: int, window: int, hidden: int) -> None:
        super().__init__(feature_count, window, hidden)
        self.enter = nn.Linear(feature_count, hidden)
        self.lstm = nn.LSTM(hidden, hidden)
        with torch.no_grad():
            # Its gates are in, forget, cell, out; each of its two biases adds half.
            for name, parameter in self.lstm.named_parameters():
                if name.startswith("bias"):
                    parameter[hidden : 2 * hidden] = 0.5

    def encode(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of normalised windows (B, window, features)."""
        return self._encode_sequence(torch.tanh(self.enter(windows.transpose(0, 1))))

    def encode_bars(self, rows: Tensor, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,), each a row number into normalised rows (T, F).

        The first layer sees every distinct row of the windows once. Bars must be at least
        window - 1.
        """
        needed, places = shared_windows(bars, self.window, len(rows))
        return self._encode_sequence(
            functional.embedding(places, torch.tanh(self.enter(rows[needed])))
        )

    def _encode_sequence(self, entered: Tensor) -> Tensor:
        codes: Tensor = self.lstm(entered)[0][-1]
        return codes
