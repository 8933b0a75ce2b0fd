"""A copy of a policy as it was, and what it costs to leave it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from training.nets import Encoder
from training.nets.head import Head
from training.rl.embedding_cache import EmbeddingCache


@dataclass(frozen=True, slots=True)
class ReferencePolicy:
    """Hold a policy as it was, whatever becomes of the model."""

    encoder: Encoder
    head: Head


class KlAnchor:
    """Measure how far a policy has gone from a copy of itself, at a price.

    rows (T, F) are normalised features; only the codes of `bars` are worked out, once.
    """

    def __init__(
        self, encoder: Encoder, head: Head, rows: Tensor, bars: range, weight: float
    ) -> None:
        self.weight = weight
        self.reference = ReferencePolicy(
            copy.deepcopy(encoder).requires_grad_(False).eval(),
            copy.deepcopy(head).requires_grad_(False).eval(),
        )
        self._codes = EmbeddingCache(
            lambda each: self.reference.encoder.encode_bars(rows, each),
            len(rows),
            encoder.hidden,
            rows.device,
        )
        with torch.no_grad():
            self._codes.fill(bars)

    def penalty(self, bars: Tensor, accounts: Tensor, log_probs: Tensor) -> Tensor:
        """Return the weight times the mean divergence of a policy (B, 7) from the copy."""
        with torch.no_grad():
            logits, _ = self.reference.head(self._codes.get(bars), accounts)
            expected = logits.log_softmax(dim=-1)
        found: Tensor = self.weight * (expected.exp() * (expected - log_probs)).sum(dim=-1).mean()
        return found
