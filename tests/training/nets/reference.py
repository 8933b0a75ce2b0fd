"""The same transformer made of pytorch-forecasting's blocks, and the way of its weights to ours.

Nothing that trains or trades imports this: it is what the tests hold TftEncoder to, and what the
bench of stock training runs.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_forecasting.models.temporal_fusion_transformer.sub_modules import (  # type: ignore[import-untyped]
    GateAddNorm,
    GatedResidualNetwork,
    InterpretableMultiHeadAttention,
    VariableSelectionNetwork,
)
from torch import Tensor, nn
from torch.nn import functional

from training.nets.encoder import Encoder
from training.nets.tft import HEADS, VARIABLE_WIDTH


class ReferenceTft(Encoder):
    """Encode windows as TftEncoder does, by pytorch-forecasting's blocks as they come.

    Source: pytorch_forecasting.models.temporal_fusion_transformer.sub_modules, version 1.8.0.
    """

    def __init__(self, feature_count: int, window: int, hidden: int) -> None:
        super().__init__(feature_count, window, hidden)
        self.names = [f"feature_{number}" for number in range(feature_count)]
        widths = dict.fromkeys(self.names, VARIABLE_WIDTH)
        self.select = VariableSelectionNetwork(widths, hidden, dropout=0.0)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.after_lstm = GateAddNorm(hidden, dropout=0.0)
        self.enrich = GatedResidualNetwork(hidden, hidden, hidden, dropout=0.0)
        self.attention = InterpretableMultiHeadAttention(HEADS, hidden, dropout=0.0)
        self.after_attention = GateAddNorm(hidden, dropout=0.0)
        self.feed_forward = GatedResidualNetwork(hidden, hidden, hidden, dropout=0.0)
        self.leave = GateAddNorm(hidden)

    def encode(self, windows: Tensor) -> Tensor:
        """Return the codes (B, hidden) of normalised windows (B, window, features)."""
        columns = {name: windows[..., i : i + 1] for i, name in enumerate(self.names)}
        selected, _ = self.select(columns)
        followed = self.after_lstm(self.lstm(selected)[0], selected)
        enriched = self.enrich(followed)
        attended, _ = self.attention(enriched[:, -1:], enriched, enriched)
        attended = self.after_attention(attended, enriched[:, -1:])
        codes: Tensor = self.leave(self.feed_forward(attended), followed[:, -1:])
        return codes[:, 0]


def tft_state(reference: ReferenceTft) -> dict[str, Tensor]:
    """Return the weights of an equal TftEncoder, by their names there, normalisation included.

    They are functions of the reference's parameters that autograd can follow, since folding layers
    into one another is arithmetic; detach them to keep them. The trained masks of its residual
    connections are folded too.
    """
    state = {"mean": reference.mean, "scale": reference.scale}
    state |= {f"select.{name}": value for name, value in _selection(reference).items()}
    state |= {f"lstm.{name}": value for name, value in reference.lstm.named_parameters()}
    for name in ("after_lstm", "after_attention", "leave"):
        state |= _gate(name, getattr(reference, name))
    for name in ("enrich", "feed_forward"):
        block = getattr(reference, name)
        state |= _linear(f"{name}.enter", block.fc1) | _linear(f"{name}.leave", block.fc2)
        state |= _gate(name, block.gate_norm)
    attention = reference.attention
    state["attention.query.weight"] = torch.cat([each.weight for each in attention.q_layers])
    state["attention.query.bias"] = torch.cat([each.bias for each in attention.q_layers])
    state["attention.key.weight"] = torch.cat([each.weight for each in attention.k_layers])
    state |= _linear("attention.value", attention.v_layer)
    state["attention.leave.weight"] = attention.w_h.weight
    return state


def _selection(reference: ReferenceTft) -> dict[str, Tensor]:
    """Return the weights of VariableSelection: each feature's network, and the one that weighs."""
    theirs: Any = reference.select
    columns = [_variable(theirs, name, reference.hidden) for name in reference.names]
    state = {name: torch.stack([column[name] for column in columns]) for name in columns[0]}
    grn = theirs.flattened_grn
    # What spreads the features over their widths, as one block-diagonal layer (F * width, F).
    spread = torch.block_diag(*(theirs.prescalers[name].weight for name in reference.names))
    level = torch.cat([theirs.prescalers[name].bias for name in reference.names])
    state["weigh_enter.weight"] = grn.fc1.weight @ spread
    state["weigh_enter.bias"] = grn.fc1.weight @ level + grn.fc1.bias
    resample = _interpolation(len(level), len(columns), level) * _mask(grn)
    state["weigh_skip.weight"] = resample.t() @ spread
    state["weigh_skip.bias"] = level @ resample
    return (
        state
        | _linear("weigh_leave", grn.fc2)
        | _linear("weigh_gate", grn.gate_norm.glu.fc)
        | _linear("weigh_skip_norm", grn.resample_norm.norm)
        | _linear("weigh_norm", grn.gate_norm.add_norm.norm)
    )


def _variable(theirs: Any, name: str, hidden: int) -> dict[str, Tensor]:
    grn, scaler = theirs.single_variable_grns[name], theirs.prescalers[name]
    slope, level = scaler.weight[:, 0], scaler.bias
    resample = _interpolation(len(level), hidden, level) * _mask(grn)
    return {
        "enter_weight": grn.fc1.weight @ slope,
        "enter_bias": grn.fc1.weight @ level + grn.fc1.bias,
        "leave_weight": grn.fc2.weight.t(),
        "leave_bias": grn.fc2.bias,
        "gate_weight": grn.gate_norm.glu.fc.weight.t(),
        "gate_bias": grn.gate_norm.glu.fc.bias,
        "skip_weight": slope @ resample,
        "skip_bias": level @ resample,
        "skip_norm_weight": grn.resample_norm.norm.weight,
        "skip_norm_bias": grn.resample_norm.norm.bias,
        "norm_weight": grn.gate_norm.add_norm.norm.weight,
        "norm_bias": grn.gate_norm.add_norm.norm.bias,
    }


def _interpolation(size: int, wanted: int, like: Tensor) -> Tensor:
    """Return the matrix (size, wanted) by which its residuals change their width."""
    eye = torch.eye(size, dtype=like.dtype, device=like.device)[:, None]
    return functional.interpolate(eye, wanted, mode="linear", align_corners=True)[:, 0]


def _mask(grn: Any) -> Tensor:
    return 2.0 * torch.sigmoid(grn.resample_norm.mask)


def _linear(name: str, layer: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}


def _gate(name: str, block: Any) -> dict[str, Tensor]:
    gate, norm = block.glu.fc, block.add_norm.norm
    return _linear(f"{name}.gate", gate) | _linear(f"{name}.norm", norm)
