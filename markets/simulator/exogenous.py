"""The simulated past beside its bars: what the venues would say of India VIX and of funding."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from markets.domain import exogenous
from markets.simulator.hyperliquid.market import BY_NAME, HOUR, PerpMarket
from markets.simulator.world import World
from tradingsite.clock import Epoch

Rows = list[tuple[int, Decimal]]


def rows_of(series: str, world: World, seed: int, start: Epoch, end: Epoch) -> Rows:
    """Return a series' readings in (start, end], to the digit those that the collector would get.

    Raises ValueError for a series that nothing is made of.
    """
    if series == exogenous.VOLATILITY:
        return _volatility(world, start, end)
    if series == exogenous.FUNDING:
        return _funding(world, seed, start, end)
    raise ValueError(f"no generated series {series!r}")


def _volatility(world: World, start: Epoch, end: Epoch) -> Rows:
    closes = world.prices.nse.edges()[1]
    closes = closes[(closes > start) & (closes <= end)]
    levels = world.prices.spot("INDIA VIX", closes.astype(np.float64))
    # The broker's candles have four decimals.
    values = (Decimal(repr(level)) for level in levels.round(4).tolist())
    return list(zip(closes.tolist(), values, strict=True))


def _funding(world: World, seed: int, start: Epoch, end: Epoch) -> Rows:
    times = np.arange(start // HOUR + 1, end // HOUR + 1, dtype=np.int64) * HOUR
    market = PerpMarket(world.prices, seed)
    # A payment is for the hour before it.
    rates = market.funding_rates(BY_NAME["BTC"], times.astype(np.float64) - 1.0)
    return list(zip(times.tolist(), rates, strict=True))
