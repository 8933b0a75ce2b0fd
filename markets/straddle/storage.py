"""From events to the database, in batches: what waits is bounded, repeated and never doubled.

A batch is one transaction whose rows have keys of their own, so that one whose fate is unknown,
because the connection broke in its commit, is simply stored again. While PostgreSQL is away events
wait in memory; those of some minutes have room, and what had none is said as a gap.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice

import psycopg
from django.db import DatabaseError, InterfaceError, connections, transaction

from markets.straddle.models import Gap, Series, Tick
from markets.straddle.roller import Ended, Event, Missed, Resumed, Row, SeriesKey
from markets.straddle.underlyings import kind_of
from tradingsite import bulk
from tradingsite.databases import HOMES

ALIAS = HOMES["straddle"][0]
FLUSH_SECONDS = 1.0
FLUSH_ROWS = 500
# Of the default series, twenty minutes and more; 15 MB.
MOST_WAITING = 50_000
MOST_A_BATCH = 5_000
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 4.0
STORAGE_ERRORS = (DatabaseError, InterfaceError, psycopg.Error)
_COLUMNS = ("series_id", "ts", "number", "call", "put", "premium", "spot")

log = logging.getLogger(__name__)


class Buffer:
    """Hold what is to be stored, in order, for two threads; rows beyond its room are lost."""

    def __init__(self, most_rows: int = MOST_WAITING) -> None:
        self.lost = 0
        """Rows that found no room, ever."""
        self._most = most_rows
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self._lost_from: dt.datetime | None = None
        self._lost_to: dt.datetime | None = None
        self._lost_now = 0

    def __len__(self) -> int:
        return len(self._events)

    def put(self, events: Iterable[Event]) -> None:
        """Add events; the few that are no rows always have room."""
        with self._lock:
            for event in events:
                if not isinstance(event, Row):
                    self._events.append(event)
                elif self._lost_now or len(self._events) >= self._most:
                    # One gap at the end of what there is, rather than many holes in it.
                    self._lost_from = self._lost_from or event.ts
                    self._lost_to = event.ts
                    self._lost_now += 1
                    self.lost += 1
                else:
                    self._events.append(event)

    def peek(self, most: int = MOST_A_BATCH) -> list[Event]:
        """Return the oldest events, which stay."""
        with self._lock:
            return list(islice(self._events, most))

    def drop(self, count: int) -> None:
        """Remove the oldest events, because they are stored; say what was lost meanwhile."""
        with self._lock:
            for _ in range(count):
                self._events.popleft()
            if self._lost_from and self._lost_to:
                reason = "PostgreSQL was away for longer than memory lasts"
                lost = Missed(self._lost_from, self._lost_to, self._lost_now, reason)
                self._events.append(lost)
                self._lost_from, self._lost_to, self._lost_now = None, None, 0


class Writer:
    """Store a buffer's events each second, or as soon as there are many, in a thread of its own."""

    def __init__(self, buffer: Buffer) -> None:
        self.stored = 0
        """Rows stored so far."""
        self.trouble = ""
        """Why nothing is stored just now."""
        self._buffer = buffer
        self._ids: dict[SeriesKey, int] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="straddle-writer", daemon=True)

    def start(self) -> Writer:
        """Begin; return the writer."""
        self._thread.start()
        return self

    def finish(self, seconds: float) -> int:
        """Store what is left within some seconds; return how many events could not be."""
        self._ending.set()
        self._thread.join(seconds)
        return len(self._buffer)

    def save(self, events: Collection[Event]) -> int:
        """Store events in one transaction; return how many rows were new."""
        ids = dict(self._ids)
        with transaction.atomic(using=ALIAS):
            for event in events:
                if not isinstance(event, Missed) and event.series not in ids:
                    ids[event.series] = _series_id(event.series)
            stored = _copy([event for event in events if isinstance(event, Row)], ids)
            for event in events:
                if isinstance(event, Ended):
                    rows = Series.objects.filter(pk=ids[event.series])
                    rows.update(until=event.until, end=event.end)
                elif isinstance(event, Missed):
                    _put_gap(event)
        ended = {event.series for event in events if isinstance(event, Ended)}
        # Numbers are true only once their rows are committed.
        self._ids = {key: number for key, number in ids.items() if key not in ended}
        return stored

    def _run(self) -> None:
        pause, due = FIRST_PAUSE_SECONDS, time.monotonic() + FLUSH_SECONDS
        try:
            while not self._ending.is_set() or len(self._buffer):
                is_due = time.monotonic() >= due or len(self._buffer) >= FLUSH_ROWS
                if not is_due and not self._ending.is_set():
                    self._ending.wait(0.05)
                    continue
                if self._flush():
                    pause, due = FIRST_PAUSE_SECONDS, time.monotonic() + FLUSH_SECONDS
                else:
                    if self._ending.wait(pause):
                        time.sleep(FIRST_PAUSE_SECONDS)
                    pause = min(pause * 2.0, LONGEST_PAUSE_SECONDS)
        finally:
            connections.close_all()

    def _flush(self) -> bool:
        """Store what waits; return whether it went well."""
        events = self._buffer.peek()
        if not events:
            return True
        try:
            self.stored += self.save(events)
        except STORAGE_ERRORS as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if not self.trouble:
                log.warning("straddle ticks wait in memory, PostgreSQL takes none: %s", said)
            self.trouble = said
            connections.close_all()
            return False
        self._buffer.drop(len(events))
        if self.trouble:
            log.warning("straddle ticks are stored again")
            self.trouble = ""
        return True


def _put_gap(event: Missed) -> None:
    """Store a gap, or have the one that began then reach to where it has come."""
    row, is_new = Gap.objects.get_or_create(
        began_at=event.began_at,
        reason=event.reason,
        defaults={"ended_at": event.ended_at, "rows": event.rows},
    )
    if not is_new and row.ended_at < event.ended_at:
        row.ended_at = event.ended_at
        row.save(update_fields=["ended_at"])


def open_series() -> list[Resumed]:
    """Return the series that nobody ended, each with the time and number of its last tick."""
    found = []
    for row in Series.objects.filter(until__isnull=True):
        key = SeriesKey(
            *(row.underlying, row.expiry, row.width, row.strike),
            *(row.call_strike, row.put_strike, row.since),
        )
        last = row.ticks.order_by("-ts", "-number").values_list("ts", "number").first()
        found.append(Resumed(key, *(last or (row.since, -1))))
    return found


def newest_tick() -> dt.datetime | None:
    """Return the exchange's time of the newest tick, None before the first."""
    return Tick.objects.order_by("-ts").values_list("ts", flat=True).first()


def _series_id(key: SeriesKey) -> int:
    row, _ = Series.objects.get_or_create(
        underlying=key.underlying,
        expiry=key.expiry,
        width=key.width,
        strike=key.strike,
        since=key.since,
        defaults={
            "kind": kind_of(key.width),
            "call_strike": key.call_strike,
            "put_strike": key.put_strike,
        },
    )
    return row.pk


def _copy(rows: Collection[Row], ids: dict[SeriesKey, int]) -> int:
    if not rows:
        return 0
    ticks = (
        (ids[row.series], row.ts, row.number, row.call, row.put, row.call + row.put, row.spot)
        for row in rows
    )
    # What is stored already, by a batch whose commit was in doubt, is the same tick.
    key = ("ts", "series_id", "number")
    return bulk.upsert(ALIAS, Tick._meta.db_table, _COLUMNS, ticks, key, update=()).inserted
