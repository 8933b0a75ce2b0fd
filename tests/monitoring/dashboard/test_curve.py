"""The points of the equity curve: each second once, whatever falls on midnight."""

import datetime as dt
from decimal import Decimal

from monitoring.dashboard.books import Mark
from monitoring.dashboard.curve import _points, totals

MIDNIGHT = dt.datetime(2026, 6, 2, tzinfo=dt.timezone(dt.timedelta(hours=5.5)))


def test_a_snapshot_of_midnight_is_one_point_with_the_days_start() -> None:
    marks = [
        Mark("nifty-15m", MIDNIGHT, Decimal(9_293), Decimal(0)),
        Mark("nifty-15m", MIDNIGHT + dt.timedelta(minutes=15), Decimal(9_300), Decimal(0)),
    ]
    day = totals(marks, {})
    points = _points([(MIDNIGHT, Decimal(8_982)), *day])
    assert [value for _, value in points] == [9_293, 9_300]
    assert len({at for at, _ in points}) == len(points)
