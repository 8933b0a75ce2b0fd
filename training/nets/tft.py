"""The Temporal Fusion Transformer's encoder, lean: what a window says at its last bar.

Variable selection weighs every feature at every bar, an LSTM follows the window, interpretable
attention looks back from the last bar, and gates let each part be passed by. The arithmetic is that
of pytorch-forecasting's blocks (a test carries their weights over), in an order
that costs less:

* the variable selection depends on one bar alone, so overlapping windows share it;
* only the last bar's answer is wanted, so attention has one query: its keys are folded into the
  query and its values are taken after the average, neither is worked out bar by bar;
* all features go through one batched product, and two linear layers in a row are one.

Static inputs, the decoder and the quantiles of the paper are not here: a slot is one instrument.

Source: Lim, Arik, Loeff and Pfister, Temporal Fusion Transformers for Interpretable Multi-horizon
Time Series Forecasting, International Journal of Forecasting 37 (2021), arXiv 1912.09363.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.nets.encoder import Encoder, shared_windows
from training.nets.head import GatedResidualNetwork

HEADS = 4
VARIABLE_WIDTH = 8
"""Numbers that each feature's value is spread over before the gates."""

# Rows whose intermediates, features x rows x 2 hidden floats, stay near the core.
_CHUNK_ROWS = 128
_NORM_EPSILON = 1e-5


class TftEncoder(Encoder):
    """Encode a window by the temporal fusion transformer, its state at the last bar.

    `hidden` must be a multiple of the 4 attention heads; raises ValueError otherwise.
    """

    def __init__(self, feature_count: int, window: int, hidden: int) -> None:
        super().__init__(feature_count, window, hidden)
        if hidden % HEADS:
            raise ValueError(f"hidden {hidden} is not a multiple of {HEADS} attention heads")
        self.select = VariableSelection(feature_count, hidden)
        self.lstm = nn.LSTM(hidden, hidden)
        self.after_lstm = GateAddNorm(hidden)
        self.enrich = GatedResidualNetwork(hidden)
        self.attention = LastQueryAttention(hidden)
        self.after_attention = GateAddNorm(hidden)
        self.feed_forward = GatedResidualNetwork(hidden)
        self.leave = GateAddNorm(hidden)

    def encode(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of normalised windows (B, window, features)."""
        by_time = windows.transpose(0, 1)
        selected = self.select(by_time.reshape(-1, self.feature_count))
        return self._encode_sequence(selected.view(self.window, -1, self.hidden))

    def encode_bars(self, rows: Tensor, bars: Tensor) -> Tensor:
        """Return the codes (B, hidden) of bars (B,), each a row number into normalised rows (T, F).

        Every distinct row of the windows is selected once, however many windows it is in; the
        codes and their gradients are those of `encode`. Bars must be at least window - 1.
        """
        needed, places = shared_windows(bars, self.window, len(rows))
        selected = self.select(rows[needed])
        return self._encode_sequence(functional.embedding(places, selected))

    def _encode_sequence(self, selected: Tensor) -> Tensor:
        """Return the codes (B, hidden) of selected inputs (window, B, hidden), bars first."""
        followed = self.after_lstm(self.lstm(selected)[0], selected)
        enriched = self.enrich(followed)
        attended = self.after_attention(self.attention(enriched)[0], enriched[-1])
        codes: Tensor = self.leave(self.feed_forward(attended), followed[-1])
        return codes


class GateAddNorm(nn.Module):
    """Add what a gate lets through of an input to another, and normalise the sum.

    Source: Lim et al. 2021, equations 3 to 5.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: Tensor, skipped: Tensor) -> Tensor:
        """Return (..., hidden) of two tensors (..., hidden)."""
        normed: Tensor = self.norm(functional.glu(self.gate(inputs), dim=-1) + skipped)
        return normed


