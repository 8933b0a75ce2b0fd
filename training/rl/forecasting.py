"""Teach an encoder what the market does next, before any policy looks at its codes.

A reward says little about a bar, the next returns say more: a transformer that first learns to
forecast them, and is then frozen, beats one that learns from rewards alone. Few epochs at a high
rate and then stop: more epochs fit noise, and no held-out error of a few thousand bars can tell
(all of it is near that of forecasting nothing), so the last epoch is kept.

Measured on fresh markets: `python -m tests.bench learn`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from bots.decision.observation import Float32Array
from markets.domain.price_panel import PricePanel
from training.nets import Encoder
from training.rl.hyperparameters import FORECAST_CHUNK_BARS, Hyperparameters
from training.rl.progress import TrainingDiverged
from training.rl.training_state import load_optimizer_state, optimizer_state

HORIZONS = (1, 4, 16)
"""Bars ahead whose returns are forecast."""

MAX_TARGET = 4.0
_VOLATILITY_BARS = 20
_LOWEST_RATE_RATIO = 0.02
_MAX_GRADIENT_NORM = 1.0
_LEAST_VOLATILITY = 1e-6


def forecast_targets(panel: PricePanel) -> Float32Array:
    """Return each bar's next returns over its volatility, (T, horizons), clipped to +-4.

    Returns are those of a held contract, a roll's jump left out; volatility is the root mean square
    of the last 20 of them, times the root of the horizon. The last 16 rows, whose future is not all
    there, are NaN.
    """
    # From one close to the next: in the old contract to the open, in the new one from there.
    before = np.concatenate((panel.open[:1], panel.close[:-1]))
    growth = np.log(panel.previous_open / before) + np.log(panel.close / panel.open)
    level = np.cumsum(growth)
    squares = np.convolve(growth * growth, np.ones(_VOLATILITY_BARS) / _VOLATILITY_BARS)
    volatility = np.maximum(np.sqrt(squares[: len(panel)]), _LEAST_VOLATILITY)
    targets = np.full((len(panel), len(HORIZONS)), np.nan)
    for column, bars in enumerate(HORIZONS):
        if bars < len(panel):
            moved = (level[bars:] - level[:-bars]) / (volatility[:-bars] * math.sqrt(bars))
            targets[:-bars, column] = np.clip(moved, -MAX_TARGET, MAX_TARGET)
    targets[-max(HORIZONS) :] = np.nan
    return targets.astype(np.float32)


class Forecaster:
    """Train an encoder and a linear layer on its codes to forecast, an epoch at a time.

    rows (T, F) are normalised features and targets (T, horizons) of `forecast_targets`; only bars
    [first, stop) are learned from, `first` with its whole window before it and `stop` at most the
    end of the training span less the longest horizon. Raises ValueError when they do not make one
    batch. The same seed gives the same bits on one CPU thread.
    """

    def __init__(
        self,
        encoder: Encoder,
        rows: Tensor,
        targets: Tensor,
        bars: range,
        settings: Hyperparameters,
        seed: int,
    ) -> None:
        self._encoder, self._rows, self._targets = encoder, rows, targets
        self._settings = settings
        self._first = bars.start
        # The chunks begin anywhere in the first one's place, so one is kept free for the shift.
        self._chunks = len(bars) // FORECAST_CHUNK_BARS - 1
        self._batch_chunks = settings.forecast_batch_size // FORECAST_CHUNK_BARS
        if self._chunks < self._batch_chunks:
            raise ValueError(
                f"{len(bars)} bars to forecast do not make a batch of "
                f"{settings.forecast_batch_size}: give more bars or forecast_epochs 0"
            )
        self.random = torch.Generator().manual_seed(seed)
        self.layer = nn.Linear(encoder.hidden, len(HORIZONS), device=rows.device)
        with torch.no_grad():
            # From our own stream, as what else draws from torch's must not change a training.
            bound = encoder.hidden**-0.5
            for parameter in self.layer.parameters():
                drawn = torch.rand(parameter.shape, generator=self.random)
                parameter.copy_(bound * (2.0 * drawn - 1.0))
        self._parameters = [*encoder.parameters(), *self.layer.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.forecast_learning_rate,
            weight_decay=settings.forecast_weight_decay,
            fused=True,
        )
        self.epochs_done = 0

    @property
    def is_done(self) -> bool:
        """Return whether all epochs are done."""
        return self.epochs_done >= self._settings.forecast_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return what the epochs that are left need, beside the encoder: nested dicts."""
        return {
            "layer": self.layer.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "random": self.random.get_state(),
            "epochs_done": self.epochs_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the epochs that were done."""
        self.layer.load_state_dict(state["layer"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.random.set_state(state["random"])
        self.epochs_done = state["epochs_done"]

    def run_epoch(self) -> float:
        """See every chunk of bars once and return the mean loss; raise TrainingDiverged."""
        shift = int(torch.randint(FORECAST_CHUNK_BARS, (1,), generator=self.random))
        order = torch.randperm(self._chunks, generator=self.random)
        batches = len(order) // self._batch_chunks
        steps = torch.arange(FORECAST_CHUNK_BARS)
        losses = []
        for number in range(batches):
            self._set_rate((self.epochs_done + number / batches) / self._settings.forecast_epochs)
            # In order, so that rows are gathered along their memory.
            chunks = order[number * self._batch_chunks :][: self._batch_chunks].sort().values
            bars = (self._first + shift + FORECAST_CHUNK_BARS * chunks[:, None] + steps).view(-1)
            losses.append(self._update(bars.to(self._rows.device)))
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the forecast loss is {loss} after {self.epochs_done} epochs: look for extreme "
                f"features or prices, else lower forecast_learning_rate"
            )
        self.epochs_done += 1
        return loss

    def _update(self, bars: Tensor) -> Tensor:
        forecasts = self.layer(self._encoder.encode_bars(self._rows, bars))
        loss = functional.mse_loss(forecasts, self._targets[bars])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(self._parameters, _MAX_GRADIENT_NORM)
        self.optimizer.step()
        return loss.detach()

    def _set_rate(self, done_ratio: float) -> None:
        rate = self._settings.forecast_learning_rate * max(1.0 - done_ratio, _LOWEST_RATE_RATIO)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
