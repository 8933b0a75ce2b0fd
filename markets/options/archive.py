"""Closed days into files, and old ones out of the database: reported first, verified, then done.

A day is archived once its session is over: its key is turned round, its quotes are written to a
file, the file is read back, and count and hash must be those of the partition. It is dropped when
it is older than the trading days that are kept, and only after file and partition were compared
once more: whatever was stored since, late or by an import, is written first. Where PC is another
machine the file is sent there, and nothing is dropped before PC's archive gave it back unchanged
(`markets.options.filing`).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connections
from psycopg import sql

from markets.domain.calendar import Calendar
from markets.options import days, filing, parquet, partitions
from markets.options.models import ArchivedDay
from markets.options.partitions import ALIAS
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry
from tradingsite.machines import transfer

# The retention of quotes in the database; their files are kept for ever.
KEPT_TRADING_DAYS = 20
# The last minute is the close's own, and may have to wait for PostgreSQL.
SETTLED_SECONDS = 1_800

log = logging.getLogger(__name__)


class NotArchived(Degraded):
    """A day whose file could not be verified; its partition is as it was."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what is to be done, with the rows of each day."""

    archive: dict[dt.date, int]
    drop: dict[dt.date, int]
    empty: tuple[dt.date, ...]
    """Past days without a quote: holidays, made ahead like any other day."""

    def __str__(self) -> str:
        """Return the report, a line a day."""
        lines = [f"archive {day}: {rows:,} rows" for day, rows in self.archive.items()]
        lines += [f"drop    {day}: {rows:,} rows, in its file" for day, rows in self.drop.items()]
        lines += [f"drop    {day}: empty" for day in self.empty]
        return "\n".join(lines) or "nothing to do"


def folder() -> Path:
    """Return where the files are: the PC's side of this machine, PROD's own where PC is another."""
    return Path(settings.PROD_DIR if transfer.is_link() else settings.PC_DIR) / "options"


def path_of(day: dt.date) -> Path:
    """Return a day's file."""
    return folder() / f"{day:%Y}" / f"options-{day.isoformat()}{parquet.SUFFIX}"


def plan(calendar: Calendar, now: Epoch) -> Plan:
    """Return what is to be done at an instant, in epoch seconds; changes nothing."""
    today = clock.trading_date(now)
    counts = {day: _count(day) for day in partitions.existing() if day <= today}
    closed = {
        day: rows
        for day, rows in counts.items()
        if day < today or _closed_by(calendar, day, now - SETTLED_SECONDS)
    }
    known = {row.date: row.rows for row in ArchivedDay.objects.filter(date__in=closed)}
    kept = _first_kept(calendar, today)
    return Plan(
        {day: rows for day, rows in closed.items() if rows and known.get(day) != rows},
        {day: rows for day, rows in closed.items() if rows and day < kept},
        tuple(day for day, rows in closed.items() if not rows and day < today),
    )


def carry_out(plan: Plan, report: Callable[[str], None] = lambda said: None) -> str:
    """Archive, then drop, and return a sentence; one day's trouble does not keep the others.

    Raises NotArchived at the end, naming every day that failed.
    """
    troubles: list[str] = []
    archived, dropped = 0, 0
    for day in plan.archive:
        try:
            row = archive(day)
        except (Degraded, OSError) as error:
            troubles.append(f"{day} was not archived: {error}")
            continue
        archived += 1
        report(f"archived {day}: {row.rows:,} rows in {row.bytes:,} bytes, {row.path}")
        try:
            filing.send(day, path_of(day))
        except (Degraded, Retry, OSError) as error:
            # It is written, and sent again at the latest before it is dropped.
            troubles.append(f"{day} was not sent to PC: {error}")
    for day in plan.drop:
        try:
            drop(day)
        except (Degraded, Retry, OSError) as error:
            troubles.append(f"{day} was not dropped: {error}")
            continue
        dropped += 1
        report(f"dropped {day}")
    for day in plan.empty:
        partitions.drop(day)
        report(f"dropped {day}, which was empty")
    if troubles:
        raise NotArchived("; ".join(troubles))
    return f"{archived} days archived, {dropped} dropped"


def archive(day: dt.date) -> ArchivedDay:
    """Write a closed day's file, read it back, compare, and record it; raises NotArchived."""
    partitions.close(day)
    held = days.load(day)
    path = path_of(day)
    parquet.write(held, path)
    _compare(day, held, path)
    row, _ = ArchivedDay.objects.update_or_create(
        date=day,
        defaults={
            "rows": len(held),
            "bytes": path.stat().st_size,
            "sha256": transfer.sha256(path),
            "content_sha256": held.sha256(),
            "path": str(path),
            "verified_at": clock.real(),
            "dropped_at": None,
        },
    )
    return row


def drop(day: dt.date) -> None:
    """Drop a day whose file holds exactly its quotes; raises NotArchived where it does not."""
    row = ArchivedDay.objects.filter(date=day).first()
    if row is None:
        raise NotArchived("it has no file yet")
    path = path_of(day)
    if not path.is_file():
        raise NotArchived(f"{path} is not there")
    if transfer.sha256(path) != row.sha256:
        raise NotArchived(f"{path} has changed since it was verified")
    _compare(day, days.load(day), path)
    if lack := filing.lack(day, row.sha256, row.bytes):
        filing.send(day, path)
        raise NotArchived(f"{lack}; it was sent again, and is dropped once PC has it")
    partitions.drop(day)
    row.dropped_at = clock.real()
    row.save(update_fields=["dropped_at"])


def _compare(day: dt.date, held: days.Day, path: Path) -> None:
    found = parquet.read(path)
    if len(found) != len(held):
        raise NotArchived(f"{path} holds {len(found):,} rows, the partition {len(held):,}")
    if found.date != day or found.sha256() != held.sha256():
        raise NotArchived(f"{path} holds other quotes than the partition of {day}")


def _count(day: dt.date) -> int:
    with connections[ALIAS].cursor() as cursor:
        name = sql.Identifier(partitions.name_of(day))
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(name))
        return int(cursor.fetchone()[0])


def _closed_by(calendar: Calendar, day: dt.date, at: Epoch) -> bool:
    session = calendar.session_on(day)
    return session is not None and session.closes_at <= at


def _first_kept(calendar: Calendar, today: dt.date) -> dt.date:
    """Return the oldest day that stays: the last trading days, today's among them."""
    sessions = calendar.sessions(today - dt.timedelta(days=90), today)
    kept = [session.date for session in sessions][-KEPT_TRADING_DAYS:]
    return kept[0] if len(kept) == KEPT_TRADING_DAYS else dt.date.min
