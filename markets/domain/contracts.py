"""Dated facts about the contracts we trade: lots, expiries, ticks, freeze quantities.

What a broker's instrument list says today wins over this file; it is here for history, where no
list exists any more, and for the simulator.
"""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

import numpy as np

from markets.domain.bars import IntArray
from markets.domain.calendar import Calendar, date_of_epoch_day, epoch_day, ist_days
from tradingsite.registry import MARKETS

YEAR_DAYS = 365
BTC_LOT_SIZE = 0.01

EXPIRY_REACH = datetime.timedelta(days=70)
"""Reaches past the next monthly expiry from any date."""
_ONE_DAY = datetime.timedelta(days=1)
_SATURDAY = 5
# Closed in every year, so an expiry can avoid them before the exchange has published its list.
_NATIONAL_HOLIDAYS = ((1, 26), (8, 15), (10, 2))


@dataclass(frozen=True, slots=True)
class LotRow:
    """State the units per lot of the monthly futures that expire on a date or later."""

    effective: datetime.date
    units: int
    source: str


@dataclass(frozen=True, slots=True)
class WeekdayRow:
    """State the weekday (Monday is 0) of the month's last expiry from a date on."""

    effective: datetime.date
    weekday: int
    source: str


@dataclass(frozen=True, slots=True)
class BandRow:
    """State a value by index level from a date on: the first band whose ceiling holds it."""

    effective: datetime.date
    bands: tuple[tuple[Decimal, Decimal], ...]
    source: str


NIFTY_LOTS = (
    LotRow(
        datetime.date(2014, 10, 1),
        50,
        "stated as the lot in force by the revision of 31 October 2014 (press); start not known",
    ),
    LotRow(datetime.date(2014, 11, 1), 25, "NSE revision effective 31 October 2014 (press)"),
    LotRow(
        datetime.date(2015, 11, 1),
        75,
        "NSE list of 7 August 2015: November 2015 and later expiries (press)",
    ),
    LotRow(
        datetime.date(2021, 7, 1),
        50,
        "NSE/FAOP/47854 of 31 March 2021: July 2021 monthly expiry and beyond",
    ),
    LotRow(
        datetime.date(2024, 5, 1),
        25,
        "NSE/FAOP/61415 of 2 April 2024: first monthly expiry 30 May 2024",
    ),
    LotRow(
        datetime.date(2025, 2, 1),
        75,
        "NSE circular of 18 October 2024; the exchange's daily report of January 2025 shows 25 "
        "for the future of 30 January and 75 for that of 27 February 2025",
    ),
    LotRow(
        datetime.date(2025, 12, 31),
        65,
        "NSE/FAOP/70616 of 3 October 2025: contracts after 30 December 2025; seen in the "
        "exchange's daily report of January 2026",
    ),
)

EXPIRY_WEEKDAYS = (
    WeekdayRow(datetime.date(2000, 6, 12), 3, "NSE contract specification: last Thursday"),
    WeekdayRow(
        datetime.date(2025, 9, 1),
        1,
        "NSE, after SEBI's approval of 17 June 2025: last Tuesday from 1 September 2025",
    ),
)

_NO_CEILING = Decimal("Infinity")
NIFTY_TICKS = (
    BandRow(
        datetime.date(2000, 6, 12),
        ((_NO_CEILING, Decimal("0.05")),),
        "NSE contract specification before 15 April 2025",
    ),
    BandRow(
        datetime.date(2025, 4, 15),
        (
            (Decimal(15_000), Decimal("0.05")),
            (Decimal(30_000), Decimal("0.10")),
            (_NO_CEILING, Decimal("0.20")),
        ),
        "NSE circulars of March 2025, reviewed monthly by the index's closing level",
    ),
)
NIFTY_FREEZE_QUANTITIES = (
    BandRow(
        datetime.date(2021, 8, 2),
        (
            (Decimal(5_750), Decimal(8_500)),
            (Decimal(8_625), Decimal(5_500)),
            (Decimal(11_500), Decimal(4_200)),
            (Decimal(17_250), Decimal(2_800)),
            (Decimal(27_500), Decimal(1_800)),
            (Decimal(40_000), Decimal(1_200)),
            (Decimal(55_000), Decimal(900)),
            (_NO_CEILING, Decimal(600)),
        ),
        "NSE table announced 31 July 2021 (press); 1800 for NIFTY confirmed by the circulars of "
        "29 August and 31 October 2025 and 30 January 2026; reset monthly",
    ),
)
# Hyperliquid: five significant figures, any whole number, at most 6 - szDecimals(5) decimals.
BTC_TICKS = ((Decimal(10_000), Decimal("0.1")), (_NO_CEILING, Decimal(1)))


