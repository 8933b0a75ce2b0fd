"""The seven actions: each changes the exposure of a slot by a share of its limit, in whole lots."""

from __future__ import annotations

import numpy as np

from markets.bars import FloatArray

DELTAS = (1.0, 0.5, 0.25, 0.0, -0.25, -0.5, -1.0)
NAMES = ("strong buy", "buy", "light buy", "hold", "light sell", "sell", "strong sell")
HOLD = 3


def target_lots(lots: int, action_delta: float, limit_lots: int) -> int:
    """Return the whole lots to hold after an action, rounded towards zero, within the limit."""
    return int(min(max(lots + action_delta * limit_lots, -limit_lots), limit_lots))


def target_lots_array(lots: FloatArray, action_delta: FloatArray, limit_lots: int) -> FloatArray:
    """Return what target_lots returns, for equally long float64 columns of whole lots."""
    # A float, because numpy takes a quarter longer to bring an int to a column's kind.
    limit = float(limit_lots)
    return np.trunc(np.minimum(np.maximum(lots + action_delta * limit, -limit), limit))


def dead_actions(limit_lots: int) -> tuple[str, ...]:
    """Return the names of the actions whose share of the limit is less than one lot.

    From a flat position they do nothing; against an open one they can still round it down.
    """
    return tuple(
        name
        for name, delta in zip(NAMES, DELTAS, strict=True)
        if delta != 0.0 and target_lots(0, delta, limit_lots) == 0
    )
