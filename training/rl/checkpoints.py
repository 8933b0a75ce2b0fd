"""The file from which an interrupted training goes on: nested dicts of tensors, arrays and numbers.

safetensors and JSON, no pickle. A file is written whole, beside the old one, and renamed; one of
another training (its data, settings, seed or length) is not taken up. What a training's state is
made of is for `BarPPO.training_state` to say.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SAVE_EVERY_SECONDS = 20.0
LAYOUT = 2
"""Of the file: raised with every change of the state's names or meaning."""

# Between the names of nested dicts; the names of a network's tensors have dots of their own.
_SEPARATOR = "/"

log = logging.getLogger(__name__)


class Checkpoint:
    """Save one training's state in a file, at most every so many seconds."""

    def __init__(self, path: Path, every_seconds: float = SAVE_EVERY_SECONDS) -> None:
        self.path = path
        self._every_seconds = every_seconds
        self._saved_at = time.monotonic()
        self._identity = ""

    def open(self, identity: str) -> dict[str, Any] | None:
        """Return the state that an earlier training of this identity left, None where none did.

        Its tensors come back on the CPU. A file of another layout is an earlier
        release's: it is left out with a warning, and the training begins at its beginning.
        """
        self._identity = identity
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["state"])
                tensors: dict[str, Any] = {
                    name: file.get_tensor(name)
                    for name in file.keys()  # noqa: SIM118 - it is no dict
                }
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be read (%s): the training begins anew", self.path, error)
            return None
        if header.get("layout") != LAYOUT:
            found = header.get("layout", 1)
            log.warning(
                "%s is a checkpoint of layout %s, this release reads %s: the training begins anew",
                *(self.path, found, LAYOUT),
            )
            return None
        if header["identity"] != self._identity:
            return None
        arrays = {name: tensors[name].numpy() for name in header["arrays"]}
        return _nested(tensors | arrays, header["values"])

    def save_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save the state that is made by the call, if the last one saved is old enough."""
        if time.monotonic() - self._saved_at >= self._every_seconds:
            self.save(state())

    def save(self, state: dict[str, Any]) -> None:
        """Save a state now: nested dicts by name of tensors, arrays and what JSON can hold."""
        tensors: dict[str, Tensor] = {}
        arrays: list[str] = []
        values: dict[str, Any] = {}
        for name, value in _flat(state):
            if isinstance(value, np.ndarray):
                tensors[name] = torch.from_numpy(np.ascontiguousarray(value))
                arrays.append(name)
            elif isinstance(value, Tensor):
                tensors[name] = value.detach().cpu().contiguous()
            else:
                values[name] = value
        header = {"layout": LAYOUT, "identity": self._identity, "arrays": arrays, "values": values}
        half = self.path.with_name(self.path.name + ".half")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, half, metadata={"state": json.dumps(header)})
        # Renamed when whole: a worker that dies here leaves the older one as it was.
        half.replace(self.path)
        self._saved_at = time.monotonic()


def _flat(state: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{_SEPARATOR}")
        else:
            yield f"{prefix}{name}", value


def _nested(*flat: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, value in (item for each in flat for item in each.items()):
        *outer, last = name.split(_SEPARATOR)
        place = state
        for each in outer:
            place = place.setdefault(each, {})
        place[last] = value
    return state