class _Dated(Protocol):
    @property
    def effective(self) -> datetime.date: ...


_Row = TypeVar("_Row", bound=_Dated)


def row_on(rows: Sequence[_Row], date: datetime.date) -> _Row:
    """Return the row in force on a date; the first row also answers for the time before it."""
    index = bisect_right(rows, date, key=lambda row: row.effective)
    return rows[max(index - 1, 0)]


def lot_size(market: str, expiry_or_date: datetime.date) -> float:
    """Return the units per lot of the monthly future that expires on a date; BTC by our choice."""
    if _known(market) == "btc":
        return BTC_LOT_SIZE
    return float(row_on(NIFTY_LOTS, expiry_or_date).units)


def is_extrapolated(market: str, expiry_or_date: datetime.date) -> bool:
    """Return whether the lot size of a date is only that of the first row we have a source for."""
    return _known(market) == "nifty" and expiry_or_date < NIFTY_LOTS[0].effective


def expiries(calendar: Calendar, start: datetime.date, end: datetime.date) -> list[datetime.date]:
    """Return the monthly expiries of the NIFTY future from start to end, both included.

    Where the calendar does not reach, only weekends and national holidays count as closed.
    """
    months = range(12 * start.year + start.month - 1, 12 * end.year + end.month)
    found = [_monthly_expiry(calendar, month // 12, month % 12 + 1) for month in months]
    return [expiry for expiry in found if start <= expiry <= end]


def expiry_days(opens_at: IntArray, calendar: Calendar) -> IntArray:
    """Return the expiries, as days since 1970-01-01, from the first of the instants past the last.

    The instants ascend; the list reaches past the front contract of the last.
    """
    first, last = (date_of_epoch_day(int(day)) for day in ist_days(opens_at[[0, -1]]))
    dates = expiries(calendar, first, last + EXPIRY_REACH)
    return np.array([epoch_day(date) for date in dates], dtype=np.int64)


def days_to_expiry(opens_at: IntArray, calendar: Calendar) -> IntArray:
    """Return the calendar days left of the NIFTY future traded at each of ascending instants."""
    if len(opens_at) == 0:
        return np.empty(0, dtype=np.int64)
    days, known = ist_days(opens_at), expiry_days(opens_at, calendar)
    return known[np.searchsorted(known, days, side="right")] - days


def front_expiry(date: datetime.date, expiry_dates: Sequence[datetime.date]) -> datetime.date:
    """Return the expiry of the contract held on a date: the first strictly after it.

    A position therefore leaves the expiring contract at the open of its last day. Raise
    ValueError where the ascending list of expiries ends too early.
    """
    index = bisect_right(expiry_dates, date)
    if index == len(expiry_dates):
        raise ValueError(f"no expiry after {date} in a list of {len(expiry_dates)}; extend it")
    return expiry_dates[index]


def tick_size(market: str, date: datetime.date, price: Decimal) -> Decimal:
    """Return the smallest step of the future's price at a price level."""
    if _known(market) == "btc":
        return BTC_TICKS[0][1] if price < BTC_TICKS[0][0] else BTC_TICKS[1][1]
    return _band(row_on(NIFTY_TICKS, date).bands, price)


def freeze_quantity(market: str, date: datetime.date, price: Decimal) -> Decimal | None:
    """Return the most units one order may carry at a price level, None where nothing limits it."""
    if _known(market) == "btc":
        return None
    return _band(row_on(NIFTY_FREEZE_QUANTITIES, date).bands, price)


def _known(market: str) -> str:
    if market not in MARKETS:
        raise ValueError(f"unknown market {market!r}; the known ones are {', '.join(MARKETS)}")
    return market


def _band(bands: Sequence[tuple[Decimal, Decimal]], price: Decimal) -> Decimal:
    return next(value for ceiling, value in bands if price <= ceiling)


def _monthly_expiry(calendar: Calendar, year: int, month: int) -> datetime.date:
    first_of_next = datetime.date(year + month // 12, month % 12 + 1, 1)
    day = first_of_next - _ONE_DAY
    weekday = row_on(EXPIRY_WEEKDAYS, day).weekday
    day -= datetime.timedelta(days=(day.weekday() - weekday) % 7)
    while is_closed(calendar, day):
        day -= _ONE_DAY
    return day


def is_closed(calendar: Calendar, date: datetime.date) -> bool:
    """Return whether no contract can expire on a date; beyond the calendar by what is certain."""
    if date.weekday() >= _SATURDAY or (date.month, date.day) in _NATIONAL_HOLIDAYS:
        return True
    if not calendar.covers(date):
        return False
    session = calendar.session_on(date)
    # The evening hour of Diwali is no trading day on which a contract could expire.
    return session is None or session.kind == "muhurat"
