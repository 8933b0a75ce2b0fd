"""What options of the simulated market are worth: Black-76 on a smile that moves.

Columns in, columns out; every argument may be one number or an array, as numpy broadcasts them.
Source: F. Black, "The pricing of commodity contracts", 1976.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from markets.domain.bars import BoolArray, FloatArray

RATE_PER_YEAR = 0.065
YEAR_SECONDS = 365.0 * 86_400.0
# A contract's last minute is worth what is inside it, and no formula divides by its square root.
SHORTEST_YEARS = 60.0 / YEAR_SECONDS


def black76(
    forward: FloatArray,
    strike: FloatArray,
    years: FloatArray,
    volatility: FloatArray,
    call: BoolArray,
) -> FloatArray:
    """Return the premium of European options on a forward; volatility is a ratio per year."""
    years = np.maximum(years, SHORTEST_YEARS)
    spread = volatility * np.sqrt(years)
    first = np.log(forward / strike) / spread + 0.5 * spread
    side = np.where(call, 1.0, -1.0)
    worth = side * (
        forward * normal_cdf(side * first) - strike * normal_cdf(side * (first - spread))
    )
    premium: FloatArray = np.maximum(worth, 0.0) * np.exp(-RATE_PER_YEAR * years)
    return premium


def smile(
    forward: FloatArray, strike: FloatArray, years: FloatArray, level: Any, tilt: Any, bend: Any
) -> FloatArray:
    """Return the implied volatility of strikes: `level` at the money, dearer puts, bent wings.

    tilt and bend are per standardised distance from the money, which is cut off at 2.
    """
    root = np.sqrt(np.maximum(years, 2.0 / 365.0))
    distance = np.clip(np.log(strike / forward) / (0.15 * root), -4.0, 4.0) / 2.0
    volatility: FloatArray = level * (1.0 + tilt * distance + bend * distance**2)
    return np.maximum(volatility, 0.04)


def normal_cdf(x: FloatArray) -> FloatArray:
    """Return the normal distribution function, within 1e-7 (Abramowitz and Stegun, 26.2.17)."""
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.2316419 * size)
    poly = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = np.exp(-0.5 * size * size) * 0.3989422804014327 * poly
    result: FloatArray = np.where(x < 0.0, tail, 1.0 - tail)
    return result
