"""The weights file of a bundle, read back into a model: proof that it holds the whole policy."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from training.rl.barppo import BarPPO
from training.rl.training_state import policy_weights


def load_weights(model: BarPPO, path: Path) -> None:
    """Start a model from saved weights of the same networks, for fine-tuning.

    The normalisation comes along, since the weights mean nothing without it. Raises ValueError
    naming the tensors that are missing, unknown, of another shape or not finite.
    """
    saved = load_file(path)
    expected = policy_weights(model.policy)
    problems = [f"{name} is missing" for name in expected.keys() - saved.keys()]
    problems += [f"{name} is unknown" for name in saved.keys() - expected.keys()]
    for name in expected.keys() & saved.keys():
        if saved[name].shape != expected[name].shape:
            problems.append(f"{name} is {list(saved[name].shape)}")
        elif not bool(torch.isfinite(saved[name]).all()):
            problems.append(f"{name} is not finite")
    if problems:
        raise ValueError(f"{path}: {'; '.join(sorted(problems))}")
    model.set_weights(saved)
