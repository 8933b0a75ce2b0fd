"""Which bars a refit may learn from, and which it is judged on and never sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from markets.domain.bars import IntArray
from tradingsite.clock import Epoch

HOLDOUT_RATIO = 0.05
MIN_HOLDOUT_BARS = 250
MIN_TRAINING_BARS = 500
MIN_TEST_BARS = 60
TESTED_RATIO = 0.5
"""Share of a history that a walk forward tests on."""


class TooFewBars(ValueError):
    """A history too short to train on and still judge the result; the message says what fits."""


@dataclass(frozen=True, slots=True)
class Split:
    """Hold the row numbers a refit trains on and those it is judged on, an embargo between."""

    train: range
    holdout: range

    @property
    def embargo_bars(self) -> int:
        """Return the number of rows between the two, in neither."""
        return self.holdout.start - self.train.stop


def default_holdout_bars(bars: int) -> int:
    """Return how many of the last bars are held out: 5 %, at least 250."""
    return max(MIN_HOLDOUT_BARS, math.ceil(HOLDOUT_RATIO * bars))


def walk_forward(bars: int, folds: int, *, window: int) -> list[Split]:
    """Return anchored folds: each trains on all bars up to an embargo before what it is tested on.

    The second half of the bars is tested, in equal consecutive spans, the oldest first; the embargo
    is the window. Raises TooFewBars where the first fold would learn from too little or a test
    would be too short to say anything, and ValueError for fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds are no walk forward: at least 2")
    first = bars - int(bars * TESTED_RATIO)
    edges = np.linspace(first, bars, folds + 1).astype(int).tolist()
    needed = max(MIN_TRAINING_BARS, window)
    shortest = min(stop - start for start, stop in pairwise(edges))
    if first - window < needed or shortest < MIN_TEST_BARS:
        raise TooFewBars(
            f"{bars} bars in {folds} folds leave {max(first - window, 0)} to train on at first (at "
            f"least {needed} are needed) and {shortest} to test on (at least {MIN_TEST_BARS}): "
            "import more bars, or ask for fewer folds"
        )
    return [Split(range(start - window), range(start, stop)) for start, stop in pairwise(edges)]


def split_refit(
    closes_at: IntArray,
    until: Epoch,
    *,
    window: int,
    embargo_bars: int | None = None,
    holdout_bars: int | None = None,
) -> Split:
    """Return the rows to train on and the last rows before `until`, never trained on.

    closes_at (T,) are the rows' closes in ascending epoch seconds; rows that close after `until`
    are left out of both. The embargo is the window by default and may not be shorter: the first
    window of the holdout would reach into the training span. The training span must hold at least
    500 bars and the window. Raises TooFewBars, or ValueError for settings that leak.
    """
    usable = int(np.searchsorted(closes_at, until, side="right"))
    embargo = window if embargo_bars is None else embargo_bars
    if embargo < window:
        raise ValueError(f"an embargo of {embargo} bars is shorter than the window of {window}")
    held = default_holdout_bars(usable) if holdout_bars is None else holdout_bars
    if held < 1:
        raise ValueError(f"{held} bars held out: a model must be judged on at least one")
    train_stop = usable - held - embargo
    needed = max(MIN_TRAINING_BARS, window)
    if train_stop < needed:
        raise TooFewBars(
            f"{usable} bars close by then; {held} held out and {embargo} of embargo leave "
            f"{max(train_stop, 0)} to train on, at least {needed} are needed"
        )
    return Split(range(train_stop), range(usable - held, usable))
