"""How high and how low instruments have been in a session, up to each of its moments."""

from __future__ import annotations

import numpy as np

from markets.domain.bars import FloatArray


class Extremes:
    """Hold the highs and lows of rows (rows, times) up to each time, in epoch seconds."""

    def __init__(self, times: FloatArray, values: FloatArray) -> None:
        self._times = times
        self._high = np.maximum.accumulate(values, axis=1)
        self._low = np.minimum.accumulate(values, axis=1)

    def see(self, at: float, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the highs and lows at an instant at which the rows stand at these values.

        Whatever was seen belongs to the session from then on.
        """
        column = max(int(np.searchsorted(self._times, at, side="right")) - 1, 0)
        later = slice(column, None)
        np.maximum(self._high[:, later], values[:, None], out=self._high[:, later])
        np.minimum(self._low[:, later], values[:, None], out=self._low[:, later])
        return self._high[:, column], self._low[:, column]
