"""What one slot can trade at, a row a bar: prices, rolls, lots, charges, slippage, funding.

NIFTY models learn from the index and trade its near future, so an index bar is priced as
spot * (1 + carry * days to expiry / 365): carry is an assumption from configuration, days are
calendar days from the bar's IST date, and the contract changes at the first bar of the expiring
one's last day. A perpetual pays funding instead: the rates of all payments after the close before
and up to a bar's own, on what is held at its close and at that price. The environment, the replay
and the parity test all read this one table.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np

from markets.domain.bars import Bars, BoolArray, FloatArray, IntArray
from markets.domain.calendar import Calendar, date_of_epoch_day, ist_days
from markets.domain.charges import rates_for
from markets.domain.contracts import YEAR_DAYS, expiry_days, lot_size
from markets.domain.exogenous import Readings, paid_between
from tradingsite.registry import MARKETS

BASIS_POINTS = 10_000.0


@dataclass(frozen=True, slots=True)
class PricePanel:
    """Hold the tradable side of a slot's bars as equally long columns."""

    opens_at: IntArray
    closes_at: IntArray
    open: FloatArray
    """Price of the bar's own contract at its open, in the market's currency per unit."""
    close: FloatArray
    """Price of the same contract at the bar's close."""
    previous_open: FloatArray
    """Price at this open of the contract held over the bar before; equals open but for rolls."""
    roll: BoolArray
    """True where the bar's contract is not that of the bar before."""
    lot_size: FloatArray
    """Units per lot of the bar's contract."""
    buy_rate: FloatArray
    sell_rate: FloatArray
    brokerage_rate: FloatArray
    brokerage_cap: FloatArray
    """The four rates of `markets.domain.charges.Rates` for orders filled at the bar's open."""
    funding_rate: FloatArray
    """What longs pay shorts over the bar, as a ratio of the position's value."""
    slippage: float
    """Half spread plus impact against us on every fill, as a ratio of price."""

    def __len__(self) -> int:
        return len(self.opens_at)

    def slice(self, start: int, stop: int | None = None) -> PricePanel:
        """Return the rows from start to stop as views, by Python's rules for slices."""
        rows = slice(start, stop)
        return PricePanel(
            opens_at=self.opens_at[rows],
            closes_at=self.closes_at[rows],
            open=self.open[rows],
            close=self.close[rows],
            previous_open=self.previous_open[rows],
            roll=self.roll[rows],
            lot_size=self.lot_size[rows],
            buy_rate=self.buy_rate[rows],
            sell_rate=self.sell_rate[rows],
            brokerage_rate=self.brokerage_rate[rows],
            brokerage_cap=self.brokerage_cap[rows],
            funding_rate=self.funding_rate[rows],
            slippage=self.slippage,
        )


def build_price_panel(
    market: str,
    bars: Bars,
    calendar: Calendar,
    slippage_bps: float,
    carry_per_year: float | None = None,
    funding: Readings | None = None,
) -> PricePanel:
    """Return the panel of a slot's bars; the carry is the market's own unless given.

    `funding` holds the payments of a perpetual; a future has none.

    Row t depends on the bars up to t only. A hole in the bars that swallows an expiry ends in a
    roll out of the old contract at the spot price.
    """
    if market not in MARKETS:
        raise ValueError(f"unknown market {market!r}; the known ones are {', '.join(MARKETS)}")
    carry = MARKETS[market].carry_per_year if carry_per_year is None else carry_per_year
    is_dated = market == "nifty"
    contracts = (
        _dated_contracts(bars.opens_at, calendar) if is_dated else _one_contract(market, len(bars))
    )
    factor = 1.0 + carry * contracts.days_to_expiry / YEAR_DAYS
    previous_factor = 1.0 + carry * contracts.previous_days_to_expiry / YEAR_DAYS
    rates = rates_for(market, bars.opens_at)
    return PricePanel(
        opens_at=bars.opens_at,
        closes_at=bars.closes_at,
        open=bars.open * factor,
        close=bars.close * factor,
        previous_open=bars.open * previous_factor,
        roll=contracts.roll,
        lot_size=contracts.lot_size,
        buy_rate=rates.buy_rate,
        sell_rate=rates.sell_rate,
        brokerage_rate=rates.brokerage_rate,
        brokerage_cap=rates.brokerage_cap,
        funding_rate=_funding_rates(bars, funding),
        slippage=slippage_bps / BASIS_POINTS,
    )


@dataclass(frozen=True, slots=True)
class _Contracts:
    days_to_expiry: IntArray
    previous_days_to_expiry: IntArray
    roll: BoolArray
    lot_size: FloatArray


def _funding_rates(bars: Bars, funding: Readings | None) -> FloatArray:
    if funding is None or len(bars) == 0:
        return np.zeros(len(bars))
    after = np.concatenate((bars.opens_at[:1], bars.closes_at[:-1]))
    return paid_between(funding, after, bars.closes_at)


def _one_contract(market: str, length: int) -> _Contracts:
    # A perpetual has neither expiry nor, here, a dated lot size: any date gives the same.
    lot = lot_size(market, datetime.date.min)
    never = np.zeros(length, dtype=np.int64)
    return _Contracts(never, never, np.zeros(length, dtype=np.bool_), np.full(length, lot))


def _dated_contracts(opens_at: IntArray, calendar: Calendar) -> _Contracts:
    if len(opens_at) == 0:
        return _one_contract("nifty", 0)
    days, known = ist_days(opens_at), expiry_days(opens_at, calendar)
    lots = np.array([lot_size("nifty", date_of_epoch_day(day)) for day in known.tolist()])
    front = np.searchsorted(known, days, side="right")
    previous = np.concatenate((front[:1], front[:-1]))
    return _Contracts(
        days_to_expiry=known[front] - days,
        previous_days_to_expiry=np.maximum(known[previous] - days, 0),
        roll=front != previous,
        lot_size=lots[front],
    )
