"""The venues' lists of instruments, kept with their history: what was a lot on a day can be asked.

A list is about five thousand rows, and nearly all of them are as they were the day before: those
only live a day longer. A row that changed (its lot, tick, expiry, token) or came back begins anew.
All of it is a few statements over a temporary table, in one transaction.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

from django.db import transaction
from psycopg import sql

from markets.models import InstrumentList, ListedInstrument
from markets.venues.base import VenueInstrument
from tradingsite import bulk, clock
from tradingsite.errors import Degraded

LEAST_SHARE = 0.5
"""A list shorter than this share of the one before it was cut off on its way."""
FACTS = ("name", "token", "kind", "underlying", "expiry", "strike", "lot_size", "tick_size")


_LIVES_ON = """
UPDATE {table} AS old SET last_on = %s FROM {stage} AS new
WHERE old.venue = %s AND old.last_on = %s AND old.symbol = new.symbol
AND ({old_facts}) IS NOT DISTINCT FROM ({new_facts})
"""
_BEGINS = """
INSERT INTO {table} (venue, first_on, last_on, {columns})
SELECT %s, %s, %s, {columns} FROM {stage} AS new WHERE NOT EXISTS (
    SELECT FROM {table} AS old
    WHERE old.venue = %s AND old.last_on = %s AND old.symbol = new.symbol)
"""


class BadList(Degraded):
    """A list that cannot be a whole one of the day; the old one stays the newest."""


def save_list(
    market: str, venue: str, date: dt.date, rows: Sequence[VenueInstrument], needs: Sequence[str]
) -> tuple[int, int]:
    """Store a venue's list of a day; return how many rows are new or changed, and how many ended.

    The same day's list again takes the first one's place. Raises BadList for one that lacks an
    instrument of `needs` (names, or how they begin), still has what expired, is not half as long
    as the last one, or is older.
    """
    columns = ("symbol", *FACTS)
    listed = (tuple(getattr(row, name) for name in columns) for row in rows)
    table = ListedInstrument._meta.db_table
    with transaction.atomic(using=market):
        before = _before(market, venue, date)
        _check(rows, needs, date, before)
        with bulk.staged(market, table, columns, listed) as stage:
            _forget_the_day(market, venue, date, before)
            # What is as it was the day before lives a day longer; all else begins today.
            facts = {f"{each}_facts": _facts(each) for each in ("old", "new")}
            stage.execute(_LIVES_ON, [date, venue, before.date if before else None], **facts)
            begun = stage.execute(_BEGINS, [venue, date, date, venue, date])
        InstrumentList.on(market).objects.update_or_create(
            venue=venue,
            date=date,
            defaults={"fetched_at": clock.market(), "rows": len(rows), "sha256": digest(rows)},
        )
        old = ListedInstrument.on(market).objects
        ended = old.filter(venue=venue, last_on=before.date).count() if before else 0
    return begun, ended


def digest(rows: Sequence[VenueInstrument]) -> str:
    """Return the sha256 of a list, whatever the order of its rows."""
    lines = sorted("|".join(str(getattr(row, name)) for name in ("symbol", *FACTS)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def on(market: str, venue: str, date: dt.date) -> dict[str, ListedInstrument]:
    """Return what a venue's list said on a day, by the desk's names."""
    rows = ListedInstrument.on(market).objects.filter(
        venue=venue, first_on__lte=date, last_on__gte=date
    )
    return {row.name: row for row in rows}


def _before(market: str, venue: str, date: dt.date) -> InstrumentList | None:
    newest = InstrumentList.on(market).objects.filter(venue=venue).order_by("-date")
    last = newest.first()
    if last is not None and last.date > date:
        raise BadList(f"the list of {date} comes after that of {last.date}, which stays")
    return newest.exclude(date=date).first()


def _check(
    rows: Sequence[VenueInstrument],
    needs: Sequence[str],
    date: dt.date,
    before: InstrumentList | None,
) -> None:
    symbols = {row.symbol for row in rows}
    if len(symbols) != len(rows):
        raise BadList(f"the list has {len(rows) - len(symbols)} symbols twice")
    names = [row.name for row in rows]
    for need in needs:
        if not any(name.startswith(need) for name in names):
            raise BadList(f"the list has nothing that is called {need}")
    old = [row.name for row in rows if row.expiry is not None and row.expiry < date]
    if old:
        raise BadList(f"the list is of another day: {len(old)} have expired, such as {old[0]}")
    if before is not None and len(rows) < LEAST_SHARE * before.rows:
        raise BadList(
            f"the list has {len(rows)} rows where that of {before.date} had {before.rows}: it is "
            f"not whole"
        )


def _forget_the_day(market: str, venue: str, date: dt.date, before: InstrumentList | None) -> None:
    """Undo an earlier list of the same day, so that a second one stands as if it were the first."""
    rows = ListedInstrument.on(market).objects.filter(venue=venue)
    rows.filter(first_on=date).delete()
    if before is not None:
        rows.filter(last_on=date).update(last_on=before.date)


def _facts(row: str) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(row, name) for name in FACTS)
