"""Whether onnxruntime answers as torch does: the proof that every export passes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bots.decision.observation import (
    ACCOUNT_HIGH,
    ACCOUNT_LOW,
    ACCOUNT_SIZE,
    Float32Array,
)
from bots.modelstore.bundle import ENCODER, HEAD, TOLERANCE, OnnxPolicy
from tradingsite.errors import Degraded
from training.rl.torch_policy import TorchPolicy

_ACCOUNTS_PER_WINDOW = 4
# Two logits nearer than this are a tie, and either may win after another rounding.
_TIE = 1e-5


class ParityFailed(Degraded):
    """An export whose graphs do not answer like the trained policy; the champion stays."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Say how closely onnxruntime repeated torch, over how many inputs."""

    inputs: int
    largest_code_difference: float
    largest_logit_difference: float


def check_parity(
    policy: TorchPolicy, onnx_policy: OnnxPolicy, inputs: Float32Array
) -> ParityReport:
    """Raise ParityFailed unless onnxruntime gives torch's codes, logits and actions.

    inputs (B, window, features) are raw windows, each tried with several account states, fixed by
    a seed. Codes and logits may differ by 1e-4, the best action only where two are tied.
    """
    low, high = np.array(ACCOUNT_LOW), np.array(ACCOUNT_HIGH)
    shape = (len(inputs) * _ACCOUNTS_PER_WINDOW, ACCOUNT_SIZE)
    accounts = np.random.default_rng(17).uniform(low, high, shape).astype(np.float32)
    codes, onnx_codes = policy.encode(inputs), onnx_policy.encode(inputs)
    expected = policy.act(np.repeat(codes, _ACCOUNTS_PER_WINDOW, axis=0), accounts)
    # The graphs in a row, as a bot runs them, so that an encoder's error reaches the logits.
    logits = onnx_policy.act(np.repeat(onnx_codes, _ACCOUNTS_PER_WINDOW, axis=0), accounts)
    if codes.shape != onnx_codes.shape or expected.shape != logits.shape:
        raise ParityFailed(f"the graphs answer {onnx_codes.shape} and {logits.shape}")
    parity = ParityReport(
        len(accounts), _largest_difference(codes, onnx_codes), _largest_difference(expected, logits)
    )
    for name, difference in (
        (ENCODER, parity.largest_code_difference),
        (HEAD, parity.largest_logit_difference),
    ):
        if not difference <= TOLERANCE:
            raise ParityFailed(
                f"{name}: onnxruntime differs from torch by {difference:.2g} over the last "
                f"{len(inputs)} windows, allowed {TOLERANCE:g}"
            )
    best = np.sort(expected, axis=1)
    decided = best[:, -1] - best[:, -2] > _TIE
    other = int(np.sum((expected.argmax(axis=1) != logits.argmax(axis=1)) & decided))
    if other:
        raise ParityFailed(f"onnxruntime chooses another action on {other} of {len(accounts)}")
    return parity


def _largest_difference(one: Float32Array, other: Float32Array) -> float:
    difference = float(np.max(np.abs(one - other)))
    return difference if math.isfinite(difference) else math.inf
