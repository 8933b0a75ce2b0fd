"""Which strikes are wanted for a spot: the one at the money, with hysteresis, and those beside it.

Strikes and spots are whole paise; a chain's strikes are in ascending order, evenly spaced or not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Legs:
    """Hold the strikes of a pair of options."""

    call: int
    put: int


def nearest(strikes: Sequence[int], spot: int) -> int:
    """Return the strike nearest to spot, the lower of two as near; raise ValueError without any."""
    if not strikes:
        raise ValueError("a chain without strikes has no money")
    place = bisect_left(strikes, spot)
    around = strikes[max(place - 1, 0) : place + 1]
    return min(around, key=lambda strike: abs(strike - spot))


def centre_of(
    strikes: Sequence[int], spot: int, held: int | None = None, hysteresis_ratio: float = 0.2
) -> int:
    """Return the strike at the money, which stays the held one until spot has clearly left it.

    Clearly: past the middle to the next strike by more than the ratio of the step to it. So spot
    that swings about a middle moves the money once, and not with each swing.
    """
    found = nearest(strikes, spot)
    if held is None or held == found:
        return found
    place = bisect_left(strikes, held)
    if place == len(strikes) or strikes[place] != held:
        return found  # it is listed no more
    # There is a next one on spot's side, or the held one would be the nearest.
    step = abs(strikes[place + (1 if spot > held else -1)] - held)
    return found if abs(spot - held) > step * (0.5 + hysteresis_ratio) else held


def wanted(strikes: Sequence[int], centre: int, widths: Iterable[int]) -> dict[int, Legs]:
    """Return the legs of each width round a listed centre; none where the chain ends before."""
    place = bisect_left(strikes, centre)
    return {
        width: Legs(call=strikes[place + width], put=strikes[place - width])
        for width in widths
        if width <= place < len(strikes) - width
    }
