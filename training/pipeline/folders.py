"""Where a run's files are, on both machines: every path is made of the registry's word for a slot.

A row's own word may be PC's, or anybody's; no path is ever built of it.
"""

import re
import shutil
from pathlib import Path

from django.conf import settings

from tradingsite import clock
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS
from training.models import TrainingRun

QUARANTINED_PER_SLOT = 2
"""How many refused bundles of a slot PROD keeps for a look."""


def quarantine(incoming: Path) -> Path:
    """Put what was refused aside for a look; return its place. Only the newest of a slot stay."""
    slot, _, _ = incoming.name.rpartition("-run")
    place = Path(settings.PROD_DIR) / "quarantine" / f"{incoming.name}-{clock.real():%Y%m%dT%H%M%S}"
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        shutil.rmtree(place)
    # A rename within one disk: nothing is copied of what is not trusted.
    incoming.rename(place)
    earlier = [path for path in place.parent.glob(f"{slot}-run*") if path != place]
    earlier.sort(key=lambda path: path.lstat().st_mtime)
    for path in earlier[: max(len(earlier) + 1 - QUARANTINED_PER_SLOT, 0)]:
        shutil.rmtree(path)
    return place


def clear(folder: Path, keep: Path | None = None) -> Path:
    """Return a run's folder after removing it and its slot's others beside it, but for one."""
    # Looked up in the registry: a name that is no slot's deletes nothing.
    slot, _, _ = folder.name.rpartition("-run")
    ours = re.compile(rf"{re.escape(SLOTS[slot].slug)}-run\d+(\.\w+)?")
    for leftover in folder.parent.glob("*-run*"):
        if leftover == keep or not ours.fullmatch(leftover.name):
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return folder


def name_of(run: TrainingRun) -> str:
    """Return the name of a run's folders, of the registry's word for its slot."""
    return f"{SLOTS[run.slot].slug}-run{run.pk:d}"


def exports(run: TrainingRun) -> Path:
    """Return where PROD writes what it sends."""
    return Path(settings.PROD_DIR) / "exports" / name_of(run)


def inbox(run: TrainingRun) -> Path:
    """Return where PC finds what PROD sent."""
    return transfer.link_folder() / "inbox" / name_of(run)


def work(run: TrainingRun) -> Path:
    """Return where PC trains, which PROD has no way to."""
    return Path(settings.PC_DIR) / "work" / name_of(run)


def outbox(run: TrainingRun) -> Path:
    """Return where PROD takes the sealed bundle from."""
    return transfer.link_folder() / "outbox" / name_of(run)


def unsealed(run: TrainingRun) -> Path:
    """Return PC's manifest before it is signed."""
    # Beside the bundle, not in it: a bundle holds its own files and nothing else.
    return work(run).with_suffix(".manifest")


def charts_of(run: TrainingRun) -> Path:
    """Return where the picture of a run's charts is on PC."""
    return Path(settings.PC_DIR) / "charts" / SLOTS[run.slot].slug / f"run{run.pk:d}.png"


def checkpoint(run: TrainingRun) -> Path:
    """Return what a worker that dies leaves to the next one, until the run is done."""
    return work(run).with_suffix(".checkpoint")


def remove_from_pc(run: TrainingRun) -> str:
    """Remove what a run left on PC beside its archived bundle."""
    for folder in (inbox(run), work(run), outbox(run)):
        if folder.exists():
            shutil.rmtree(folder)
    for file in (unsealed(run), checkpoint(run)):
        file.unlink(missing_ok=True)
    return "work folders removed"
