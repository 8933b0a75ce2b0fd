"""Every dial of a training run in one place, with what it does and how it goes wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

FORECAST_CHUNK_BARS = 64
"""Neighbours that stay together in a forecasting batch, so that their windows share work."""

# What a network is trained with where that is not the MLP's, which the defaults are.
_FORECAST_FIRST = {
    "forecast_epochs": 4,
    "freeze_encoder": True,
    "learning_rate": 3e-3,
    "group": 8,
    "segment_bars": 16,
}
RECIPES: dict[str, dict[str, Any]] = {"tft": _FORECAST_FIRST, "lstm": _FORECAST_FIRST}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Set up BarPPO; the defaults are the measured ones of the MLP.

    Raises ValueError for values that do not fit each other.
    """

    network: str = "mlp"
    """Market encoder, by its name in training.nets."""

    hidden: int = 32
    """Size of a bar's code. Larger memorises: train results rise, held-out ones do not."""

    window: int = 32
    """Bars an encoder looks back. The live engine must use the same; it is in the manifest."""

    accounts: int = 64
    """Accounts that trade side by side. Fewer make the advantages of a batch look alike."""

    group: int = 1
    """Accounts that share one path of bars, so that one code serves all of them. A speed dial for
    costly encoders: with 8 the same steps visit 8 times fewer bars, so say it beside any rate."""

    rollout_steps: int = 128
    """Bars each account trades between two updates. Short against 1 / (1 - gamma * gae_lambda)
    and the advantages are mostly the critic's guess."""

    batch_size: int = 1024
    """Steps per gradient update. Small batches cost the most time: the noise of a bar is large
    against its signal, so many small updates chase noise."""

    epochs: int = 4
    """Passes over each rollout. More fit the last rollout's noise; watch approx_kl and
    clip_fraction."""

    segment_bars: int = 1
    """Consecutive bars of a path that stay together in a minibatch, so that their overlapping
    windows share work; 1 draws every step by itself. Only some encoders gain (16 for those that
    work bar by bar), and neighbours look alike, so a batch holds less that is new."""

    learning_rate: float = 1e-3
    """Adam's step at the start, falling in a line with the steps done."""

    final_learning_rate_ratio: float = 0.05
    """Where that line ends, as a share of the start. It is a line over the *planned* steps: a run
    cut short by its time budget ends on a higher rate."""

    gamma: float = 0.97
    """Discount of a bar: the horizon is about 1 / (1 - gamma) = 33 bars. Nearer to 1 the value
    becomes the drift of the training span."""

    gae_lambda: float = 0.9
    """Trust in observed rewards (1) against the critic (0) when crediting an action."""

    entropy_weight: float = 0.01
    """Reward for undecided policies. It must suit the scale of the reward: too little and the
    policy holds for ever after some costly trades, too much and it trades at random."""

    value_weight: float = 0.5
    """Share of the critic's loss. Both share the encoder, so a large one drowns the actor."""

    clip: float = 0.2
    """How far the odds of an action may move per update before its gradient is cut."""

    max_gradient_norm: float = 0.5
    """Longest gradient; a crash in the data is one outlier and must not throw the weights."""

    forecast_epochs: int = 0
    """Passes over the training span in which the encoder learns to forecast before any policy;
    0 for none. It makes the TFT and harms the MLP, which memorises. 4 was better than 6 and 8, and
    than 3 (on three markets kept for choosing: 78 % of the oracle against 74 %)."""

    forecast_learning_rate: float = 5e-3
    """AdamW's step at the start of these, falling in a line. High on purpose: at 5e-4 the forecasts
    reach .54 of correlation with the planted state, at 5e-3 .82, of a possible .89."""

    forecast_weight_decay: float = 0.01
    """AdamW's pull of the weights towards 0 while forecasting."""

    forecast_batch_size: int = 256
    """Bars per forecasting update, in chunks of 64 neighbours."""

    clone_epochs: int = 0
    """Passes over the owner's decisions in which the policy learns to do as he did, before it
    learns from rewards; 0 for none."""

    clone_learning_rate: float = 1e-3
    """AdamW's step at the start of these, falling in a line."""

    style_weight: float = 0.0
    """Price of leaving the clone: the divergence of the policy from it is subtracted from the
    objective so many times. On a log scale from 0.01 (free) to 1 (the clone)."""

    freeze_encoder: bool = False
    """Keep the encoder as it is while the policy learns, so that its codes are worked out once for
    all bars and a costly encoder costs a policy no more than a cheap one. Only after forecasting,
    or with weights that were trained before: an untrained encoder must learn."""

    def __post_init__(self) -> None:
        self._require_ranges()
        self._require_multiple("accounts", "group", self.group)
        self._require_multiple("rollout_steps", "segment_bars", self.segment_bars)
        self._require_multiple("batch_size", "segment_bars * group", self.block_size)
        self._require_multiple("forecast_batch_size", "the chunk", FORECAST_CHUNK_BARS)
        if self.rollout_size % self.batch_size:
            raise ValueError(
                f"a rollout of {self.rollout_size} steps does not make whole batches of "
                f"{self.batch_size}"
            )
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: advantages are scaled within a batch")

    @property
    def block_size(self) -> int:
        """Return the number of steps that stay together in a minibatch."""
        return self.segment_bars * self.group

    @property
    def rollout_size(self) -> int:
        """Return the number of steps between two updates, over all accounts."""
        return self.rollout_steps * self.accounts

    def learning_rate_at(self, progress_remaining: float) -> float:
        """Return Adam's step for a share of the planned steps still to go, 1 down to 0."""
        return self.learning_rate * max(progress_remaining, self.final_learning_rate_ratio)

    def to_manifest(self) -> dict[str, Any]:
        """Return the values by name, plain enough for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, network: str, **changes: Any) -> Hyperparameters:
        """Return the measured settings of a network by name, with changes; raise ValueError.

        A network without settings of its own gets the defaults.
        """
        return cls(**({"network": network} | RECIPES.get(network, {}) | changes))

    @classmethod
    def from_manifest(cls, values: dict[str, Any]) -> Hyperparameters:
        """Return the settings written by `to_manifest`; raise ValueError naming unknown ones."""
        unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown hyperparameters: {', '.join(unknown)}")
        return cls(**values)

    def _require_ranges(self) -> None:
        whole = ("hidden", "window", "accounts", "group", "rollout_steps", "batch_size", "epochs")
        for name in (*whole, "segment_bars", "forecast_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("gamma", "gae_lambda", "final_learning_rate_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        for name in ("forecast_epochs", "forecast_weight_decay", "clone_epochs", "style_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        rates = ("learning_rate", "forecast_learning_rate", "clone_learning_rate")
        for name in (*rates, "clip", "max_gradient_norm"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    def _require_multiple(self, name: str, of: str, value: int) -> None:
        if getattr(self, name) % value:
            raise ValueError(f"{name} {getattr(self, name)} is not a multiple of {of} {value}")
