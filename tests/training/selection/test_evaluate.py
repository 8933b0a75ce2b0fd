"""manage.py evaluate, recipes and the gate before a refit trades, on real databases."""

import datetime as dt
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation
from markets import store
from markets.models import Source
from tests import histories
from tests.training.pipeline.runs import SLOT, make_run
from tradingsite import clock
from tradingsite.models import Notice
from tradingsite.scheduling import leases
from training import recipes
from training.models import Evaluation, Recipe, TrainingRun
from training.pipeline import runs as pipeline_runs
from training.rl.hyperparameters import RECIPES
from training.selection import evaluations

pytestmark = pytest.mark.django_db(databases=["default", "btc", "pc_btc"], transaction=True)

TIMESTEPS = 64 * 128
FEW = ("--folds", "2", "--seeds", "1", "--timesteps", str(TIMESTEPS), "--network", "mlp")


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, settings: Any) -> None:
    """Have a market to learn from and data folders of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    store.save_bars("btc", "4h", histories.four_hours(1_500), Source.IMPORTED)
    store.rebuild_features("btc", "4h")


def evaluate(*arguments: str) -> str:
    out = StringIO()
    call_command("evaluate", SLOT.slug, *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def approve(recipe: dict[str, Any], low: float, high: float) -> Recipe:
    """Have a recipe approved, with a walk forward whose range is given."""
    row = recipes.register(recipe)
    now = clock.real()
    Evaluation.objects.create(
        recipe=row,
        state="done",
        folds=2,
        seeds=1,
        until=now,
        refit_range={"bars": 250, "low": low, "high": high},
        created_at=now,
        finished_at=now,
    )
    recipes.approve(row, "a test", "its range is known")
    return row


def test_a_recipe_is_walked_forward_and_the_verdict_is_kept() -> None:
    said = evaluate(*FEW)
    row = Evaluation.objects.get()
    assert row.state == "done", row.detail
    # Random bars hold nothing to learn, and a refusal is a result.
    assert row.approved is False and row.recipe.state == "candidate"
    assert "Refused" in said and "Buy and hold" in said and "2 folds x 1 seeds" in said
    assert all(check["name"] in said for check in row.checks)
    assert row.returns is not None
    returns = np.frombuffer(bytes(row.returns))
    assert len(returns) == row.evidence["bars"] == sum(fold["bars"] for fold in row.by_fold)
    assert row.progress == {"done": 2, "total": 2, "said": "weighed"}
    assert recipes.approved(SLOT.slug) is None
    # A second trial on the same bars counts the first against itself.
    found = json.loads(evaluate(*FEW[:-2], "--network", "lstm", "--json"))
    assert found["evidence"]["trials"] == 2 and found["evidence"]["overfitting"] is not None
    assert "lstm" in evaluate("--list") and "mlp" in evaluate("--list")


def test_too_few_bars_are_refused_in_words() -> None:
    with pytest.raises(CommandError, match="ask for fewer folds"):
        evaluate("--folds", "40", "--seeds", "1", "--timesteps", "1", "--here")
    assert Evaluation.objects.get().state == "failed"


def test_a_worker_that_died_leaves_a_failed_evaluation() -> None:
    row = evaluations.enqueue(
        recipes.register(recipes.settings_of(SLOT, TIMESTEPS)), 2, 1, clock.market(), send=False
    )
    claimed = leases.claim(row)
    assert claimed is not None
    leases.write(claimed, state="running", lease_until=clock.real())
    assert evaluations.recover_lapsed() == 1
    row.refresh_from_db()
    assert row.state == "failed" and "its worker died" in row.detail
    assert evaluations.perform(row.pk) is None


def test_the_owner_may_approve_and_retire_in_words() -> None:
    recipe = recipes.register(recipes.settings_of(SLOT, TIMESTEPS))
    with pytest.raises(CommandError, match="say why"):
        evaluate("--approve", recipe.hash[:8])
    with pytest.raises(CommandError, match="not one recipe"):
        evaluate("--approve", "zz", "--because", "it is the only one")
    assert "approved by the owner" in evaluate(
        "--approve", recipe.hash[:8], "--because", "I know what it does"
    )
    approved = recipes.approved(SLOT.slug)
    assert approved == recipe and approved.reason == "I know what it does"
    evaluate("--retire", "--because", "it lost too much")
    assert recipes.approved(SLOT.slug) is None


def test_a_gated_slot_without_a_recipe_gets_no_model(settings: Any) -> None:
    settings.MODEL_POLICY = "gated"
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == "done", run.detail
    assert modelstore.active(SLOT.slug) is None
    waiting = modelstore.challenger(SLOT.slug)
    assert waiting is not None and "no approved recipe" in waiting.reason
    notice = Notice.objects.get(key=f"waits:{SLOT.slug}")
    assert "holds flat" in notice.text and notice.severity == "warning"
    assert modelstore.folder(waiting).is_dir()


def test_a_refit_inside_its_recipes_range_takes_the_place_and_one_outside_waits(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small network, for the test's time.
    monkeypatch.setitem(RECIPES, "tft", {"network": "mlp"})
    settings.MODEL_POLICY = "gated"
    recipe = approve(recipes.settings_of(SLOT, TIMESTEPS), low=-0.9, high=9.0)
    run = pipeline_runs.run_in_place(make_run())
    champion = modelstore.active(SLOT.slug)
    assert champion is not None and champion.number == run.model_number == 1
    manifest = modelstore.verify(modelstore.folder(champion), SLOT.slug)
    assert manifest.gate["verdict"] == "approved" and manifest.gate["recipe"] == recipe.hash
    assert manifest.hyperparameters["timesteps"] == TIMESTEPS
    # The same bars and a range it cannot be in: the champion stays.
    Evaluation.objects.update(refit_range={"bars": 250, "low": 8.0, "high": 9.0})
    TrainingRun.objects.filter(pk=champion.run_id).update(until=clock.market())
    pipeline_runs.run_in_place(make_run())
    assert modelstore.active(SLOT.slug) == champion
    waiting = modelstore.challenger(SLOT.slug)
    assert waiting is not None and "worse than its recipe ever was" in waiting.reason
    notice = Notice.objects.get(key=f"waits:{SLOT.slug}")
    assert f"{champion} keeps trading" in notice.text
    # The day's model is of that day, however long ago its last bar to learn from was.
    assert notice.severity == "warning" and "days ago" not in notice.text
    TrainingRun.objects.filter(pk=champion.run_id).update(
        until=clock.market() - dt.timedelta(days=9)
    )
    pipeline_runs.run_in_place(make_run())
    notice.refresh_from_db()
    assert notice.severity == "critical" and "That is 9 days ago" in notice.text
    # Whoever went back to it knows that others wait.
    Activation.objects.filter(model=champion).update(kind=Activation.Kind.ROLLBACK)
    Notice.objects.all().delete()
    pipeline_runs.run_in_place(make_run())
    notice = Notice.objects.get(key=f"waits:{SLOT.slug}")
    assert notice.severity == "info" and "went back to v1" in notice.text


def test_a_stored_model_is_judged_on_what_it_never_saw() -> None:
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == "done", run.detail
    version = modelstore.active(SLOT.slug)
    assert version is not None
    held = (version.trained_until + dt.timedelta(days=1)).date()
    last = clock.from_seconds(int(store.load_bars("btc", "4h").closes_at[-1])).date()
    number = str(version.number)
    # The embargo and the holdout lie behind what it learned from.
    said = evaluate("--model", number, "--from", f"{held:%Y-%m-%d}", "--to", f"{last}")
    assert "never trained on" in said and "Buy and hold" in said
    with pytest.raises(CommandError, match="was trained on"):
        evaluate("--model", number, "--from", "2020-01-01", "--to", f"{last}")
    with pytest.raises(CommandError, match="has no version 99"):
        evaluate("--model", "99", "--from", f"{held}", "--to", f"{last}")
    with pytest.raises(CommandError, match="wants a span"):
        evaluate("--model", number)


@pytest.mark.parametrize(
    ("mode", "policy", "expected"),
    [
        ("simulated", "", "newest"),
        ("paper", "", "gated"),
        ("live", "newest", "newest"),
        ("live", "newest,btc-4h=gated", "gated"),
        ("live", "gated, btc-1h=newest", "gated"),
    ],
)
def test_policies_of_slots(mode: str, policy: str, expected: str, settings: Any) -> None:
    settings.MODE, settings.MODEL_POLICY = mode, policy
    assert recipes.policy_of(SLOT.slug) == expected


@pytest.mark.parametrize("policy", ["best", "btc-9h=newest", "newest=btc-1h"])
def test_a_policy_that_there_is_not_is_refused(policy: str, settings: Any) -> None:
    settings.MODEL_POLICY = policy
    with pytest.raises(ValueError, match="MODEL_POLICY"):
        recipes.policy_of(SLOT.slug)
