"""A minute's way into the day's partition: one transaction, and storing it twice changes nothing.

The minute's own row comes first: its lock lets one collector at a time store a minute, and it says
whether any did before. The rows, encoded as PostgreSQL's own binary COPY by numpy, then go straight
into the partition of a minute that is new, which is nearly every one and takes half the time; else
by way of a temporary table, and only those are inserted that are not there yet. With them go the
gaps of what is missing: a quote that one of two collectors got is a quote, and a gap that the other
one filled is filled. Gaps of whole minutes are closed by `gaps.fill`, once for all of a round.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import psycopg
from django.db import IntegrityError, connections, transaction

from markets.domain.bars import IntArray
from markets.options import partitions
from markets.options.minute_batch import COLUMNS, Batch
from markets.options.models import CollectedMinute, Instrument
from markets.options.partitions import ALIAS
from markets.venues.base import VenueInstrument
from tradingsite import bulk, clock, notices

# PostgreSQL's timestamps count microseconds from 2000-01-01.
POSTGRES_EPOCH = 946_684_800
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Each value goes behind its length in bytes; everything is big-endian.
_FIELDS = (
    *(("ts", 8), ("instrument_id", 4), ("ltp", 4), ("bid", 4), ("ask", 4), ("volume", 8)),
    *(("oi", 4), ("iv", 2), ("age", 2)),
)
TABLE = "options_quote"
STORED_COLUMNS = tuple(name for name, _ in _FIELDS)
KEY = ("instrument_id", "ts")
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(
            pair
            for name, size in _FIELDS
            for pair in ((f"{name}_length", ">i4"), (name, f">i{size}"))
        ),
    ]
)
# Behind somebody's lock a minute waits in the spool, and the next one is not kept from its quotes.
_MINUTE = """
INSERT INTO options_collectedminute (ts, asked, stored, quarantined, fetch_ms, first_at)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (ts) DO UPDATE SET asked = greatest(options_collectedminute.asked, excluded.asked)
RETURNING xmax = 0 AS is_new, set_config('statement_timeout', '20s', true)
"""
_STORED = "UPDATE options_collectedminute SET stored = stored + %s WHERE ts = %s"
_GAPS = """
INSERT INTO options_gap (ts, instrument_id, reason, found_at)
SELECT %s, missing.id, missing.reason, %s
FROM unnest(%s::integer[], %s::text[]) AS missing (id, reason)
WHERE NOT EXISTS (SELECT 1 FROM options_quote AS quote
                  WHERE quote.instrument_id = missing.id AND quote.ts = %s)
ORDER BY missing.id
ON CONFLICT DO NOTHING
"""
_FILLED = """
UPDATE options_gap SET filled_at = %s
WHERE ts = %s AND filled_at IS NULL AND instrument_id = ANY(%s)
"""


class Known:
    """Remember the instruments' numbers and the days that a process has met."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._day: dt.date | None = None
        self._ordered: tuple[tuple[str, ...], IntArray, IntArray] | None = None

    def ensure_day(self, day: dt.date) -> bool:
        """Have a day's partition there; return whether it was made now.

        Raises DayDropped for one that is no longer kept.
        """
        is_new = day != self._day and bool(partitions.ensure(day))
        self._day = day
        return is_new

    def forget_day(self) -> None:
        """Look for the day's partition again: it may be gone."""
        self._day = None

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Return the names that have no number yet here."""
        return [name for name in names if name not in self._ids]

    def ids(self, batch: Batch) -> dict[str, int]:
        """Return the numbers of a batch's instruments, making rows of those that are new.

        Raises LookupError for a name that is neither known nor described.
        """
        is_as_before = self._ordered is not None and self._ordered[0] == batch.names
        names = [*batch.missing] if is_as_before else [*batch.names, *batch.missing]
        new = self.unknown(names)
        if new:
            self.add([batch.instruments[name] for name in new if name in batch.instruments])
            rows = Instrument.objects.filter(name__in=self.unknown(names))
            self._ids |= dict(rows.values_list("name", "id"))
            if lost := self.unknown(new):
                raise LookupError(f"nothing is known of {lost[0]} and {len(lost) - 1} others")
        return self._ids

    def in_order(self, batch: Batch) -> tuple[IntArray, IntArray]:
        """Return the quotes' numbers and the order of the key, in which they are written.

        Neighbours of the index are written together so. Most minutes have the quotes of the one
        before, whose order is kept.
        """
        if self._ordered is None or self._ordered[0] != batch.names:
            numbers = np.array([self._ids[name] for name in batch.names], dtype=np.int64)
            self._ordered = batch.names, numbers, np.argsort(numbers)
        return self._ordered[1:]

    def add(self, rows: Sequence[VenueInstrument]) -> None:
        """Make rows of instruments, or have the known ones say what the venue says today."""
        Instrument.objects.bulk_create(
            [
                Instrument(
                    name=row.name,
                    symbol=row.symbol,
                    underlying=row.underlying,
                    kind=row.kind,
                    expiry=row.expiry,
                    strike=row.strike,
                    lot_size=row.lot_size,
                )
                for row in sorted(rows, key=lambda each: each.name)
            ],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["symbol", "lot_size"],
        )

    def forget(self) -> None:
        """Forget everything: the database may be another one after a restore."""
        self._ids.clear()
        self._day, self._ordered = None, None


def store(batch: Batch, known: Known) -> int:
    """Store a minute in one transaction and return how many of its quotes were new.

    Raises DayDropped where its day is no longer kept, and the database's own errors, after which
    nothing of it is stored.
    """
    ts = clock.from_seconds(batch.minute)
    known.ensure_day(clock.trading_date(ts))
    ids = known.ids(batch)
    if not batch.names:
        return _store_nothing(batch, ts, ids)
    numbers, order = known.in_order(batch)
    encoded = encode(batch.minute, numbers[order], batch.values[order])
    try:
        return _store(batch, ts, ids, numbers, encoded)
    except (psycopg.IntegrityError, IntegrityError) as error:
        if not _lacks_partition(error):
            # The minute's row was lost, and its quotes were not.
            return _store(batch, ts, ids, numbers, encoded, may_be_new=False)
    known.forget_day()
    day = clock.trading_date(ts)
    if known.ensure_day(day):
        _tell_made_again(day)
    return _store(batch, ts, ids, numbers, encoded)


def _lacks_partition(error: Exception) -> bool:
    """Return whether rows were refused because their day's partition is gone."""
    refusals = psycopg.errors.CheckViolation
    return isinstance(error, refusals) or isinstance(error.__cause__, refusals)


