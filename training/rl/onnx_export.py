"""Turn a trained policy into the files of a bundle, and prove that they answer alike.

Two ONNX graphs, because a bar's code does not depend on the account: `encoder` runs once per bar,
`head` once per decision. The weights are for later fine-tuning here and never read by a bot. The
older, TorchScript based exporter is used: it is 20 to 50 times quicker than the newer one, and
every export is held to onnxruntime's own answers anyway.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from bots.decision.observation import (
    ACCOUNT_SIZE,
    WINDOW,
    Float32Array,
    windows,
)
from bots.modelstore.bundle import ENCODER, HEAD, WEIGHTS, OnnxPolicy
from bots.modelstore.manifest import Golden, Normalisation
from training.nets.encoder import CLIP
from training.nets.head import Head
from training.rl.barppo import BarPPO
from training.rl.parity import ParityReport, check_parity
from training.rl.torch_policy import TorchPolicy
from training.rl.training_state import policy_weights

PARITY_WINDOWS = 256
_OPSET = 17
# Exposure, open profit, bars held, drawdown: flat, long in profit, short under water.
_GOLDEN_ACCOUNTS = ((0.0, 0.0, 0.0, 0.0), (0.5, 1.0, 0.25, 0.0), (-1.0, -1.5, 0.75, 0.5))


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Hold what the manifest says about the files: golden vectors, normalisation, parity."""

    golden: tuple[Golden, ...]
    normalisation: Normalisation
    parity: ParityReport


def export_model(model: BarPPO, folder: Path, rows: Float32Array) -> ExportResult:
    """Write encoder.onnx, head.onnx and weights.safetensors into a folder, and check them.

    rows (T, features) are raw feature rows of the training span; its last 256 windows are the
    inputs of the parity check and the golden vectors. Raises ParityFailed, and ValueError when
    there are too few rows.
    """
    if len(rows) < WINDOW:
        raise ValueError(f"{len(rows)} rows do not fill one window of {WINDOW}")
    folder.mkdir(parents=True, exist_ok=True)
    _write_graphs(model, folder)
    save_weights(model, folder / WEIGHTS)
    policy = TorchPolicy(model)
    tail = np.ascontiguousarray(windows(rows)[-PARITY_WINDOWS:], dtype=np.float32)
    onnx_policy = OnnxPolicy((folder / ENCODER).read_bytes(), (folder / HEAD).read_bytes())
    parity = check_parity(policy, onnx_policy, tail)
    encoder = model.encoder
    normalisation = Normalisation(tuple(encoder.mean.tolist()), tuple(encoder.std.tolist()), CLIP)
    return ExportResult(_golden(policy, tail), normalisation, parity)


def save_weights(model: BarPPO, path: Path) -> None:
    """Write the policy's tensors, the normalisation among them, as safetensors."""
    state = policy_weights(model.policy)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path)


class _Logits(nn.Module):
    """Answer a head's logits from fewer nodes: for one row each costs more than its arithmetic."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        mix: Any = head.mix
        self.enter, self.context, self.norm = mix.enter, mix.context, mix.norm
        self.logits = head.logits
        # Two linear layers in a row are one, and the gated unit multiplies its halves.
        weights = (mix.gate.weight.double() @ mix.leave.weight.double()).float().detach()
        biases = mix.gate(mix.leave.bias).detach()
        self.value, self.gate = zip(weights.chunk(2), biases.chunk(2), strict=True)

    def forward(self, code: Tensor, account: Tensor) -> Tensor:
        mixed = functional.elu(self.enter(code) + self.context(account))
        gate = functional.linear(mixed, *self.gate).sigmoid()
        gated = functional.linear(mixed, *self.value) * gate
        logits: Tensor = self.logits(self.norm(gated + code))
        return logits


def _write_graphs(model: BarPPO, folder: Path) -> None:
    encoder = copy.deepcopy(model.encoder).cpu().eval()
    head = _Logits(copy.deepcopy(model.head).cpu()).eval()
    # A batch of two: sizes of one invite the tracer to take them for constants.
    window = torch.zeros(2, encoder.window, encoder.feature_count)
    code, account = torch.zeros(2, encoder.hidden), torch.zeros(2, ACCOUNT_SIZE)
    _write_graph(encoder, (window,), folder / ENCODER, ["windows"], "codes")
    _write_graph(head, (code, account), folder / HEAD, ["code", "account"], "logits")


def _write_graph(
    module: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: list[str], output: str
) -> None:
    with warnings.catch_warnings():
        # It announces its own retirement, and doubts that an LSTM takes another number of windows;
        # parity is checked over another number, whatever writes the graph.
        for category in (DeprecationWarning, UserWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", category)
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=names,
            output_names=[output],
            dynamic_axes={name: {0: "batch"} for name in (*names, output)},
            opset_version=_OPSET,
            dynamo=False,
        )


def _golden(policy: TorchPolicy, inputs: Float32Array) -> tuple[Golden, ...]:
    chosen = np.linspace(0, len(inputs) - 1, len(_GOLDEN_ACCOUNTS)).astype(int)
    found = []
    for place, account in zip(chosen.tolist(), _GOLDEN_ACCOUNTS, strict=True):
        code = policy.encode(inputs[place : place + 1])
        logits = policy.act(code, np.asarray([account], dtype=np.float32))
        window = tuple(tuple(row) for row in inputs[place].tolist())
        found.append(Golden(window, account, tuple(code[0].tolist()), tuple(logits[0].tolist())))
    return tuple(found)
