"""Small curves drawn by the server as SVG points, so that they need no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 96.0
HEIGHT = 30.0
MARGIN = 2.0
MOST_POINTS = 48


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Hold the points of a polyline in a box of 96 x 30, and the height of its zero line."""

    points: str
    zero: float


def draw(values: Sequence[float]) -> Sparkline:
    """Return the curve of values evenly spaced, scaled so that zero is always inside the box."""
    if len(values) < 2:
        return Sparkline("", HEIGHT / 2)
    if len(values) > MOST_POINTS:
        last = len(values) - 1
        values = [values[round(step * last / (MOST_POINTS - 1))] for step in range(MOST_POINTS)]
    lowest, highest = min(0.0, *values), max(0.0, *values)
    span = (highest - lowest) or 1.0
    step = WIDTH / (len(values) - 1)

    def height(value: float) -> float:
        return MARGIN + (HEIGHT - 2 * MARGIN) * (highest - value) / span

    points = " ".join(f"{i * step:.1f},{height(value):.1f}" for i, value in enumerate(values))
    return Sparkline(points, height(0.0))
