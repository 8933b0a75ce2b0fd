"""Market encoders by name. A new one is one file and one line in NETWORKS.

The registry imports a network's module only when it is asked for, so that a heavy one costs
nothing to those that train another.
"""

from __future__ import annotations

import importlib

from training.nets.encoder import Encoder

# name: module, class
NETWORKS: dict[str, tuple[str, str]] = {
    "lstm": ("training.nets.lstm", "LstmEncoder"),
    "mlp": ("training.nets.mlp", "MlpEncoder"),
    "tft": ("training.nets.tft", "TftEncoder"),
}


def make_encoder(name: str, feature_count: int, window: int, hidden: int) -> Encoder:
    """Return a fresh encoder of windows (B, window, feature_count) to codes (B, hidden).

    Raises ValueError naming the known networks for any other name.
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; known are: {', '.join(sorted(NETWORKS))}")
    module_name, class_name = NETWORKS[name]
    encoder_class = getattr(importlib.import_module(module_name), class_name)
    encoder: Encoder = encoder_class(feature_count, window, hidden)
    return encoder
