"""PC's archive of models: every run's bundle by time, the newest thirty of each slot kept."""

import datetime as dt
import shutil
from pathlib import Path

from tradingsite import remote

KEPT_PER_SLOT = 30


def keep(bundle: Path, archive: Path, slot: str, run_id: int, at: dt.datetime) -> Path:
    """Copy a bundle into the archive under its time and run, and return the new folder."""
    place = archive / slot / f"{at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-run{run_id}"
    if not place.is_dir():
        remote.send(bundle, place)
    return place


def prune(archive: Path, slot: str, *, dry_run: bool = False) -> list[Path]:
    """Delete all but the newest bundles of a slot; return what was, or would be, deleted."""
    found = sorted(path for path in (archive / slot).glob("*-run*") if path.is_dir())
    gone = found[:-KEPT_PER_SLOT]
    if not dry_run:
        for path in gone:
            shutil.rmtree(path)
    return gone
