"""What could have been held instead: accounts that follow given lots, by the bots' own accounting.

Whole columns at a time, because hundreds of them are compared. A test holds them to the replay,
which goes order by order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bots.decision import accounting
from markets.domain import indicators
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel

EMA_FAST_BARS, EMA_SLOW_BARS = 12, 48
RANDOM_PATHS = 200


@dataclass(frozen=True, slots=True)
class SimulatedAccounts:
    """Hold what lots (..., n) came to: equities (..., n + 1) with the capital first, and sums."""

    equity: FloatArray
    turnover: FloatArray
    charges: FloatArray
    slippage: FloatArray


def simulate(panel: PricePanel, lots: IntArray, capital: float) -> SimulatedAccounts:
    """Return the accounts that hold whole lots (..., n), decided at the closes of the first rows.

    The panel has n + 1 rows: what is decided at a close is filled at the next row's open, with
    charges, slippage and funding.
    """
    rows = slice(1, None)
    held = lots * panel.lot_size[rows]
    # A position begins flat, and what a roll closes it opens anew, so costs are paid on both.
    before = np.concatenate((np.zeros_like(held[..., :1]), held[..., :-1]), axis=-1)
    closing, opening = accounting.split(
        before, held, np.where(panel.roll[rows], 0.0, 1.0), np.minimum, np.maximum
    )
    turnover, charges, slippage, paid = 0.0, 0.0, 0.0, 0.0
    for quantity, reference in (
        (closing, panel.previous_open[rows]),
        (opening, panel.open[rows]),
    ):
        price = accounting.fill_price(reference, np.sign(quantity), panel.slippage)
        value = np.abs(quantity) * price
        rate = np.where(quantity > 0.0, panel.buy_rate[rows], panel.sell_rate[rows])
        costs = accounting.order_charges(
            value, rate, panel.brokerage_rate[rows], panel.brokerage_cap[rows], np.minimum
        )
        turnover = turnover + value
        charges = charges + costs
        slippage = slippage + accounting.slippage_cost(quantity, price, reference)
        paid = paid + quantity * price + costs
    funding = held * accounting.funding_per_unit(panel.close, panel.funding_rate)[rows]
    # Cash is what is left of the capital after all that was paid up to each bar.
    cash = capital - np.cumsum(paid + funding, axis=-1)
    equity = accounting.equity(cash, held, panel.close[rows])
    first = np.full_like(equity[..., :1], capital)
    return SimulatedAccounts(
        np.concatenate((first, equity), axis=-1),
        *(np.sum(each, axis=-1) for each in (turnover, charges, slippage)),
    )


def constant_lots(lots: int, bars: int) -> IntArray:
    """Return the same lots at every one of so many decisions, (bars,)."""
    return np.full(bars, lots, dtype=np.int64)


def ema_cross(close: FloatArray, limit_lots: int) -> IntArray:
    """Return the limit (T,), long while the fast average is above the slow one and short below.

    close (T,) are all closes known, those of long before included; the first slow ones are flat.
    """
    fast = indicators.exponential_average(close, EMA_FAST_BARS)
    slow = indicators.exponential_average(close, EMA_SLOW_BARS)
    lots: IntArray = (limit_lots * np.sign(np.nan_to_num(fast - slow))).astype(np.int64)
    return lots


def shifted_positions(lots: IntArray, seed: int, paths: int = RANDOM_PATHS) -> IntArray:
    """Return the same positions at random other times, (paths, n).

    Each path is moved round by a random number of bars: it holds as much, as long and trades as
    often, so all that it lacks is the timing.
    """
    shifts = np.random.default_rng(seed).integers(1, max(len(lots), 2), size=paths)
    places = (np.arange(len(lots)) - shifts[:, None]) % len(lots)
    found: IntArray = lots[places]
    return found


def scale_costs(panel: PricePanel, times: float) -> PricePanel:
    """Return a panel on which charges and slippage are so many times as high."""
    return replace(
        panel,
        buy_rate=panel.buy_rate * times,
        sell_rate=panel.sell_rate * times,
        brokerage_rate=panel.brokerage_rate * times,
        brokerage_cap=panel.brokerage_cap * times,
        slippage=panel.slippage * times,
    )
