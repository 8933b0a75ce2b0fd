"""What the simulated exchanges list on a day: indices, shares, futures and whole option chains.

The list of a date depends on the calendar and on closes before that date only, so it is the same
however often it is asked for. Tokens, symbols and columns have the broker's form.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import numpy as np

from markets.domain.calendar import Calendar, ist_instant
from markets.domain.contracts import EXPIRY_WEEKDAYS, is_closed, lot_size, row_on, tick_size
from markets.simulator.prices import FOLLOWERS, Prices

INDEX, SHARE, FUTURE, CALL, PUT = "INDEX", "EQ", "FUT", "CE", "PE"

# The broker's numbers of the exchanges' segments: the last byte of a token.
SEGMENT_NUMBERS = {"NSE": 1, "NFO": 2, "BSE": 4, "BFO": 5, "INDICES": 9}
_INDEX_ROWS = (
    ("NSE", "NIFTY 50", "NIFTY", 256265),
    ("NSE", "NIFTY BANK", "BANKNIFTY", 260105),
    ("NSE", "INDIA VIX", "INDIA VIX", 264969),
    ("BSE", "SENSEX", "SENSEX", 265),
)
_SHARE_NUMBERS = {
    "RELIANCE": 2885,
    "HDFCBANK": 1333,
    "ICICIBANK": 4963,
    "INFY": 1594,
    "TCS": 11536,
    "SBIN": 3045,
    "NIFTYBEES": 10576,
}
_MONTHS = "123456789OND"
_ONE_DAY = dt.timedelta(days=1)
_THURSDAY = 3


@dataclass(frozen=True, slots=True)
class Chain:
    """Describe an index with futures and options."""

    name: str
    exchange: str
    number: int
    """Tells its tokens from those of the other chains."""
    strike_step: int
    strikes_each_side: int
    weeklies: int
    monthlies: int
    freeze_quantity: int


CHAINS = (
    Chain("NIFTY", "NFO", 0, 50, 60, 4, 3, 1800),
    Chain("BANKNIFTY", "NFO", 1, 100, 60, 0, 3, 600),
    Chain("SENSEX", "BFO", 2, 100, 90, 4, 3, 1000),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """Hold one row of the broker's list of instruments."""

    token: int
    exchange: str
    symbol: str
    name: str
    underlying: str
    """Whose price it follows, by `Prices`' names."""
    kind: str
    """INDEX, EQ, FUT, CE or PE."""
    expiry: dt.date | None
    strike: float
    tick_size: float
    lot_size: int
    freeze_quantity: int

    @property
    def key(self) -> str:
        """Return the name by which the broker's calls take it, like "NFO:NIFTY26JUNFUT"."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def segment(self) -> str:
        """Return the broker's name of its segment."""
        if self.kind == INDEX:
            return "INDICES"
        if self.kind == SHARE:
            return self.exchange
        return f"{self.exchange}-{'FUT' if self.kind == FUTURE else 'OPT'}"

    @property
    def is_option(self) -> bool:
        """Return whether it is a call or a put."""
        return self.kind in (CALL, PUT)


@dataclass(frozen=True, slots=True)
class Listing:
    """Hold the list of a date, and find in it."""

    date: dt.date
    rows: tuple[Listed, ...]
    by_key: dict[str, int]
    by_token: dict[int, int]

    @classmethod
    def of(cls, date: dt.date, rows: tuple[Listed, ...]) -> Listing:
        """Return the list of rows, each with its place."""
        keys = {row.key: place for place, row in enumerate(rows)}
        return cls(date, rows, keys, {row.token: place for place, row in enumerate(rows)})


