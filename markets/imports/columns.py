"""Columns that grow as a file is read, each in one piece of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# So large that the system gives each column pages of its own, which grow without being moved.
_FIRST_ROWS = 1 << 18


class Column:
    """Take values piece by piece; what they need is never held twice, as joining pieces would.

    Pieces are copied at once, so that the reader's own memory is free for the next block.
    """

    def __init__(self, kind: npt.DTypeLike) -> None:
        """Take the kind of the values."""
        self._held: npt.NDArray[Any] = np.empty(_FIRST_ROWS, kind)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add values at the end."""
        length = self._length + len(values)
        if length > len(self._held):
            # Grown in place; a quarter more than needed keeps that seldom and the spare small.
            self._held.resize(length + length // 4, refcheck=False)
        self._held[self._length : length] = values
        self._length = length

    def take(self) -> npt.NDArray[Any]:
        """Return all values, and hold none any more."""
        taken, self._held = self._held, np.empty(0, self._held.dtype)
        taken.resize(self._length, refcheck=False)
        self._length = 0
        return taken
