"""Repeatable randomness that is a function of its key: the same market whoever asks, and when.

The simulated market keeps no state of its own: what a price, a volume or a depth is at an instant
follows from the seed, a name and the instant. That needs random numbers by key, not by turn.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from markets.domain.bars import FloatArray

KeyArray = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SQRT_3 = 3.0**0.5


def key_of(name: str, seed: int) -> int:
    """Return the key of a named stream."""
    return (zlib.crc32(name.encode()) << 20) ^ (seed & 0xFFFFF)


def uniform(key: int, number: npt.NDArray[np.int64]) -> FloatArray:
    """Return numbers in [0, 1) of a stream, by their place in it (the mixer of SplitMix64)."""
    with np.errstate(over="ignore"):
        mixed = (number.astype(np.uint64) + np.uint64(key)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def wave(name: str, seed: int, at: FloatArray, periods: tuple[int, ...]) -> FloatArray:
    """Return a wandering line of mean 0 and variance about 1, with turns at each of the periods.

    Longer periods wander further, as a random walk does. It is linear between the multiples of the
    shortest period, which should be whole minutes.
    """
    total = np.zeros_like(at, dtype=np.float64)
    for octave, period in enumerate(periods):
        key = key_of(f"{name}/{octave}", seed)
        place = at / period
        knot = np.floor(place)
        before = uniform(key, knot.astype(np.int64))
        after = uniform(key, knot.astype(np.int64) + 1)
        # Interpolated knots vary less than the knots themselves, by two thirds.
        swing = 2.0 * (before + (place - knot) * (after - before)) - 1.0
        total += swing * (_SQRT_3 * 1.5**0.5 * period**0.5)
    found: FloatArray = total / sum(periods) ** 0.5
    return found


def fat_tailed(stream: np.random.Generator, count: int) -> FloatArray:
    """Return Student shocks of five degrees of freedom, scaled to variance 1, cut at eight."""
    found: FloatArray = np.clip(stream.standard_t(5.0, count) * np.sqrt(3.0 / 5.0), -8.0, 8.0)
    return found


def extreme(
    stream: np.random.Generator,
    opened: FloatArray,
    closed: FloatArray,
    sigma: FloatArray,
    side: float,
) -> FloatArray:
    """Return the highs (side +1) or lows (-1) of Brownian bridges from the opens to the closes."""
    luck = -2.0 * sigma**2 * np.log(1.0 - stream.random(len(opened)))
    return (opened + closed + side * np.sqrt((closed - opened) ** 2 + luck)) / 2.0