class LastQueryAttention(nn.Module):
    """Attend from the last bar of a window to all of it, by heads that share their values.

    Sharing them makes the mean of the heads' weights the share of each bar in the answer. Source:
    Lim et al. 2021, equations 9 to 16.
    """

    def __init__(self, hidden: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.width = heads, hidden // heads
        self.query = nn.Linear(hidden, hidden)
        # Without the paper's bias: it adds the same to all bars, and the softmax drops it.
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, self.width)
        self.leave = nn.Linear(self.width, hidden, bias=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answer (B, hidden) and the bars' weights (B, window).

        inputs are (window, B, hidden), oldest bar first.
        """
        hidden = inputs.shape[-1]
        query = self.query(inputs[-1]).view(-1, self.heads, self.width)
        # q . (K x) is (K' q) . x: one product a head instead of one a bar.
        folded = torch.einsum(
            "bnd,ndh->bnh", query, self.key.weight.view(self.heads, self.width, hidden)
        )
        # Products and sums: as matrices these are thin, and batched products of them slow.
        scores = torch.stack([(inputs * each).sum(dim=-1) for each in folded.unbind(dim=1)])
        weights = (scores * self.width**-0.5).softmax(dim=1).mean(dim=0)
        # The weights sum to 1, so the mean of the values is the value of the mean.
        mean = (weights[..., None] * inputs).sum(dim=0)
        return self.leave(self.value(mean)), weights.t()


class VariableSelection(nn.Module):
    """Weigh the features of a bar, each passed through a gated residual network of its own.

    Features are scalars, so the layer that spreads a value over VARIABLE_WIDTH numbers is folded
    into the ones after it, and what skips a network is an affine function of one number. Source:
    Lim et al. 2021, equations 6 to 8.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        width, narrow = VARIABLE_WIDTH, min(hidden, features)
        self.features, self.hidden = features, hidden
        self.enter_weight = _normal(0.3, features, width)
        self.enter_bias = _zeros(features, width)
        self.leave_weight = _normal((2.0 / width) ** 0.5, features, width, width)
        self.leave_bias = _zeros(features, width)
        self.gate_weight = _normal((2.0 / (width + 2 * hidden)) ** 0.5, features, width, 2 * hidden)
        self.gate_bias = _zeros(features, 2 * hidden)
        self.skip_weight = _normal(0.3, features, hidden)
        self.skip_bias = _zeros(features, hidden)
        self.skip_norm_weight = nn.Parameter(torch.ones(features, hidden))
        self.skip_norm_bias = _zeros(features, hidden)
        self.norm_weight = nn.Parameter(torch.ones(features, hidden))
        self.norm_bias = _zeros(features, hidden)
        self.weigh_enter = nn.Linear(features, narrow)
        self.weigh_leave = nn.Linear(narrow, narrow)
        self.weigh_gate = nn.Linear(narrow, 2 * features)
        self.weigh_skip = nn.Linear(features, features)
        self.weigh_skip_norm = nn.LayerNorm(features)
        self.weigh_norm = nn.LayerNorm(features)

    def weights(self, rows: Tensor) -> Tensor:
        """Return the weight of each feature, positive and of sum 1, for rows (..., features)."""
        gate = self.weigh_gate(self.weigh_leave(functional.elu(self.weigh_enter(rows))))
        mixed = functional.glu(gate, dim=-1) + self.weigh_skip_norm(self.weigh_skip(rows))
        weights: Tensor = self.weigh_norm(mixed).softmax(dim=-1)
        return weights

    def forward(self, rows: Tensor) -> Tensor:
        """Return the selected inputs (M, hidden) of normalised rows (M, features)."""
        weights = self.weights(rows)
        folded = self._fold()
        if torch.onnx.is_in_onnx_export() or len(rows) <= _CHUNK_ROWS:
            selected = self._mix(rows, weights, *folded)
        else:
            parts = zip(rows.split(_CHUNK_ROWS), weights.split(_CHUNK_ROWS), strict=True)
            selected = torch.cat([self._mix(*part, *folded) for part in parts])
        return selected + weights @ self.norm_bias

    def _fold(self) -> tuple[Tensor, ...]:
        """Return what does not depend on a row: merged layers, the skip's parts, its variance."""
        gate_weight = torch.bmm(self.leave_weight, self.gate_weight)
        gate_bias = torch.baddbmm(
            self.gate_bias[:, None], self.leave_bias[:, None], self.gate_weight
        )
        slope = self.skip_weight - self.skip_weight.mean(dim=1, keepdim=True)
        level = self.skip_bias - self.skip_bias.mean(dim=1, keepdim=True)
        skip = torch.stack(
            (slope * self.skip_norm_weight, level * self.skip_norm_weight, self.skip_norm_bias), 1
        )
        # The variance of slope * x + level over the hidden units, a parabola in x.
        parabola = torch.stack(((slope * slope), 2.0 * slope * level, level * level)).mean(dim=2)
        return gate_weight, gate_bias, skip, parabola

    def _mix(
        self,
        rows: Tensor,
        weights: Tensor,
        gate_weight: Tensor,
        gate_bias: Tensor,
        skip: Tensor,
        parabola: Tensor,
    ) -> Tensor:
        """Return the sum over the features (M, hidden), but for the last norm's bias."""
        values = rows.t()
        spread = functional.elu(
            torch.addcmul(self.enter_bias[:, None], values[..., None], self.enter_weight[:, None])
        )
        gated = functional.glu(torch.baddbmm(gate_bias, spread, gate_weight), dim=-1)
        square, linear, constant = parabola[..., None].unbind()
        scale = ((square * values + linear) * values + constant + _NORM_EPSILON).rsqrt()
        skipped = torch.stack((values * scale, scale, torch.ones_like(scale)), dim=-1)
        normed = functional.layer_norm(
            torch.baddbmm(gated, skipped, skip), (self.hidden,), eps=_NORM_EPSILON
        )
        return (normed * (weights.t()[..., None] * self.norm_weight[:, None])).sum(dim=0)


def _normal(deviation: float, *shape: int) -> nn.Parameter:
    return nn.Parameter(deviation * torch.randn(*shape))


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))
