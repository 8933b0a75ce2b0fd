"""What is missing: minutes of a session that nobody stored, found by holding them to the calendar.

The gaps of single instruments are written with the minute they belong to; here are those of whole
minutes, in which no collector ran, or none could.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from django.db import connections, transaction

from markets.calendar import Calendar, Session
from markets.options.models import Gap
from markets.options.partitions import ALIAS, bounds
from tradingsite import clock

MINUTE = 60
NOBODY = "no collector stored it"
# How far back a day that was missed as a whole is looked for.
LOOKED_BACK = dt.timedelta(days=7)

_MISSING = """
INSERT INTO options_gap (ts, reason, found_at)
SELECT expected, %s, %s FROM generate_series(%s, %s, interval '1 minute') AS expected
WHERE NOT expected = ANY(%s)
AND NOT EXISTS (SELECT 1 FROM options_collectedminute WHERE ts = expected)
ON CONFLICT DO NOTHING
"""
_FILLED = """
UPDATE options_gap SET filled_at = %s
WHERE instrument_id IS NULL AND filled_at IS NULL AND ts BETWEEN %s AND %s
AND EXISTS (SELECT 1 FROM options_collectedminute AS minute WHERE minute.ts = options_gap.ts)
"""


@dataclass(frozen=True, slots=True)
class Missing:
    """Say what of a day is missing for one reason."""

    first: dt.datetime
    last: dt.datetime
    minutes: int
    instruments: int
    """0 where whole minutes are missing."""
    example: str
    reason: str
    filled: int
    """How many of the gaps were filled later."""


def note(session: Session, until: int, waiting: Collection[int] = ()) -> int:
    """Record the session's minutes up to an instant (epoch seconds) that nobody stored.

    Returns how many are new; those that wait in the spool are no gaps yet.
    """
    last = min(until, session.closes_at)
    if last < session.opens_at:
        return 0
    now = clock.real()
    span = clock.from_seconds(session.opens_at), clock.from_seconds(last)
    spared = [clock.from_seconds(minute) for minute in waiting]
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        cursor.execute(_MISSING, [NOBODY, now, *span, spared])
        new = int(cursor.rowcount)
    fill(session.opens_at, last)
    return new


def fill(first: int, last: int) -> None:
    """Close the gaps of whole minutes, from first to last, that were stored after all."""
    span = clock.from_seconds(first), clock.from_seconds(last)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(_FILLED, [clock.real(), *span])


def note_past(calendar: Calendar, now: int, waiting: Collection[int] = ()) -> int:
    """Record what the closed sessions of the last week miss, from the first day collected on."""
    first = _first_day()
    if first is None:
        return 0
    today = clock.trading_date(clock.from_seconds(now))
    sessions = calendar.sessions(max(first, today - LOOKED_BACK), today)
    return sum(
        note(session, session.closes_at, waiting)
        for session in sessions
        if session.closes_at < now - MINUTE
    )


def of_day(day: dt.date) -> list[Missing]:
    """Return what of a day was missing, whole minutes first, by reason."""
    start, end = bounds(day)
    found: dict[tuple[bool, str], list[Gap]] = {}
    for gap in Gap.objects.filter(ts__gte=start, ts__lt=end).select_related("instrument"):
        found.setdefault((gap.instrument is not None, _kind(gap.reason)), []).append(gap)
    return [_summary(gaps) for _, gaps in sorted(found.items(), key=lambda each: each[0])]


def _summary(gaps: list[Gap]) -> Missing:
    minutes = sorted({gap.ts for gap in gaps})
    names = sorted({gap.instrument.name for gap in gaps if gap.instrument})
    return Missing(
        minutes[0],
        minutes[-1],
        len(minutes),
        len(names),
        names[0] if names else "",
        gaps[0].reason,
        sum(gap.filled_at is not None for gap in gaps),
    )


def _kind(reason: str) -> str:
    """Return what a reason is about, without its numbers."""
    return reason.partition(":")[0]


def _first_day() -> dt.date | None:
    """Return the first day of which anything was stored."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT min(ts) FROM options_collectedminute")
        first = cursor.fetchone()[0]
    return clock.trading_date(first) if first else None
