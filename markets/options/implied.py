"""Implied volatility and greeks by Black-76 on the chain's own forward.

The forward of an expiry is what its calls and puts say: by put-call parity each strike gives
F = K + e^(rt) (C - P), and the median of the strikes nearest to the spot is taken, so that one wild
price moves nothing. No dividend and no carry need be known. Source: F. Black, "The pricing of
commodity contracts", 1976; the search is P. Jaeckel's "Let's be rational", as vollib has it.

Only volatilities are stored; greeks are made of them here, in arrays, whenever they are read.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from markets.domain.bars import BoolArray, FloatArray

# Underlying and expiry.
ChainKey: TypeAlias = tuple[str, "dt.date | None"]

YEAR_SECONDS = 365.0 * 86_400.0
# The overnight rate of the rupee, near enough: a whole percent of it moves a month's premium by a
# thousandth.
RATE_PER_YEAR = 0.065
FORWARD_STRIKES = 7
# In the last minutes the search divides by next to nothing.
SHORTEST_SECONDS = 300.0
# What a smallint holds of basis points.
HIGHEST_IV = 3.2
LOWEST_IV = 0.001


@dataclass(frozen=True, slots=True)
class Option:
    """Hold what of an option's quote its volatility follows from."""

    chain: ChainKey
    strike: float
    is_call: bool
    price: float
    """Middle of bid and ask, or the last price where one of them is missing; 0 for none."""
    seconds: float
    """To the expiry."""


def forwards(options: Sequence[Option], spots: Mapping[str, float]) -> dict[ChainKey, float]:
    """Return the forward of each expiry that has a strike with a call and a put."""
    pairs: defaultdict[ChainKey, defaultdict[float, dict[bool, Option]]]
    pairs = defaultdict(lambda: defaultdict(dict))
    for option in options:
        if option.price > 0.0:
            pairs[option.chain][option.strike][option.is_call] = option
    found: dict[ChainKey, float] = {}
    for chain, strikes in pairs.items():
        both = {strike: sides for strike, sides in strikes.items() if len(sides) == 2}
        if not both:
            continue
        near = spots.get(chain[0]) or min(
            both, key=lambda strike: abs(both[strike][True].price - both[strike][False].price)
        )
        nearest = sorted(both, key=lambda strike: abs(strike - near))[:FORWARD_STRIKES]
        found[chain] = float(
            np.median(
                [
                    strike
                    + math.exp(RATE_PER_YEAR * both[strike][True].seconds / YEAR_SECONDS)
                    * (both[strike][True].price - both[strike][False].price)
                    for strike in nearest
                ]
            )
        )
    return found


def volatilities(options: Sequence[Option], at_forward: Mapping[ChainKey, float]) -> list[float]:
    """Return the implied volatility of each option, a ratio per year, 0 where there is none.

    There is none for a price below what the option is worth at once or above what it can ever be,
    without a forward, and in the last five minutes.
    """
    from vollib.black.implied_volatility import implied_volatility

    found = []
    for option in options:
        forward = at_forward.get(option.chain, 0.0)
        if forward <= 0.0 or option.price <= 0.0 or option.seconds < SHORTEST_SECONDS:
            found.append(0.0)
            continue
        years = option.seconds / YEAR_SECONDS
        side = 1.0 if option.is_call else -1.0
        worth = option.price * math.exp(RATE_PER_YEAR * years)
        inside = max(side * (forward - option.strike), 0.0)
        most = forward if option.is_call else option.strike
        if not inside < worth < most:
            found.append(0.0)
            continue
        flag = "c" if option.is_call else "p"
        value = float(
            implied_volatility(option.price, forward, option.strike, RATE_PER_YEAR, years, flag)
        )
        found.append(value if LOWEST_IV <= value <= HIGHEST_IV else 0.0)
    return found


@dataclass(frozen=True, slots=True)
class Greeks:
    """Hold sensitivities in columns; NaN where an option has no volatility."""

    delta: FloatArray
    """Of the premium to the forward, in rupees a rupee."""
    gamma: FloatArray
    theta: FloatArray
    """In rupees a day."""
    vega: FloatArray
    """In rupees a percentage point of volatility."""


def greeks(
    forward: FloatArray,
    strike: FloatArray,
    seconds: FloatArray,
    volatility: FloatArray,
    is_call: BoolArray,
) -> Greeks:
    """Return the Black-76 sensitivities of options on a forward; arrays of one shape."""
    years = seconds / YEAR_SECONDS
    with np.errstate(divide="ignore", invalid="ignore"):
        volatility = np.where((volatility > 0.0) & (years > 0.0), volatility, np.nan)
        root = np.sqrt(years)
        first = np.log(forward / strike) / (volatility * root) + 0.5 * volatility * root
    second = first - volatility * root
    discount = np.exp(-RATE_PER_YEAR * years)
    density = np.exp(-0.5 * first**2) / math.sqrt(2.0 * math.pi)
    side = np.where(is_call, 1.0, -1.0)
    premium = side * discount * (forward * _normal(side * first) - strike * _normal(side * second))
    decay = -forward * discount * density * volatility / (2.0 * root)
    return Greeks(
        delta=side * discount * _normal(side * first),
        gamma=discount * density / (forward * volatility * root),
        theta=(decay + RATE_PER_YEAR * premium) / 365.0,
        vega=forward * discount * density * root / 100.0,
    )


def _normal(x: FloatArray) -> FloatArray:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    result: FloatArray = 0.5 * (1.0 + erf(x / math.sqrt(2.0)))
    return result
