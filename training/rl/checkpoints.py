"""Where an interrupted training goes on: every tensor and counter it needs, in one file.

safetensors and JSON, no pickle. A file is written whole, beside the old one, and renamed; one of
another training (its data, settings, seed or length) is not taken up. On one CPU thread a training
that was interrupted ends on the very bits of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.rl.forecasting import Forecaster

if TYPE_CHECKING:
    from training.rl.barppo import BarPPO

SAVE_EVERY_SECONDS = 20.0

# What a step of the environment changes, beside its random numbers.
_ENV_COLUMNS = (
    *(
        "bar",
        "_end",
        "_transition",
        "lots",
        "quantity",
        "cash",
        "equity",
        "capital",
        "entry_equity",
    ),
    *("peak_equity", "bars_held", "drawdown", "sharpe_mean", "sharpe_square", "_ruin_equity"),
)
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_has_forecast")
_ALIASES = ("pi_features_extractor.", "vf_features_extractor.")


class Checkpoint:
    """Keep one training's state in a file, at most every so many seconds.

    Forecasting is kept after each epoch, whatever the time: epochs are few and slow.
    """

    def __init__(self, path: Path, every_seconds: float = SAVE_EVERY_SECONDS) -> None:
        self.path = path
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()
        self._belongs_to = ""
        self._forecast: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def open(self, model: BarPPO, total_timesteps: int) -> bool:
        """Take up what an earlier training of the same kind left; return whether there was any.

        A forecaster's own part waits for `resume_forecast`.
        """
        self._belongs_to = _identity(model, total_timesteps)
        self._forecast = None
        try:
            with safe_open(self.path, framework="pt") as file:
                counters = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return False  # none there, or half of one: begin at the beginning
        if counters["belongs_to"] != self._belongs_to:
            return False
        _restore(model, tensors, counters)
        if counters["forecast_epochs_done"]:
            self._forecast = (_under("forecast.", tensors), counters)
        return True

    def resume_forecast(self, forecaster: Forecaster) -> None:
        """Let a forecaster go on after the epochs that were done, if some were."""
        if self._forecast is not None:
            tensors, counters = self._forecast
            forecaster.layer.load_state_dict(_under("layer.", tensors))
            _restore_optimizer(forecaster.optimizer, _under("optimizer.", tensors))
            forecaster.random.set_state(tensors["random"])
            forecaster.epochs_done = counters["forecast_epochs_done"]
            self._forecast = None

    def save_if_due(self, model: BarPPO) -> None:
        """Keep the state between two rollouts, if the last one kept is old enough."""
        if time.monotonic() - self._saved_at >= self._every_seconds:
            self.save(model)

    def save(self, model: BarPPO, forecaster: Forecaster | None = None) -> None:
        """Keep the state now; with a forecaster, after one of its epochs."""
        state = model.policy.state_dict()
        tensors = {f"policy.{k}": v for k, v in state.items() if not k.startswith(_ALIASES)}
        tensors |= _optimizer_state("optimizer.", model.policy.optimizer)
        tensors["random"] = model.random.get_state()
        counters: dict[str, Any] = {name: getattr(model, name) for name in _COUNTERS}
        counters |= {"belongs_to": self._belongs_to, "forecast_epochs_done": 0}
        if forecaster is not None:
            layer = forecaster.layer.state_dict()
            tensors |= {f"forecast.layer.{name}": each for name, each in layer.items()}
            tensors |= _optimizer_state("forecast.optimizer.", forecaster.optimizer)
            tensors["forecast.random"] = forecaster.random.get_state()
            counters["forecast_epochs_done"] = forecaster.epochs_done
        env, seen = model.batch_env, model._last_obs
        counters["env_random"] = env.rng.bit_generator.state
        for name in (*_ENV_COLUMNS, "_buffer"):
            tensors[f"env.{name}"] = torch.from_numpy(getattr(env, name).copy())
        if isinstance(seen, dict):
            tensors |= {f"seen.{k}": torch.from_numpy(v.copy()) for k, v in seen.items()}
        self._write(tensors, counters)
        self._saved_at = time.monotonic()

    def _write(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        half = self.path.with_name(self.path.name + ".half")
        kept = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept, half, metadata={"state": json.dumps(counters)})
        half.replace(self.path)


def _identity(model: BarPPO, total_timesteps: int) -> str:
    """Return a hash of all that decides how a training goes."""
    panel = model.batch_env.panel
    settings = model.hyperparameters.to_manifest()
    asked = [settings, model.seed, total_timesteps, repr(model.batch_env.episodes)]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for array in (model.features, panel.open, panel.close, panel.previous_open):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _restore(model: BarPPO, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    model.set_weights(_under("policy.", tensors))
    _restore_optimizer(model.policy.optimizer, _under("optimizer.", tensors))
    model.random.set_state(tensors["random"])
    for name in _COUNTERS:
        setattr(model, name, counters[name])
    env = model.batch_env
    env.rng.bit_generator.state = counters["env_random"]
    columns = {name: each.numpy() for name, each in _under("env.", tensors).items()}
    env._buffer[:] = columns.pop("_buffer")
    for name, column in columns.items():
        setattr(env, name, column.copy())
    seen = {name: each.numpy() for name, each in _under("seen.", tensors).items()}
    if seen:
        model._last_obs = seen
        model._last_episode_starts = np.ones(env.num_envs, dtype=bool)


def _optimizer_state(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {
        f"{prefix}{number}.{name}": value
        for number, state in states.items()
        for name, value in state.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }
