"""The days of the quotes' table: one partition a day, from one Indian midnight to the next.

A day's partition is made a week ahead by a job, and just in time by whoever stores into a day that
has none. A day that was dropped is not made again by a late minute: its quotes are in its file.

While a day is collected its primary key is (ts, instrument_id): a minute goes to the key's end,
into a few full pages. By (instrument_id, ts) it would go into 730 pages that stay half empty: 112
bytes a row instead of 97, and half as long again to store. A closed day has it that way round,
built at once from full pages, so that one instrument's day, or its sixty days, are few pages each.
"""

import datetime as dt
import re

from django.db import connections, transaction
from psycopg import sql

from markets.domain.calendar import ist_instant
from markets.options.models import ArchivedDay
from tradingsite import clock
from tradingsite.errors import Degraded

ALIAS = "options"
TABLE = "options_quote"
DAYS_AHEAD = 7
# Making and dropping a partition locks the whole table for a moment: never behind a long query.
LOCK_TIMEOUT = "5s"
_LOCK = 7_304
_ONE_DAY = dt.timedelta(days=1)
_NAME = re.compile(rf"{TABLE}_(\d{{8}})")


class DayDropped(Degraded):
    """The day's partition was dropped after its quotes were archived."""


def name_of(day: dt.date) -> str:
    """Return the name of a day's partition."""
    return f"{TABLE}_{day:%Y%m%d}"


def bounds(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    """Return the instants from which and before which a minute is of an Indian day."""
    start, end = (ist_instant(each, dt.time()) for each in (day, day + _ONE_DAY))
    return clock.from_seconds(start), clock.from_seconds(end)


def existing() -> list[dt.date]:
    """Return the days that have a partition, in order."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
            "WHERE inhparent = %s::regclass",
            [TABLE],
        )
        names = [_NAME.fullmatch(row[0]) for row in cursor.fetchall()]
    return sorted(dt.datetime.strptime(found[1], "%Y%m%d").date() for found in names if found)  # noqa: DTZ007


def ensure(first: dt.date, days: int = 1) -> list[dt.date]:
    """Make the partitions of some days in a row, those that are missing; return these.

    Raises DayDropped for a day whose partition was dropped.
    """
    wanted = [first + _ONE_DAY * number for number in range(days)]
    missing = sorted(set(wanted) - set(existing()))
    if not missing:
        return []
    dropped = ArchivedDay.objects.filter(date__in=missing, dropped_at__isnull=False).first()
    if dropped:
        raise DayDropped(
            f"the quotes of {dropped.date} were archived in {dropped.path} and dropped here; "
            f"`manage.py options import` brings them back"
        )
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        # Two that make the same one at once would both find it missing.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        for day in missing:
            start, end = bounds(day)
            cursor.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} "
                    "(CONSTRAINT {key} PRIMARY KEY (ts, instrument_id) WITH (fillfactor = 100)) "
                    "FOR VALUES FROM ({start}) TO ({end})"
                ).format(
                    name=sql.Identifier(name_of(day)),
                    table=sql.Identifier(TABLE),
                    key=sql.Identifier(_live_key(day)),
                    start=sql.Literal(start.isoformat()),
                    end=sql.Literal(end.isoformat()),
                )
            )
    return missing


def ensure_ahead(today: dt.date) -> list[dt.date]:
    """Make today's partition and those of the week ahead; return the new ones."""
    return ensure(today, DAYS_AHEAD + 1)


def drop(day: dt.date) -> None:
    """Drop a day's partition with all its quotes; whoever calls has verified its file."""
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name_of(day))))


def close(day: dt.date) -> None:
    """Turn a day's key round for its readers, or build its indexes anew where that is done."""
    name = sql.Identifier(name_of(day))
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute(
            "SELECT 1 FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s",
            [name_of(day), _live_key(day)],
        )
        if cursor.fetchone():
            cursor.execute(
                sql.SQL(
                    "ALTER TABLE {name} DROP CONSTRAINT {live}, ADD CONSTRAINT {closed} "
                    "PRIMARY KEY (instrument_id, ts) WITH (fillfactor = 100)"
                ).format(
                    name=name,
                    live=sql.Identifier(_live_key(day)),
                    closed=sql.Identifier(f"{name_of(day)}_closed"),
                )
            )
        # Also the block ranges of the day's end, which only a vacuum would summarise.
        cursor.execute(sql.SQL("REINDEX TABLE {}").format(name))


def _live_key(day: dt.date) -> str:
    return f"{name_of(day)}_live"


def size(day: dt.date) -> tuple[int, int]:
    """Return the bytes of a day's heap and of its indexes."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT pg_table_size(%s::regclass), pg_indexes_size(%s::regclass)", [name_of(day)] * 2
        )
        heap, indexes = cursor.fetchone()
    return int(heap), int(indexes)
