"""The all-in charges of one date, by the door that arrays go through."""

from __future__ import annotations

import datetime as dt

import numpy as np

from markets.domain.charges import Rates, rates_for


def rates_on(market: str, date: dt.date) -> Rates:
    """Return the rates at noon UTC, when it is the same day in India."""
    noon = dt.datetime.combine(date, dt.time(12), dt.UTC).timestamp()
    columns = rates_for(market, np.array([int(noon)], dtype=np.int64))
    return Rates(
        buy_rate=float(columns.buy_rate[0]),
        sell_rate=float(columns.sell_rate[0]),
        brokerage_rate=float(columns.brokerage_rate[0]),
        brokerage_cap=float(columns.brokerage_cap[0]),
    )
