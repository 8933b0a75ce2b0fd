"""The part that knows the account: a gated residual network over the market's code."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class GatedResidualNetwork(nn.Module):
    """Mix an input (B, hidden) with an optional context, with a gate that can let it pass as is.

    Source: Lim et al., Temporal Fusion Transformers, arXiv 1912.09363, equations 2 to 5.
    """

    def __init__(self, hidden: int, context: int = 0) -> None:
        super().__init__()
        self.enter = nn.Linear(hidden, hidden)
        self.context = nn.Linear(context, hidden, bias=False) if context else None
        self.leave = nn.Linear(hidden, hidden)
        self.gate = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Return (B, hidden)."""
        mixed = self.enter(inputs)
        if self.context is not None:
            mixed = mixed + self.context(context)
        # Two linear layers in a row are one: cheaper over many rows, and as good over few.
        weight = self.gate.weight @ self.leave.weight
        bias = self.gate.weight @ self.leave.bias + self.gate.bias
        gated = functional.glu(functional.linear(functional.elu(mixed), weight, bias), dim=-1)
        normed: Tensor = self.norm(gated + inputs)
        return normed


class Head(nn.Module):
    """Turn codes (B, hidden) and account states (B, account_size) into logits and values.

    Its three parts belong to a policy of stable-baselines3; this only runs them in order.
    """

    def __init__(self, mix: nn.Module, logits: nn.Module, value: nn.Module) -> None:
        super().__init__()
        self.mix, self.logits, self.value = mix, logits, value

    def forward(self, code: Tensor, account: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, actions) and the values (B,)."""
        mixed = self.mix(code, account)
        return self.logits(mixed), self.value(mixed)[:, 0]
