"""What the simulated broker charges for an executed order: the items of its contract note.

NIFTY futures follow the desk's own dated table; the rest are the rates of 2026 by the brokers'
published lists.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from markets.domain.charges import row_in_force
from markets.simulator.kite.orders import INTRADAY
from markets.simulator.listing import FUTURE, SHARE, Listed

GST_RATIO = 0.18
_SEBI_RATIO = 0.000001


class Rates(NamedTuple):
    """Hold the rates of a kind of order, as ratios of turnover."""

    brokerage: float
    brokerage_cap: float
    tax_buy: float
    tax_sell: float
    exchange: float
    stamp_buy: float


class Items(NamedTuple):
    """Hold the items of one note, in rupees."""

    transaction_tax: float
    exchange: float
    sebi: float
    brokerage: float
    stamp_duty: float
    gst: float

    @property
    def total(self) -> float:
        """Return what the order costs."""
        return round(sum(self), 4)


def rates_of(row: Listed, product: str, date: dt.date) -> Rates:
    """Return the rates of an instrument on a date."""
    if row.kind == FUTURE:
        dated = row_in_force("nifty", date)
        exchange = 0.0 if row.exchange == "BFO" else float(dated.exchange)
        return Rates(0.0003, 20.0, 0.0, float(dated.stt_sell), exchange, 0.00002)
    if row.is_option:
        exchange = 0.000325 if row.exchange == "BFO" else 0.0003553
        return Rates(1.0, 20.0, 0.0, 0.0015, exchange, 0.00003)
    if row.kind == SHARE and product in INTRADAY:
        return Rates(0.0003, 20.0, 0.0, 0.00025, 0.0000307, 0.00003)
    return Rates(0.0, 0.0, 0.001, 0.001, 0.0000307, 0.00015)


def itemise(
    row: Listed, product: str, side: int, quantity: int, price: float, date: dt.date
) -> Items:
    """Return the note of one executed order."""
    rates = rates_of(row, product, date)
    turnover = quantity * price
    brokerage = min(turnover * rates.brokerage, rates.brokerage_cap)
    exchange, sebi = turnover * rates.exchange, turnover * _SEBI_RATIO
    return Items(
        round(turnover * (rates.tax_buy if side > 0 else rates.tax_sell), 2),
        round(exchange, 4),
        round(sebi, 4),
        round(brokerage, 4),
        round(turnover * rates.stamp_buy, 2) if side > 0 else 0.0,
        round((brokerage + exchange + sebi) * GST_RATIO, 4),
    )
