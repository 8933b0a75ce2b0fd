"""PC's archive of models: every run's bundle under its time, and which of them are kept.

Kept are the newest thirty of a slot, whatever ever traded, and one a day for thirty days: thirty
runs of a slot that is trained every two hours are only sixty hours.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tradingsite import clock
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS

KEPT_PER_SLOT = 30
DAILY_FOR = dt.timedelta(days=30)

_NAME = re.compile(r"(\d{8}T\d{6}Z)-run(\d+)")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, order=True)
class ArchivedBundle:
    """One archived bundle; in order of time."""

    at: dt.datetime
    run_id: int
    path: Path


def add(bundle: Path, archive: Path, slot: str, run_id: int, at: dt.datetime) -> Path:
    """Copy a bundle into the archive under its time and run, and return the new folder."""
    place = path_of(archive, slot, run_id, at)
    # Whole where it is there: a copy is made beside it and renamed.
    if not place.is_dir():
        transfer.copy(bundle, place)
    return place


def path_of(archive: Path, slot: str, run_id: int, at: dt.datetime) -> Path:
    """Return where a run's bundle is kept."""
    return archive / SLOTS[slot].slug / f"{at.astimezone(dt.UTC):{_STAMP}}-run{run_id}"


def run_of(place: Path) -> int:
    """Return the run whose bundle a folder of the archive holds."""
    return int(place.name.rpartition("-run")[2])


def bundles(archive: Path, slot: str) -> list[ArchivedBundle]:
    """Return what the archive has of a slot, the oldest first."""
    found = []
    for path in (archive / SLOTS[slot].slug).glob("*-run*"):
        named = _NAME.fullmatch(path.name)
        if named and path.is_dir():
            at = dt.datetime.strptime(named[1], _STAMP).replace(tzinfo=dt.UTC)
            found.append(ArchivedBundle(at, int(named[2]), path))
    return sorted(found)


def find(archive: Path, slot: str, run_id: int) -> Path | None:
    """Return the folder of a run's bundle, None where it is not here."""
    return next((each.path for each in bundles(archive, slot) if each.run_id == run_id), None)


def expired(
    found: Iterable[ArchivedBundle], traded: Collection[int], now: dt.datetime
) -> list[ArchivedBundle]:
    """Return what need not be kept, the oldest first; `traded` are runs whose model ever traded.

    A day is one in India, of which the newest bundle stands for it.
    """
    rows = sorted(found)
    kept = set(rows[-KEPT_PER_SLOT:]) | {each for each in rows if each.run_id in traded}
    by_day = {clock.trading_date(each.at): each for each in rows if each.at > now - DAILY_FOR}
    kept |= set(by_day.values())
    return [each for each in rows if each not in kept]


def prune(
    archive: Path,
    slot: str,
    traded: Collection[int],
    now: dt.datetime,
    *,
    dry_run: bool = False,
) -> list[Path]:
    """Delete what need not be kept of a slot; return what was, or would be, deleted."""
    gone = [each.path for each in expired(bundles(archive, slot), traded, now)]
    if not dry_run:
        for path in gone:
            shutil.rmtree(path)
    return gone
