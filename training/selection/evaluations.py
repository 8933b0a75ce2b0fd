"""Evaluations as records: asked for, worked on under a lease, and kept whatever the verdict.

Every finished one is a trial of its slot and counts against what later ones find, so none is ever
deleted. One that is approved makes its recipe the slot's.
"""

from __future__ import annotations

import datetime as dt
import shutil
import time
import traceback
from pathlib import Path

import numpy as np
from celery import current_app
from django.conf import settings
from django.db.models.functions import Now

from bots.modelstore import services as modelstore
from bots.replay import Replayed, replay_version
from markets.domain.bars import FloatArray
from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, SLOTS
from tradingsite.scheduling import leases
from training import recipes
from training.models import Evaluation, Recipe
from training.pipeline import dataset
from training.rl.progress import TrainingDiverged

TASK = "training.tasks.evaluate"
OPEN = (Evaluation.State.QUEUED, Evaluation.State.RUNNING)
PROGRESS_EVERY_SECONDS = 1.0
BARS_BEFORE_OWNER = 500
"""How much of the time before the owner's first trade a bot that learns from him sees."""
# An evaluation is a day's work at the most; a message that waits longer is worth nothing.
MESSAGE_EXPIRES_SECONDS = 24 * 3600


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
    leases.write(claimed, state=Evaluation.State.RUNNING, started_at=clock.real())
    try:
        with leases.kept(claimed):
            _evaluate(claimed)
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
    lapsed = Evaluation.objects.filter(state=Evaluation.State.RUNNING, lease_until__lt=Now())
    for row in lapsed:
        claimed = leases.claim(row, state=Evaluation.State.RUNNING)
        if claimed is not None:
            _fail(claimed, "its worker died: run `manage.py evaluate` again")
    return len(lapsed)


def trials(slot: str) -> list[Evaluation]:
    """Return every finished trial of a slot, the newest first."""
    rows = Evaluation.objects.filter(recipe__slot=slot, state=Evaluation.State.DONE)
    return list(rows.select_related("recipe").order_by("-finished_at"))


def judge_stored(slot: str, number: int, start: dt.datetime, end: dt.datetime) -> Replayed:
    """Return how a stored model would have traded a span that it was not trained on.

    Nothing is trained and no torch is loaded. Raises Degraded where the model is not here or saw
    the span.
    """
    return replay_version(SLOTS[slot], modelstore.get(slot, number), start, end)


def _evaluate(row: Evaluation) -> None:
    # Imported here: only the worker that trains may carry torch.
    from training.selection import walkforward

    recipe = row.recipe
    slot = SLOTS[recipe.slot]
    last_written = 0.0

    def report(done: int, total: int, said: str) -> None:
        nonlocal last_written
        if done == total or time.monotonic() - last_written >= PROGRESS_EVERY_SECONDS:
            last_written = time.monotonic()
            leases.write(row, progress={"done": done, "total": total, "said": said})

    data = _load_dataset(row)
    if data.features.schema.hash != recipe.settings["schema"]:
        raise Degraded("the features have changed since this recipe was written: evaluate it anew")
    found = walkforward.run_walk_forward(slot, data, recipe.settings, row.folds, row.seeds, report)
    others = trials(recipe.slot)
    assessment = walkforward.assess(
        found,
        [each.sharpe_per_bar for each in others if each.sharpe_per_bar is not None],
        _competing_returns(recipe, found.tested, others),
    )
    verdict = assessment.verdict
    leases.release(
        row,
        state=Evaluation.State.DONE,
        evidence=walkforward.to_json(assessment),
        by_fold=list(assessment.by_fold),
        checks=[
            {"name": check.name, "passed": check.passed, "said": check.sentence}
            for check in verdict.checks
        ],
        refit_range={
            "bars": assessment.refit_range.bars,
            "low": assessment.refit_range.low,
            "high": assessment.refit_range.high,
        },
        approved=verdict.approved,
        sharpe_per_bar=walkforward.sharpe_per_bar(assessment),
        tested=found.tested,
        returns=np.ascontiguousarray(assessment.returns, dtype=np.float64).tobytes(),
        detail=verdict.sentence,
        finished_at=clock.real(),
    )
    if not verdict.approved:
        return
    if settings.MACHINE != "pc":
        recipes.approve(recipe, f"evaluation {row.pk}", verdict.sentence)
        return
    # What may trade is not for PC to say: PROD's owner does.
    notices.notify(
        "infrastructure",
        "info",
        f"evaluation:{recipe.slot}",
        f"evaluation {row.pk} approves {recipe}: {verdict.sentence}. On PROD, manage.py evaluate "
        f"{recipe.slot} --approve {recipe.hash[:8]} --because '...' makes it the slot's recipe.",
    )


def _load_dataset(row: Evaluation) -> dataset.Dataset:
    """Return the bars asked for; on one machine PC's rows are made PROD's first."""
    slot = SLOTS[row.recipe.slot]
    if settings.MACHINE == "pc":
        data = dataset.load(slot, "as PC has it")
    else:
        folder = Path(settings.PC_DIR) / "inbox" / f"{slot.slug}-evaluation{row.pk}"
        try:
            dataset.export(slot, row.until, folder)
            data = dataset.import_and_load(slot, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    opens_at, closes_at = data.features.opens_at, data.features.closes_at
    first = int(np.searchsorted(opens_at, int(row.since.timestamp()) if row.since else 0))
    if BOTS[slot.bot].learns_from_owner and row.since is None and data.owner_trades:
        # Every fold must have decisions of the owner's to learn from, and bars to forecast.
        begun = int(np.searchsorted(closes_at, data.owner_trades[0].at))
        first = max(begun - BARS_BEFORE_OWNER, 0)
    stop = int(np.searchsorted(closes_at, int(row.until.timestamp()), side="right"))
    return dataset.slice_rows(data, first, stop)


def _competing_returns(recipe: Recipe, tested: str, others: list[Evaluation]) -> list[FloatArray]:
    """Return the returns of the slot's other recipes on the very same bars, one a recipe."""
    found: dict[int, FloatArray] = {}
    for each in others:
        if each.tested == tested and each.recipe_id != recipe.pk and each.returns:
            found.setdefault(each.recipe_id, np.frombuffer(bytes(each.returns)))
    return list(found.values())


def _fail(row: Evaluation, detail: str) -> None:
    leases.release(row, state=Evaluation.State.FAILED, detail=detail, finished_at=clock.real())