class Exchange:
    """Answer what is listed on a date."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.nse = prices.nse
        self.on = lru_cache(maxsize=4)(self._on)

    def _on(self, date: dt.date) -> Listing:
        rows = [*_indices(), *_shares()]
        for chain in CHAINS:
            rows += self._chain(chain, date)
        return Listing.of(date, tuple(rows))

    def _chain(self, chain: Chain, date: dt.date) -> Iterator[Listed]:
        lowest, highest = self._strikes(chain, date)
        strikes = range(lowest, highest + 1, chain.strike_step)
        expiries = self.expiries(chain, date)
        yield from self.futures(chain, date)
        for expiry in expiries:
            for strike in strikes:
                yield _contract(chain, expiry, CALL, strike, 0.05)
                yield _contract(chain, expiry, PUT, strike, 0.05)

    def futures(self, chain: Chain, date: dt.date) -> list[Listed]:
        """Return a chain's futures that live on a date, nearest first."""
        level = Decimal(repr(self.prices.spot_at(chain.name, ist_instant(date, dt.time(9)))))
        tick = float(tick_size("nifty", date, level))
        monthly = [each for each in self.expiries(chain, date) if is_monthly(chain, each)]
        return [_contract(chain, expiry, FUTURE, 0, tick) for expiry in monthly]

    def expiries(self, chain: Chain, date: dt.date) -> list[dt.date]:
        """Return the expiries of a chain that live on a date, nearest first."""
        found: list[dt.date] = []
        weeks, monthlies = 0, 0
        week = date - dt.timedelta(days=date.weekday())
        while monthlies < chain.monthlies:
            expiry = self._expiry_of_week(chain, week)
            week += dt.timedelta(days=7)
            if expiry < date:
                continue
            if is_monthly(chain, expiry):
                monthlies += 1
                found.append(expiry)
            elif weeks < chain.weeklies:
                found.append(expiry)
            weeks += 1
        return found

    def _expiry_of_week(self, chain: Chain, monday: dt.date) -> dt.date:
        return _trading_day(self.nse, monday + _ONE_DAY * weekday_on(chain, monday))

    def _strikes(self, chain: Chain, date: dt.date) -> tuple[int, int]:
        """Return the lowest and highest strike: round the money of the last month's closes."""
        days = [date - _ONE_DAY * back for back in range(1, 31)]
        at = np.array([ist_instant(day, dt.time(23)) for day in days], dtype=np.float64)
        closes = self.prices.spot(chain.name, at)
        reach = chain.strike_step * chain.strikes_each_side
        step = chain.strike_step
        lowest = round(float(np.nanmin(closes)) / step) * step - reach
        return max(lowest, step), round(float(np.nanmax(closes)) / step) * step + reach


def weekday_on(chain: Chain, date: dt.date) -> int:
    """Return the weekday (Monday is 0) on which a chain's contracts expire at a date."""
    if chain.name == "SENSEX":
        return _THURSDAY
    return row_on(EXPIRY_WEEKDAYS, date).weekday


def is_monthly(chain: Chain, expiry: dt.date) -> bool:
    """Return whether an expiry is its month's last."""
    monday = expiry - _ONE_DAY * expiry.weekday()
    nominal = monday + _ONE_DAY * weekday_on(chain, monday)
    return (nominal + dt.timedelta(days=7)).month != nominal.month


def _trading_day(calendar: Calendar, date: dt.date) -> dt.date:
    while is_closed(calendar, date):
        date -= _ONE_DAY
    return date


def symbol_of(chain: Chain, expiry: dt.date, kind: str, strike: int) -> str:
    """Return the broker's symbol: monthly ones carry the month's name, weekly ones the day."""
    year = f"{expiry:%y}"
    if kind == FUTURE:
        return f"{chain.name}{year}{expiry:%b}FUT".upper()
    when = (
        f"{expiry:%b}".upper()
        if is_monthly(chain, expiry)
        else f"{_MONTHS[expiry.month - 1]}{expiry:%d}"
    )
    return f"{chain.name}{year}{when}{strike}{kind}"


def _contract(chain: Chain, expiry: dt.date, kind: str, strike: int, tick: float) -> Listed:
    # The token is unique among the contracts that live together, and the same all their lives.
    number = chain.number << 22 | (expiry.toordinal() % 512) << 13
    number |= (strike // chain.strike_step) << 2 | (CALL, PUT, FUTURE).index(kind)
    return Listed(
        token=number * 256 + SEGMENT_NUMBERS[chain.exchange],
        exchange=chain.exchange,
        symbol=symbol_of(chain, expiry, kind, strike),
        name=chain.name,
        underlying=chain.name,
        kind=kind,
        expiry=expiry,
        strike=float(strike),
        tick_size=tick,
        lot_size=_lot(chain, expiry),
        freeze_quantity=chain.freeze_quantity,
    )


def _lot(chain: Chain, expiry: dt.date) -> int:
    if chain.name == "NIFTY":
        return int(lot_size("nifty", expiry))
    if chain.name == "BANKNIFTY":
        return 30 if expiry > dt.date(2025, 12, 30) else 35
    return 20


def _indices() -> Iterator[Listed]:
    for exchange, symbol, underlying, token in _INDEX_ROWS:
        yield Listed(token, exchange, symbol, symbol, underlying, INDEX, None, 0.0, 0.0, 0, 0)


def _shares() -> Iterator[Listed]:
    for name, number in _SHARE_NUMBERS.items():
        token = number * 256 + SEGMENT_NUMBERS["NSE"]
        tick = FOLLOWERS[name].tick
        yield Listed(token, "NSE", name, name, name, SHARE, None, 0.0, tick, 1, 10_000_000)