def _tell_made_again(day: dt.date) -> None:
    start, end = partitions.bounds(day)
    minutes = CollectedMinute.objects.filter(ts__gte=start, ts__lt=end, stored__gt=0).count()
    notices.notify(
        "options",
        "critical",
        f"options:partition:{day}",
        f"The partition of the option quotes of {day:%d %b %Y} was gone: somebody dropped it. It "
        f"was made again at once and the day goes on; the quotes of the {minutes} minutes stored "
        f"before are lost here: `manage.py options gaps --date {day}` lists them, and a file of "
        f"that day brings them back (`manage.py options import`).",
    )


def _store(
    batch: Batch,
    ts: dt.datetime,
    ids: dict[str, int],
    numbers: IntArray,
    encoded: bytes,
    *,
    may_be_new: bool = True,
) -> int:
    now = clock.real()
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        counts = [batch.asked, len(batch.names), batch.quarantined, batch.fetch_ms]
        cursor.execute(_MINUTE, [ts, *counts, now])
        is_new = bool(cursor.fetchone()[0])
        if is_new and may_be_new:
            copy_rows(cursor, encoded)
            new = len(batch.names)
        else:
            new = _add(encoded)
            cursor.execute(_STORED, [new - len(batch.names) * is_new, ts])
            cursor.execute(_FILLED, [now, ts, numbers.tolist()])
        _put_gaps(cursor, batch, ts, ids, now)
    return new


def _add(encoded: bytes) -> int:
    """Insert the rows that are not there yet, and return how many."""
    return bulk.upsert(ALIAS, TABLE, STORED_COLUMNS, encoded, KEY, update=()).inserted


def encode(minute: int | IntArray, numbers: IntArray, values: IntArray) -> bytes:
    """Return rows as binary COPY: instruments' numbers, and values in the order of COLUMNS."""
    rows = np.empty(len(numbers), dtype=_ROW)
    rows["fields"] = len(_FIELDS)
    for name, size in _FIELDS:
        rows[f"{name}_length"] = size
    rows["ts"] = (np.asarray(minute) - POSTGRES_EPOCH) * 1_000_000
    rows["instrument_id"] = numbers
    for place, name in enumerate(COLUMNS):
        rows[name] = values[:, place]
    return _HEADER + rows.tobytes() + _TRAILER


def decode(encoded: bytes) -> Any:
    """Return the rows of a binary COPY of the quotes' table, in a structured array.

    No column is ever NULL, so all rows are of one length.
    """
    return np.frombuffer(encoded[len(_HEADER) : -len(_TRAILER)], dtype=_ROW)


def copy_rows(cursor: Any, encoded: bytes, table: str = TABLE) -> None:
    """Copy encoded rows into a table that has the quotes' columns in their order."""
    with cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(encoded)


def _store_nothing(batch: Batch, ts: dt.datetime, ids: dict[str, int]) -> int:
    """Record that a minute is missing, unless another collector has it."""
    now = clock.real()
    with transaction.atomic(using=ALIAS), connections[ALIAS].cursor() as cursor:
        if batch.reason:
            cursor.execute(
                "INSERT INTO options_gap (ts, reason, found_at) SELECT %s, %s, %s WHERE NOT EXISTS "
                "(SELECT 1 FROM options_collectedminute WHERE ts = %s) ON CONFLICT DO NOTHING",
                [ts, batch.reason, now, ts],
            )
        _put_gaps(cursor, batch, ts, ids, now)
    return 0


def _put_gaps(
    cursor: Any, batch: Batch, ts: dt.datetime, ids: dict[str, int], now: dt.datetime
) -> None:
    if batch.missing:
        numbers = [ids[name] for name in batch.missing]
        reasons = [reason[:200] for reason in batch.missing.values()]
        cursor.execute(_GAPS, [ts, now, numbers, reasons, ts])
