"""The bridge to stable-baselines3: bar numbers in, features of the market and the account out."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from bots.decision.observation import Float32Array
from training.nets import Encoder, make_encoder
from training.nets.head import GatedResidualNetwork


class BarExtractor(BaseFeaturesExtractor):
    """Look a bar up in the features it was given, encode it and mix in the account state."""

    rows: Tensor

    def __init__(
        self, observation_space: spaces.Dict, network: str, features: int, window: int, hidden: int
    ) -> None:
        super().__init__(observation_space, hidden)
        self.account_size = int(np.prod(observation_space["account"].shape or ()))
        self.encoder: Encoder = make_encoder(network, features, window, hidden)
        self.mix = GatedResidualNetwork(hidden, context=self.account_size)
        # Not part of the weights: the features of a run are not knowledge of the model.
        self.register_buffer("rows", torch.zeros(window, features), persistent=False)

    def attach(self, features: Float32Array) -> None:
        """Take the raw features (T, F) that bar numbers refer to, normalised by the encoder.

        To be called again whenever the encoder's normalisation has changed.
        """
        raw = torch.as_tensor(features, dtype=torch.float32, device=self.rows.device)
        self.rows = self.encoder.normalise(raw).contiguous()

    def encode_distinct(self, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,) that are all different."""
        return self.encoder.encode_bars(self.rows, bars)

    def codes(self, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,), encoding each distinct bar once."""
        distinct, places = torch.unique(bars, return_inverse=True)
        return self.encode_distinct(distinct)[places]

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return (B, hidden) of stable-baselines3's observations, whose bars are floats by then.

        They are exact up to 2^24 bars.
        """
        codes = self.codes(observations["bar"].long().view(-1))
        mixed: Tensor = self.mix(codes, observations["account"])
        return mixed
