"""PROD's steps of the seven: export, ship, verify, clean up; `runs` decides when and records it.

Every step may be repeated: it replaces what an earlier try left behind. A slot has one open run, so
whatever else lies in its folders is of a run that ended badly and goes too.
"""

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

from django.conf import settings
from django.db import transaction

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.manifest import Manifest
from bots.modelstore.models import Activation, ModelVersion
from tradingsite import clock, notices
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS
from tradingsite.scheduling import leases
from training import recipes
from training.evaluation import refit_gate
from training.models import TrainingRun
from training.pipeline import dataset, folders, pc_copy

LOAD_TEST_SECONDS = 120


def export(run: TrainingRun) -> str:
    """Step 1: write the slot's bars and features into an export folder on PROD."""
    folder, slot = folders.clear(folders.exports(run)), SLOTS[run.slot]
    # Decided here, where the ledger is: the slippage that it assumes is that of our own fills.
    recipe = recipes.approved(run.slot)
    chosen = recipe.settings if recipe else recipes.settings_of(slot, run.timesteps)
    leases.write(run, recipe=chosen)
    held = pc_copy.holding(run.slot)
    summary = dataset.export(slot, run.until or run.scheduled_for, folder, held)
    files = summary["files"].values()
    size_kb = sum(file["bytes"] for file in files) // 1000
    rows = sum(file["rows"] for file in files)
    left = "" if not held else ", the rest is there"
    return f"{rows:,} rows in {len(files)} files, {size_kb:,} kB{left}"


def ship(run: TrainingRun) -> str:
    """Step 2: send the export to PC."""
    sent = transfer.send(folders.exports(run), folders.clear(folders.inbox(run)))
    how = "over ssh" if transfer.is_link() else "copied (both roles on this machine)"
    return f"{sent // 1000:,} kB {how}"


def verify_and_activate(run: TrainingRun) -> str:
    """Step 5: ship the bundle back, check it in every way, and let it trade."""
    # A try that died after its commit has a number: only its words are left to say.
    if run.model_number is None:
        incoming = folders.clear(Path(settings.PROD_DIR) / "incoming" / folders.name_of(run))
        transfer.send(folders.outbox(run), incoming)
        # Out of PC's reach from here on: what is checked is what will trade.
        try:
            manifest = modelstore.verify(incoming, run.slot)
            if manifest.run_id != str(run.pk):
                # Whole and signed, but an old one: only a person goes back to an old model.
                raise bundle.BundleRejected(f"it is of run {manifest.run_id}, not of run {run.pk}")
            _load_test(incoming)
        except bundle.BundleRejected as reason:
            place = folders.quarantine(incoming)
            raise bundle.BundleRejected(f"{reason}. The files are in {place}") from reason
        # In one transaction, so that whoever lost the run cannot switch the model either.
        with transaction.atomic():
            leases.write(run, progress=run.progress)
            version = modelstore.add(incoming, manifest, run.pk)
            may_trade, why = _activation_decision(run.slot, manifest)
            if may_trade:
                modelstore.switch(version, Activation.Kind.REFIT, f"training run {run.pk}", why)
            else:
                modelstore.hold(version, why)
            leases.write(run, model_number=version.number)
            run.model_number = version.number
    version = modelstore.get(run.slot, run.model_number or 0)
    if version.state != version.State.ACTIVE:
        return f"hashes, signature, load test passed; {_notify_waiting(version)}"
    notices.resolve(f"waits:{run.slot}")
    notices.notify(
        "trading",
        "info",
        f"model:{run.slot}:{version.number}",
        f"{version} verified and trading from its next bar ({settings.MODE}).",
    )
    return f"hashes, signature, load test passed; v{version.number} is active"


def clean_up(run: TrainingRun) -> str:
    """Step 7: remove what this run left behind and prune PROD's store."""
    shutil.rmtree(folders.exports(run), ignore_errors=True)
    if not transfer.is_link():
        folders.remove_from_pc(run)
    gone = modelstore.prune(run.slot)
    return f"exports and work folders removed, {len(gone)} old models pruned on PROD"


def _activation_decision(slot: str, manifest: Manifest) -> tuple[bool, str]:
    """Return whether a verified model may trade by its slot's policy, and why."""
    # A person's going back comes first: no policy undoes what somebody did on purpose.
    found, back = manifest.gate, modelstore.rollback_lock(slot)
    if back is not None:
        at = back.market_at
        return False, (
            f"{back.by} went back to v{back.model.number} on {at.astimezone(clock.IST):%d %b %Y}; "
            "it stays until somebody lets a newer one trade (manage.py models activate)"
        )
    if recipes.policy_of(slot) == recipes.NEWEST:
        return True, "newest verified model"
    recipe = recipes.approved(slot)
    if recipe is None:
        return False, "the slot has no approved recipe: run `manage.py evaluate`"
    if found["recipe"] != recipe.hash:
        return False, f"it is of recipe {found['recipe'][:8]}, approved is {recipe.hash[:8]}"
    if found["verdict"] != refit_gate.APPROVED:
        return False, found["reason"]
    return True, f"refit of recipe {recipe.hash[:8]}: {found['reason']}"


def _notify_waiting(version: ModelVersion) -> str:
    """Tell of a model that the gate did not let trade; louder once the champion is old."""
    champion = modelstore.active(version.slot)
    severity, trades = "warning", "The slot has no model and holds flat."
    if champion is not None:
        made_of = _last_bar(champion)
        age = clock.market() - made_of
        trades = f"{champion} keeps trading; it was made of bars to {made_of:%d %b %Y}."
        if modelstore.rollback_lock(version.slot) is not None:
            severity = "info"  # a person wanted it so, and knows
        elif age.days > settings.CHAMPION_MAX_AGE_DAYS:
            severity = "critical"
            trades += f" That is {age.days} days ago: look at its recipe."
    text = f"{version} is verified and waits: {version.reason}. {trades}"
    notices.notify("trading", severity, f"waits:{version.slot}", text)
    return f"v{version.number} waits: {version.reason}"


def _last_bar(version: ModelVersion) -> dt.datetime:
    """Return when the last bar closed that a version was made of: learned from or judged on."""
    until = TrainingRun.objects.filter(pk=version.run_id).values_list("until", flat=True).first()
    return until or version.trained_until


def _load_test(folder: Path) -> None:
    # In a process of its own: a graph that crashes or hangs its reader must not take us along.
    try:
        answer = subprocess.run(
            [
                sys.executable,
                "-m",
                "bots.modelstore.bundle",
                str(folder),
                str(modelstore.keys_folder()),
            ],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=LOAD_TEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise bundle.BundleRejected(
            f"the load test did not end within {LOAD_TEST_SECONDS} s"
        ) from error
    if answer.returncode:
        raise bundle.BundleRejected(f"the load test failed: {answer.stderr.strip()[-300:]}")
