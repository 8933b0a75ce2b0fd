"""What is missing: minutes of a session that nobody stored, found by holding them to the calendar.

The gaps of single instruments are written with the minute they belong to; here are those of whole
minutes, in which no collector ran, or none could. What was stored and is there no more (a partition
that was dropped, rows that were deleted) is found by holding each minute's count to its quotes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.db import connections, transaction

from markets.domain.calendar import Calendar, Session
from markets.options.models import ArchivedDay, CollectedMinute, Gap
from markets.options.partitions import ALIAS, bounds
from tradingsite import clock
from tradingsite.clock import Epoch

MINUTE = 60
Row = TypeVar("Row")
NOBODY = "no collector stored it"
GONE = "stored, and gone since: rows are no longer in the table"
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
_GONE = """
SELECT minute.ts, minute.stored - coalesce(quotes.number, 0)
FROM options_collectedminute AS minute
LEFT JOIN (SELECT ts, count(*) AS number FROM options_quote
           WHERE ts >= %(start)s AND ts < %(end)s GROUP BY ts) AS quotes USING (ts)
WHERE minute.ts >= %(start)s AND minute.ts < %(end)s
AND minute.stored > coalesce(quotes.number, 0)
ORDER BY minute.ts
"""


@dataclass(frozen=True, slots=True)
class Missing:
    """Say what is missing of minutes in a row, for one reason."""

    first: dt.datetime
    last: dt.datetime
    minutes: int
    instruments: int
    """0 where whole minutes are missing, or it is not known of which instruments."""
    example: str
    reason: str
    filled: int
    """How many of the gaps were filled later."""
    quotes: int = 0
    """How many quotes, 0 where nobody knows because the whole minute is missing."""


@dataclass(frozen=True, slots=True)
class Day:
    """Count a day's minutes up to now."""

    due: int
    stored: int
    missing: int
    """Nobody stored them, and nobody has since."""


def note(session: Session, until: Epoch, waiting: Collection[int] = ()) -> int:
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


def fill(first: Epoch, last: Epoch) -> None:
    """Close the gaps of whole minutes, from first to last, that were stored after all."""
    span = clock.from_seconds(first), clock.from_seconds(last)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(_FILLED, [clock.real(), *span])


def note_past(calendar: Calendar, now: Epoch, waiting: Collection[int] = ()) -> int:
    """Record what the closed sessions of the last week miss, from the first day collected on."""
    first = _first_day()
    if first is None:
        return 0
    today = clock.trading_date(now)
    sessions = calendar.sessions(max(first, today - LOOKED_BACK), today)
    return sum(
        note(session, session.closes_at, waiting)
        for session in sessions
        if session.closes_at < now - MINUTE
    )


def of_day(day: dt.date) -> list[Missing]:
    """Return what of a day was missing by ranges of minutes: whole ones, gone ones, quotes."""
    start, end = bounds(day)
    found: dict[tuple[bool, str], list[Gap]] = {}
    for gap in Gap.objects.filter(ts__gte=start, ts__lt=end).select_related("instrument"):
        found.setdefault((gap.instrument is not None, _kind(gap.reason)), []).append(gap)
    ranges = {
        is_single: [
            _summary(gaps)
            for (single, _), each in found.items()
            if single is is_single
            for gaps in _in_a_row(each, lambda gap: gap.ts)
        ]
        for is_single in (False, True)
    }
    lost = [
        Missing(rows[0][0], rows[-1][0], len(rows), 0, "", GONE, 0, sum(row[1] for row in rows))
        for rows in _in_a_row(gone(day), lambda row: row[0])
    ]
    return [
        missing
        for group in (ranges[False], lost, ranges[True])
        for missing in sorted(group, key=lambda each: (each.first, each.reason))
    ]


def gone(day: dt.date) -> list[tuple[dt.datetime, int]]:
    """Return the minutes of a day whose quotes are not all there any more, and how many are not.

    None of a day that was dropped after it was archived: its quotes are in its file.
    """
    if ArchivedDay.objects.filter(date=day, dropped_at__isnull=False).exists():
        return []
    start, end = bounds(day)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(_GONE, {"start": start, "end": end})
        return [(ts, int(lost)) for ts, lost in cursor.fetchall()]


def count(session: Session, now: Epoch) -> Day:
    """Count the minutes of a session up to an instant in epoch seconds."""
    last = min(now, session.closes_at)
    start, end = clock.from_seconds(session.opens_at), clock.from_seconds(last)
    stored = CollectedMinute.objects.filter(ts__gte=start, ts__lte=end).count()
    missing = Gap.objects.filter(
        ts__gte=start, ts__lte=end, instrument__isnull=True, filled_at__isnull=True
    )
    due = (last - session.opens_at) // MINUTE + 1 if last >= session.opens_at else 0
    return Day(due, stored, missing.count())


def _in_a_row(rows: Sequence[Row], at: Callable[[Row], dt.datetime]) -> Iterator[list[Row]]:
    """Give rows in runs of minutes that follow each other."""
    run: list[Row] = []
    for row in sorted(rows, key=at):
        if run and (at(row) - at(run[-1])).total_seconds() > MINUTE:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


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
        len(gaps) if names else 0,
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
