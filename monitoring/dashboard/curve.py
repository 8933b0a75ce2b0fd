"""Equity over time, summed over every slot, in the resolution each range of the chart needs."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from monitoring.dashboard.books import Book, Mark
from tradingsite import clock

ZERO = Decimal(0)
# The chart library draws UTC; times shifted by this much make its axis Indian.
SECONDS_TO_IST = 19_800
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
DAILY_AFTER_SECONDS = 21 * DAY_SECONDS

Path = list[tuple[dt.datetime, Decimal]]
Points = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Curve:
    """Equity since the start in rupees; points are (seconds shifted to IST, whole rupees)."""

    day: Points
    week: Points
    all: Points
    day_peak: int
    """Highest equity before the day, at least the zero every account began with."""
    week_peak: int
    peak: Decimal

    def as_json(self) -> str:
        """Return the curve as the chart's script reads it."""
        ranges = {
            "day": {"peak": self.day_peak, "points": self.day},
            "week": {"peak": self.week_peak, "points": self.week},
            "all": {"peak": 0, "points": self.all},
        }
        return json.dumps(ranges, separators=(",", ":"))


def build(
    books: Iterable[Book],
    day_starts_at: dt.datetime,
    live: tuple[dt.datetime, Decimal],
    rate_of: Mapping[str, Decimal],
) -> Curve:
    """Return the curve from the marks before today, today's, and the sum at the last prices."""
    opening: dict[str, Decimal] = {}
    before: list[Mark] = []
    today: list[Mark] = []
    for book in books:
        rate = rate_of[book.market.currency]
        opening |= {slot: mark.equity * rate for slot, mark in book.opening.items()}
        before += (_converted(mark, rate) for mark in book.past)
        today += (_converted(mark, rate) for mark in book.today)
    earlier, day = totals(before, {}), totals(today, opening)
    # A snapshot falls on midnight each day: of two values of one instant it is the truer.
    if opening and not (day and day[0][0] == day_starts_at):
        day.insert(0, (day_starts_at, sum(opening.values(), ZERO)))
    if day and live[0] > day[-1][0]:
        day.append(live)
    week_starts_at = day_starts_at - dt.timedelta(seconds=WEEK_SECONDS)
    week = [point for point in earlier if point[0] >= week_starts_at]
    before_week = earlier[: len(earlier) - len(week)]
    return Curve(
        day=_points(day),
        week=_points(week + day),
        all=_thinned(_points(earlier + day)),
        day_peak=round(_peak(earlier)),
        week_peak=round(_peak(before_week)),
        peak=_peak(earlier + day),
    )


def totals(marks: Iterable[Mark], opening: Mapping[str, Decimal]) -> Path:
    """Return the sum over all slots after each instant's marks; a slot keeps its last equity."""
    equity = dict(opening)
    path: Path = []
    for mark in sorted(marks, key=lambda mark: mark.at):
        equity[mark.slot] = mark.equity
        total = sum(equity.values(), ZERO)
        if path and path[-1][0] == mark.at:
            path[-1] = (mark.at, total)
        else:
            path.append((mark.at, total))
    return path


def _peak(path: Path) -> Decimal:
    return max((value for _, value in path), default=ZERO).max(ZERO)


def _converted(mark: Mark, rate: Decimal) -> Mark:
    return Mark(mark.slot, mark.at, mark.equity * rate, mark.charges * rate)


def _points(path: Path) -> Points:
    # The chart wants each second once.
    return list({clock.epoch(at) + SECONDS_TO_IST: round(value) for at, value in path}.items())


def _thinned(points: Points) -> Points:
    # The chart gives every point the same width, so one curve must keep one resolution.
    if not points or points[-1][0] - points[0][0] < DAILY_AFTER_SECONDS:
        return points
    return list({at // DAY_SECONDS: (at, value) for at, value in points}.values())
