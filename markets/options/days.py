"""A day of quotes in columns, out of the database and back, and what it is known by.

The order is by name and minute, not by the database's own numbers, so that a day read from its
file, or from a database it was restored into, has the same hash.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connections
from psycopg import sql

from markets.domain.bars import IntArray
from markets.options import partitions, storage
from markets.options.minute_batch import COLUMNS
from markets.options.models import ArchivedDay, Instrument
from markets.options.partitions import ALIAS
from markets.venues.base import VenueInstrument
from tradingsite import bulk, clock

_NUMBERS = ("ts", "instrument_id", *COLUMNS)
_MINUTES = """
INSERT INTO options_collectedminute (ts, asked, stored, quarantined, fetch_ms, first_at)
SELECT ts, count(*), count(*), 0, 0, %s FROM {stage} GROUP BY ts
ON CONFLICT DO NOTHING
"""
_FILLED = """
UPDATE options_gap AS gap SET filled_at = %s FROM {stage} AS incoming
WHERE gap.filled_at IS NULL AND gap.ts = incoming.ts
AND (gap.instrument_id IS NULL OR gap.instrument_id = incoming.instrument_id)
"""


@dataclass(frozen=True, slots=True)
class Day:
    """Hold quotes in columns, sorted by name and minute."""

    date: dt.date
    instruments: tuple[VenueInstrument, ...]
    """Sorted by name."""
    which: IntArray
    """Place of each row's instrument."""
    ts: IntArray
    """Epoch seconds."""
    values: IntArray
    """A row a quote, in the order of batch.COLUMNS."""

    def __len__(self) -> int:
        return len(self.ts)

    def sha256(self) -> str:
        """Return the hash of the quotes and their instruments' names."""
        found = hashlib.sha256("\n".join(row.name for row in self.instruments).encode())
        columns = [self.which, self.ts, *self.values.T]
        for column in columns:
            found.update(np.ascontiguousarray(column, dtype=">i8").tobytes())
        return found.hexdigest()

    @classmethod
    def sorted(
        cls,
        date: dt.date,
        instruments: Sequence[VenueInstrument],
        which: IntArray,
        ts: IntArray,
        values: IntArray,
    ) -> Day:
        """Return the day of rows in any order; instruments without a row are left out."""
        used = np.unique(which)
        names = np.array([instruments[place].name for place in used], dtype=str)
        by_name = np.argsort(names)
        rank = np.zeros(len(instruments), dtype=np.int64)
        rank[used[by_name]] = np.arange(len(used))
        order = np.lexsort((ts, rank[which]))
        kept = tuple(instruments[place] for place in used[by_name])
        return cls(date, kept, rank[which][order], ts[order], values[order])


def load(date: dt.date) -> Day:
    """Return the stored quotes of a day that has a partition."""
    with connections[ALIAS].cursor() as cursor:
        query = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)").format(
            sql.Identifier(partitions.name_of(date)),
            sql.SQL(", ").join(map(sql.Identifier, _NUMBERS)),
        )
        with cursor.copy(query) as copy:
            rows = storage.decode(b"".join(copy))
    ids, which = np.unique(rows["instrument_id"].astype(np.int64), return_inverse=True)
    described = Instrument.objects.in_bulk(ids.tolist())
    instruments = [_listed(described[int(number)]) for number in ids]
    ts = rows["ts"].astype(np.int64) // 1_000_000 + storage.POSTGRES_EPOCH
    values = np.stack([rows[name].astype(np.int64) for name in COLUMNS], axis=1)
    return Day.sorted(date, instruments, which.astype(np.int64), ts, values)


def save(day: Day) -> int:
    """Store a day's quotes where they are not stored yet, in one transaction; return how many.

    A partition that was dropped is made again, until retention drops it once more.
    """
    ArchivedDay.objects.filter(date=day.date).update(dropped_at=None)
    partitions.ensure(day.date)
    known = storage.Known()
    known.add(day.instruments)
    names = [row.name for row in day.instruments]
    ids = dict(Instrument.objects.filter(name__in=names).values_list("name", "id"))
    numbers = np.array([ids[name] for name in names], dtype=np.int64)[day.which]
    now = clock.real()
    encoded = storage.encode(day.ts, numbers, day.values)
    with bulk.staged(ALIAS, storage.TABLE, storage.STORED_COLUMNS, encoded) as stage:
        stage.execute(_MINUTES, [now])  # first: a collector waits for them
        new = stage.upsert(storage.KEY, update=()).inserted
        stage.execute(_FILLED, [now])
    return new


def _listed(row: Instrument) -> VenueInstrument:
    """Return an instrument as a venue's list has it; ticks and tokens are not kept."""
    return VenueInstrument(
        name=row.name,
        symbol=row.symbol,
        token=0,
        kind=row.kind,
        underlying=row.underlying,
        expiry=row.expiry,
        strike=row.strike.normalize() + 0,
        lot_size=row.lot_size.normalize() + 0,
        tick_size=row.lot_size * 0,
    )
