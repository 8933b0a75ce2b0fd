"""When the exchange opens and closes on ordinary days, and when it paused, as dated data."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hours:
    """State the regular hours (IST) of the F&O segment from a date on."""

    effective: datetime.date
    opens: datetime.time
    closes: datetime.time
    source: str


NSE_HOURS = (
    Hours(
        datetime.date(2007, 1, 1),
        datetime.time(9, 55),
        datetime.time(15, 30),
        "pandas_market_calendars 5.5.0 (MIT): 09:55 until January 2010",
    ),
    Hours(
        datetime.date(2010, 1, 4),
        datetime.time(9, 0),
        datetime.time(15, 30),
        "pandas_market_calendars 5.5.0 (MIT): 09:00 from 2010-01-04",
    ),
    Hours(
        datetime.date(2010, 10, 18),
        datetime.time(9, 15),
        datetime.time(15, 30),
        "press on the pre-open session of 2010-10-18; hourly and 15 minute bars since 2012",
    ),
    Hours(
        datetime.date(2026, 8, 3),
        datetime.time(9, 15),
        datetime.time(15, 40),
        "NSE circular 74/2026 of May 2026, announced; not yet seen in bars of ours",
    ),
)


@dataclass(frozen=True, slots=True)
class IndexHours:
    """State when (IST) the index is computed no more while futures trade on, from a date on."""

    effective: datetime.date
    stops: datetime.time
    prints_from: datetime.time
    """The one price of the closing auction comes between this and the end."""
    ends: datetime.time
    source: str


NSE_INDEX_HOURS = IndexHours(
    datetime.date(2026, 8, 3),
    datetime.time(15, 15),
    datetime.time(15, 28),
    datetime.time(15, 30),
    "NSE circular 74/2026 and minute bars of August 2026: none from 15:15, one print at 15:28",
)


@dataclass(frozen=True, slots=True)
class Pause:
    """State from when to when (IST) no trading took place within a session."""

    stops: datetime.time
    resumes: datetime.time
    source: str


NSE_PAUSES = {
    datetime.date(2021, 2, 24): Pause(
        datetime.time(11, 40),
        datetime.time(15, 45),
        "pandas_market_calendars 5.5.0 (MIT): the exchange's outage",
    ),
    datetime.date(2024, 3, 2): Pause(
        datetime.time(10, 0),
        datetime.time(11, 30),
        "press on the NSE circular of 2024-02-14; minute bars have the hole",
    ),
    datetime.date(2024, 5, 18): Pause(
        datetime.time(10, 0),
        datetime.time(11, 30),
        "press on the NSE circular of 2024-05-07; minute bars have the hole",
    ),
}
