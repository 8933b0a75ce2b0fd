"""The seven actions: each changes the exposure of a slot by a share of its limit, in whole lots."""

from __future__ import annotations

from typing import Any

import numpy as np

from bots.decision import accounting
from markets.domain.bars import BoolArray, FloatArray, IntArray

DELTAS = (1.0, 0.5, 0.25, 0.0, -0.25, -0.5, -1.0)
NAMES = ("strong buy", "buy", "light buy", "hold", "light sell", "sell", "strong sell")
HOLD = 3


def target_lots(lots: int, action_delta: float, limit_lots: int) -> int:
    """Return the whole lots to hold after an action, rounded towards zero, within the limit."""
    wanted = lots + action_delta * limit_lots
    if wanted > limit_lots:
        return limit_lots
    return -limit_lots if wanted < -limit_lots else int(wanted)


def target_lots_array(lots: FloatArray, action_delta: FloatArray, limit_lots: int) -> FloatArray:
    """Return what target_lots returns, for equally long float64 columns of whole lots."""
    # A float, because numpy takes a quarter longer to bring an int to a column's kind.
    limit = float(limit_lots)
    return np.trunc(np.minimum(np.maximum(lots + action_delta * limit, -limit), limit))


class TransitionTable:
    """Hold what every action makes of every number of lots, for many accounts to look up.

    A transition is lots and action in one number, first_of(lots) + action, and a column of the
    tables; actions must be in range(7), as a wrong one would be another's transition.
    """

    numbers: FloatArray
    """(4, M): lots kept, lots wanted, 1 if the position goes on from before, 1 if there is one."""
    flags: BoolArray
    """(5, M): if the closing and the opening order buy, the two again, if the position is new."""
    next: IntArray
    """(M,): the first transition of the lots wanted."""

    def __init__(self, limit_lots: int) -> None:
        self._limit_lots = limit_lots
        held = np.repeat(np.arange(-limit_lots, limit_lots + 1.0), len(DELTAS))
        wanted = target_lots_array(held, np.tile(DELTAS, 2 * limit_lots + 1), limit_lots)
        kept = accounting.kept(held, wanted, np.minimum, np.maximum)
        # A position that stays on its side goes on, through a roll too; any other is new.
        goes_on = held * wanted > 0.0
        self.numbers = np.stack((kept, wanted, goes_on, wanted != 0.0))
        self.flags = np.stack((*(held < 0.0, wanted > 0.0) * 2, ~goes_on))
        self.next = self.first_of(wanted.astype(np.int64))

    def first_of(self, lots: Any) -> Any:
        """Return the transition of whole lots (...) within the limit under the first action."""
        return (lots + self._limit_lots) * len(DELTAS)


def dead_actions(limit_lots: int) -> tuple[str, ...]:
    """Return the names of the actions whose share of the limit is less than one lot.

    From a flat position they do nothing; against an open one they can still round it down.
    """
    return tuple(
        name
        for name, delta in zip(NAMES, DELTAS, strict=True)
        if delta != 0.0 and target_lots(0, delta, limit_lots) == 0
    )
