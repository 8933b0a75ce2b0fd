"""Whether a refit may take its champion's place: not a new choice, only a check that it is one.

The recipe was chosen by `evaluate`. A refit of it is fit to trade when it did not collapse and did
on the newest bars, which it never saw, about what the recipe did in its walk forward: below that
range it is broken, far above it something leaked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from markets.domain.bars import FloatArray

RANGE = (0.01, 0.99)
"""Quantiles of the walk forward's results over as many bars as a refit is held out on."""

APPROVED, REFUSED, NO_RECIPE = "approved", "refused", "no recipe"


@dataclass(frozen=True, slots=True)
class RefitRange:
    """Bound the net return over a number of bars that a refit of a recipe may have."""

    bars: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Say whether a refit is fit to trade, and why."""

    verdict: str
    reason: str
    recipe: str = ""
    """Hash of the recipe it is a refit of."""

    def to_manifest(self) -> dict[str, Any]:
        """Return it for a manifest."""
        return {"verdict": self.verdict, "reason": self.reason, "recipe": self.recipe}


def refit_range(seed_returns: Sequence[FloatArray], bars: int) -> RefitRange:
    """Return the range of net returns over so many bars of every seed's walk forward.

    seed_returns are (n,) each; a walk forward that is shorter gives the range of its whole length.
    """
    found = []
    for returns in seed_returns:
        length = min(bars, len(returns))
        growth = np.concatenate(([0.0], np.cumsum(np.log1p(returns))))
        # Of every stretch of that length, as nobody knows in which one a refit will be judged.
        found.append(np.expm1(growth[length:] - growth[:-length]))
    low, high = np.quantile(np.concatenate(found), RANGE)
    return RefitRange(min(bars, *(len(each) for each in seed_returns)), float(low), float(high))


def judge_refit(
    net_return: float, bars: int, collapsed: str | None, allowed: RefitRange | None, recipe: str
) -> GateVerdict:
    """Return the verdict on a refit that earned a net return over so many held-out bars."""
    if collapsed:
        return GateVerdict(REFUSED, f"the policy collapsed: {collapsed}", recipe)
    if allowed is None:
        return GateVerdict(
            NO_RECIPE, "no approved recipe to hold it to: run `manage.py evaluate`", recipe
        )
    # Per root of bars, as the deviation of a sum grows.
    scale = (bars / allowed.bars) ** 0.5
    low, high = allowed.low * scale, allowed.high * scale
    said = (
        f"{net_return:+.2%} over {bars} unseen bars, the recipe's range is {low:+.2%} to "
        f"{high:+.2%}"
    )
    if net_return < low:
        return GateVerdict(REFUSED, f"worse than its recipe ever was: {said}", recipe)
    if net_return > high:
        return GateVerdict(REFUSED, f"too good to be true, look for a leak: {said}", recipe)
    return GateVerdict(APPROVED, said, recipe)
