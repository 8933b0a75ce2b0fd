"""What bars say to accounts in columns: prices, rates, units and lot sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bots.decision import accounting
from bots.decision.observation import account_units, limit_notional
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from training.rl.single_env import Episodes


class BarInputs(NamedTuple):
    """Hold what the bars just closed say, a column an account.

    What an order needs is (2, N), for the closing and the opening order, and the units of the
    account states are (4, N): numpy multiplies equal shapes in half the time.
    """

    buy: FloatArray
    sell: FloatArray
    """(4, N): the prices of both orders and the rates of both, if they buy or sell."""
    units: FloatArray
    brokerage_rate: FloatArray
    brokerage_cap: FloatArray
    lot_sizes: FloatArray
    """(2, N): of what is kept, which is 0 at a roll, and of what is wanted."""
    close: FloatArray
    funding: FloatArray
    """What a unit pays over the bar."""


class BarTable:
    """Look up the inputs of N accounts by their bars; `inputs` are views of one buffer.

    One table with a row a bar, so that a step reads one place of memory for each account.
    """

    def __init__(self, panel: PricePanel, episodes: Episodes, accounts: int) -> None:
        table = _rows(panel, episodes.limit_lots)
        # Most markets have none, and two calls of numpy's are a twentieth of a step.
        self.pays_funding = bool(panel.funding_rate.any())
        self._table = table[: episodes.stop]
        self.buffer = np.repeat(table[:1].T, accounts, axis=1)
        """(20, N): the table's rows of the bars last read, as columns."""
        fours, twos = self.buffer[:12], self.buffer[12:18]
        self.inputs = BarInputs(
            *fours.reshape(3, 4, -1), *twos.reshape(3, 2, -1), *self.buffer[18:]
        )

    def read(self, bars: IntArray) -> None:
        """Fill the inputs from the rows of bars (N,); raise IndexError past the last of them."""
        try:
            self.buffer[:] = self._table.take(bars, axis=0).T
        except IndexError:
            last = len(self._table) - 1
            raise IndexError(f"an account is at row {last}, the last of its episodes") from None


def _rows(panel: PricePanel, limit_lots: int) -> FloatArray:
    """Return the table (T, 20), whose columns are the rows of BarInputs one after the other."""
    # A closing order is filled in the old contract, an opening one in the new.
    references = (panel.previous_open, panel.open)
    notional = limit_notional(limit_lots, panel.lot_size, panel.close)
    table: FloatArray = np.stack(
        [
            *(accounting.fill_price(price, 1, panel.slippage) for price in references),
            *(panel.buy_rate,) * 2,
            *(accounting.fill_price(price, -1, panel.slippage) for price in references),
            *(panel.sell_rate,) * 2,
            *np.broadcast_arrays(*account_units(limit_lots, notional)),
            *(panel.brokerage_rate,) * 2,
            *(panel.brokerage_cap,) * 2,
            panel.lot_size * ~panel.roll,
            panel.lot_size,
            panel.close,
            accounting.funding_per_unit(panel.close, panel.funding_rate),
        ],
        axis=1,
    )
    return table
