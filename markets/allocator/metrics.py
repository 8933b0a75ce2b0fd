"""What an asset's past says of it: returns, volatility, drawdown, momentum, correlations.

Everything is as of the first day of a month and knows only closes of earlier days. What the closes
do not reach back to, or do not reach up to, is None: nothing is filled in.
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from markets.domain.bars import FloatArray, IntArray

EPOCH = dt.date(1970, 1, 1)
DAYS_A_YEAR = 365.25
WINDOW_MONTHS = 12
"""Of volatility and drawdown."""
STALE_DAYS = 10
"""No market that trades is closed for longer, so an older close is not the level of a date."""
FEWEST_RETURNS = 60
"""Fewer make no volatility worth a number."""
WEEKS = 156
FEWEST_WEEKS = 48
"""Of a year, less the weeks that holidays take from one market or another."""
# What moves less than this does not move: skfolio takes a deviation under 1e-7 for none and refuses
# all assets then, and to a fund of overnight money of 1e-6 it would give the whole.
STILL = 1e-6


@dataclass(frozen=True, slots=True)
class Series:
    """One asset's daily closes, each under its own market's date."""

    name: str
    asset_class: str
    currency: str
    days: IntArray
    """Days since 1970, rising."""
    closes: FloatArray

    def before(self, date: dt.date) -> Series:
        """Return what was known as a date began."""
        stop = int(np.searchsorted(self.days, day_number(date)))
        return Series(
            *(self.name, self.asset_class, self.currency), self.days[:stop], self.closes[:stop]
        )

    def level_at(self, date: dt.date) -> float | None:
        """Return the close in force as a date began, None where the last is too old or none is."""
        place = int(np.searchsorted(self.days, day_number(date))) - 1
        if place < 0 or day_number(date) - self.days[place] > STALE_DAYS:
            return None
        return float(self.closes[place])

    @property
    def first_on(self) -> dt.date | None:
        """Return the date of the first close."""
        return day_of(int(self.days[0])) if len(self.days) else None

    @property
    def last_on(self) -> dt.date | None:
        """Return the date of the last close."""
        return day_of(int(self.days[-1])) if len(self.days) else None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Hold the numbers of one asset; ratios, None where they are not known."""

    return_1m: float | None
    return_3m: float | None
    return_6m: float | None
    return_12m: float | None
    volatility: float | None
    """Of daily log returns over a year, annualised by the days that this market trades."""
    max_drawdown: float | None
    """The deepest fall from a peak within a year, 0 to 1."""
    momentum: float | None
    """Twelve months without the last one."""


@dataclass(frozen=True, slots=True)
class Weekly:
    """Simple returns of whole weeks that all assets have, one column an asset."""

    names: tuple[str, ...]
    returns: FloatArray


def day_number(date: dt.date) -> int:
    """Return a date as days since 1970."""
    return (date - EPOCH).days


def day_of(number: int) -> dt.date:
    """Return the date of a day's number."""
    return EPOCH + dt.timedelta(days=number)


def months_back(date: dt.date, months: int) -> dt.date:
    """Return the same day of an earlier month, or that month's last."""
    year, month = divmod(date.year * 12 + date.month - 1 - months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return dt.date(year, month + 1, min(date.day, last))


def measure(series: Series, as_of: dt.date) -> Metrics:
    """Return an asset's numbers as of a date."""
    known = series.before(as_of)
    window = known.days >= day_number(months_back(as_of, WINDOW_MONTHS))
    is_fresh = known.level_at(as_of) is not None
    days, closes = known.days[window], known.closes[window]
    returns = {
        f"return_{months}m": period_return(known, months_back(as_of, months), as_of)
        for months in (1, 3, 6, 12)
    }
    return Metrics(
        **returns,
        volatility=volatility(days, closes) if is_fresh else None,
        max_drawdown=max_drawdown(closes) if is_fresh and len(closes) > FEWEST_RETURNS else None,
        momentum=period_return(known, months_back(as_of, 12), months_back(as_of, 1)),
    )


def period_return(series: Series, start: dt.date, end: dt.date) -> float | None:
    """Return the simple return between the levels of two dates, None where one is not known."""
    first, last = series.level_at(start), series.level_at(end)
    return None if first is None or last is None else last / first - 1.0


def volatility(days: IntArray, closes: FloatArray) -> float | None:
    """Return the annualised standard deviation of log returns, None of too few of them."""
    if len(closes) <= FEWEST_RETURNS:
        return None
    returns = np.diff(np.log(closes))
    years = (days[-1] - days[0]) / DAYS_A_YEAR
    found = float(np.std(returns, ddof=1) * np.sqrt(len(returns) / years))
    return found if found > STILL else 0.0


def max_drawdown(closes: FloatArray) -> float:
    """Return the deepest fall from an earlier peak, as a part of that peak."""
    if not len(closes):
        return 0.0
    return float(np.max(1.0 - closes / np.maximum.accumulate(closes)))


def weekly(all_series: Sequence[Series], as_of: dt.date, weeks: int = WEEKS) -> Weekly:
    """Return the returns of the last weeks, Monday to Sunday, that were over and that all have.

    Weeks, because the markets close hours apart, which would hide how days move together.
    """
    names = tuple(series.name for series in all_series)
    current = _week(day_number(as_of))
    last_closes = []
    for series in all_series:
        known = series.before(as_of)
        week = _week(known.days)
        ends = np.append(np.diff(week) > 0, True)[: len(week)]
        is_over = ends & (week < current) & (week >= current - weeks - 1)
        last_closes.append(dict(zip(week[is_over].tolist(), known.closes[is_over], strict=True)))
    common = sorted(set.intersection(*map(set, last_closes))) if last_closes else []
    pairs = [(week - 1, week) for week in common if week - 1 in set(common)]
    rows = [[closes[now] / closes[then] - 1.0 for closes in last_closes] for then, now in pairs]
    return Weekly(names, np.array(rows, dtype=np.float64).reshape(len(rows), len(names)))


def correlation(first: FloatArray, second: FloatArray) -> float | None:
    """Return how returns move together, -1 to 1; None where one of them does not move."""
    if len(first) < 2 or min(np.std(first), np.std(second)) <= STILL:
        return None
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))


def _week(day: IntArray | int) -> IntArray:
    # 1970 began on a Thursday.
    return np.asarray((np.asarray(day) + 3) // 7, dtype=np.int64)
