"""Evaluations as records: asked for, claimed under a lease, and kept whatever the verdict.

Every finished one is a trial of its slot and counts against what later ones find, so none is ever
deleted. One that is approved makes its recipe the slot's.
"""

from __future__ import annotations

import datetime as dt
import traceback

from celery import current_app
from django.db.models.functions import Now

from bots.modelstore import services as modelstore
from bots.replay import Replayed, replay_version
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import SLOTS, Slot
from tradingsite.scheduling import leases
from training import recipes
from training.models import Evaluation, Recipe
from training.pipeline.runs import untrainable_reason
from training.rl.progress import TrainingDiverged

TASK = "training.tasks.evaluate"
OPEN = (Evaluation.State.QUEUED, Evaluation.State.RUNNING)
# An evaluation is a day's work at the most; a message that waits longer is worth nothing.
MESSAGE_EXPIRES_SECONDS = 24 * 3600


def request(
    slot: Slot,
    folds: int,
    seeds: int,
    timesteps: int,
    network: str | None,
    since: dt.datetime | None,
    until: dt.datetime,
    *,
    send: bool,
) -> Evaluation:
    """Ask for an evaluation of a slot's recipe as it stands, or of another network.

    Raises Degraded where the slot cannot be trained, the numbers make no sense, or another one of
    the slot is still going on a worker.
    """
    if reason := untrainable_reason(slot):
        raise Degraded(f"{slot.slug}: {reason}")
    if folds < 2 or seeds < 1 or timesteps < 1:
        raise Degraded("at least 2 folds, 1 seed and 1 timestep")
    going = Evaluation.objects.filter(recipe__slot=slot.slug, state__in=OPEN).first()
    if going is not None and send:
        raise Degraded(f"{going} is still going: wait for it, or see it in the admin")
    recipe = recipes.register(recipes.settings_of(slot, timesteps, network))
    return enqueue(recipe, folds, seeds, until, since, send=send)


def enqueue(
    recipe: Recipe,
    folds: int,
    seeds: int,
    until: dt.datetime,
    since: dt.datetime | None = None,
    *,
    send: bool,
) -> Evaluation:
    """Record what is asked for, and ask a GPU worker for it where `send` says so."""
    row = Evaluation.objects.create(
        recipe=recipe,
        folds=folds,
        seeds=seeds,
        since=since,
        until=until,
        created_at=clock.real(),
    )
    if send:
        current_app.send_task(TASK, args=[row.pk], expires=MESSAGE_EXPIRES_SECONDS)
    return row


def perform(evaluation_id: int) -> Evaluation | None:
    """Walk an evaluation's recipe forward and record the verdict; None where another worker does.

    What cannot be evaluated, too few bars or a training that diverged, fails it with a sentence.
    """
    claimed = leases.claim(Evaluation.objects.get(pk=evaluation_id), state__in=OPEN)
    if claimed is None:
        return None
    # Imported here: only the worker that trains may carry torch.
    from training.selection.evaluator import evaluate

    leases.write(claimed, state=Evaluation.State.RUNNING, started_at=clock.real())
    try:
        with leases.kept(claimed):
            evaluate(claimed)
    except leases.LeaseLost:
        return None
    except (Degraded, TrainingDiverged, ValueError) as error:
        _fail(claimed, str(error))
    except Exception:
        _fail(claimed, traceback.format_exc(limit=-4))
        raise
    return claimed


def recover_lapsed() -> int:
    """Fail evaluations whose worker died; return how many. What was trained is not kept."""
    # By the database's own clock, which wrote the leases: machines' clocks differ.
    lapsed = Evaluation.objects.filter(state=Evaluation.State.RUNNING, lease_until__lt=Now())
    for row in lapsed:
        claimed = leases.claim(row, state=Evaluation.State.RUNNING)
        if claimed is not None:
            _fail(claimed, "its worker died: run `manage.py evaluate` again")
    return len(lapsed)


def judge_stored(slot: str, number: int, start: dt.datetime, end: dt.datetime) -> Replayed:
    """Return how a stored model would have traded a span that it was not trained on.

    Nothing is trained and no torch is loaded. Raises Degraded where the model is not here or saw
    the span.
    """
    return replay_version(SLOTS[slot], modelstore.get(slot, number), start, end)


def _fail(row: Evaluation, detail: str) -> None:
    leases.release(row, state=Evaluation.State.FAILED, detail=detail, finished_at=clock.real())
