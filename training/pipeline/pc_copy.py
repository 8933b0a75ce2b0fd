"""What PC has of a slot, by its own word: rows that need no second sending, and archived bundles.

Where both roles share a machine its folders are looked at instead of its word.
"""

from pathlib import Path
from typing import Any

from tradingsite import clock
from tradingsite.machines import transfer
from training.models import Copy, TrainingRun
from training.pipeline import archive
from training.pipeline.dataset import Holding


def record(slot: str, **facts: Any) -> None:
    """Write down, on PC, what it has of a slot: `holding` by its digests, or `archived` runs."""
    Copy.objects.update_or_create(slot=slot, defaults={**facts, "at": clock.real()})


def holding(slot: str) -> Holding:
    """Return the digests of what PC has of a slot's tables, none where it never said."""
    copy = Copy.objects.filter(slot=slot).first()
    digests: Holding = copy.holding if copy else {}
    return digests


def forget_holding(run: TrainingRun) -> bool:
    """Let a run begin again, its export whole; return False where it was whole already."""
    if not Copy.objects.filter(slot=run.slot).exclude(holding={}).update(holding={}):
        return False
    run.steps.update(finished_at=None)  # PC may undo a step, and delete none
    return True


def fetch(slot: str, run_id: int, destination: Path) -> bool:
    """Bring a run's bundle from PC's archive to PROD; return whether the archive has it."""
    if transfer.is_link():
        run = TrainingRun.objects.filter(pk=run_id, slot=slot).first()
        found = (
            archive.path_of(transfer.archive_folder(), slot, run_id, run.created_at)
            if run
            else None
        )
    else:
        found = archive.find(transfer.archive_folder(), slot, run_id)
    if found is None:
        return False
    transfer.send(found, destination)
    return True


def archived_runs(slot: str) -> set[int]:
    """Return the runs whose bundles PC keeps; by its word where it is another machine."""
    if transfer.is_link():
        copy = Copy.objects.filter(slot=slot).first()
        return {each for each in copy.archived if isinstance(each, int)} if copy else set()
    return {each.run_id for each in archive.bundles(transfer.archive_folder(), slot)}
