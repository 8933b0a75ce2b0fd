"""One evaluation from its bars to its verdict, on the worker that trains."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from django.conf import settings

from markets.domain.bars import FloatArray
from tradingsite import clock, notices
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, SLOTS
from tradingsite.scheduling import leases
from training import recipes
from training.models import Evaluation, Recipe
from training.pipeline import dataset
from training.selection import assessment, walkforward
from training.selection.assessment import Assessment

PROGRESS_EVERY_SECONDS = 1.0
BARS_BEFORE_OWNER = 500
"""How much of the time before the owner's first trade a bot that learns from him sees."""


def evaluate(row: Evaluation) -> None:
    """Walk a claimed evaluation's recipe forward, record the outcome and approve what passed.

    Raises Degraded where the features are no longer the recipe's, TooFewBars and TrainingDiverged.
    """
    recipe = row.recipe
    data = _load_dataset(row)
    if data.features.schema.hash != recipe.settings["schema"]:
        raise Degraded("the features have changed since this recipe was written: evaluate it anew")
    report = _Progress(row)
    found = walkforward.run_walk_forward(
        SLOTS[recipe.slot], data, recipe.settings, row.folds, row.seeds, report
    )
    others = trials(recipe.slot)
    outcome = assessment.assess(
        found,
        [each.sharpe_per_bar for each in others if each.sharpe_per_bar is not None],
        _competing_returns(recipe, found.tested, others),
    )
    _record(row, outcome, found.tested)
    if outcome.verdict.approved:
        _approve(row, outcome.verdict.sentence)


class _Progress:
    """Write an evaluation's progress into its row, at most once a second."""

    def __init__(self, row: Evaluation) -> None:
        self._row = row
        self._last_written = 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        if done < total and time.monotonic() - self._last_written < PROGRESS_EVERY_SECONDS:
            return
        self._last_written = time.monotonic()
        leases.write(self._row, progress={"done": done, "total": total, "said": text})


def trials(slot: str) -> list[Evaluation]:
    """Return every finished trial of a slot, the newest first."""
    rows = Evaluation.objects.filter(recipe__slot=slot, state=Evaluation.State.DONE)
    return list(rows.select_related("recipe").order_by("-finished_at"))


def _record(row: Evaluation, outcome: Assessment, tested: str) -> None:
    """End an evaluation with all that it showed; approved or not, it is a trial from now on."""
    verdict, allowed = outcome.verdict, outcome.refit_range
    leases.release(
        row,
        state=Evaluation.State.DONE,
        evidence=assessment.to_json(outcome),
        by_fold=list(outcome.by_fold),
        checks=[
            {"name": check.name, "passed": check.passed, "said": check.sentence}
            for check in verdict.checks
        ],
        refit_range={"bars": allowed.bars, "low": allowed.low, "high": allowed.high},
        approved=verdict.approved,
        sharpe_per_bar=assessment.sharpe_per_bar(outcome),
        tested=tested,
        returns=np.ascontiguousarray(outcome.returns, dtype=np.float64).tobytes(),
        detail=verdict.sentence,
        finished_at=clock.real(),
    )


def _approve(row: Evaluation, sentence: str) -> None:
    recipe = row.recipe
    if settings.MACHINE != "pc":
        recipes.approve(recipe, f"evaluation {row.pk}", sentence)
        return
    # What may trade is not for PC to say: PROD's owner does.
    notices.notify(
        "infrastructure",
        "info",
        f"evaluation:{recipe.slot}",
        f"evaluation {row.pk} approves {recipe}: {sentence}. On PROD, manage.py evaluate "
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
    first = int(np.searchsorted(opens_at, clock.epoch(row.since) if row.since else 0))
    if BOTS[slot.bot].learns_from_owner and row.since is None and data.owner_trades:
        # Every fold must have decisions of the owner's to learn from, and bars to forecast.
        begun = int(np.searchsorted(closes_at, data.owner_trades[0].at))
        first = max(begun - BARS_BEFORE_OWNER, 0)
    stop = int(np.searchsorted(closes_at, clock.epoch(row.until), side="right"))
    return dataset.slice_rows(data, Epoch(first), Epoch(stop))


def _competing_returns(recipe: Recipe, tested: str, others: list[Evaluation]) -> list[FloatArray]:
    """Return the returns (bars,) of the slot's other recipes on the very same bars."""
    found: dict[int, FloatArray] = {}
    for each in others:
        if each.tested == tested and each.recipe_id != recipe.pk and each.returns:
            found.setdefault(each.recipe_id, np.frombuffer(bytes(each.returns)))
    return list(found.values())
