"""What each of the seven steps does; the pipeline decides when and records it.

Every step may be repeated: it replaces what an earlier try left behind. A slot has one open run, so
whatever else lies in its folders is of a run that ended badly and goes too.
"""

import datetime as dt
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections, transaction

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.manifest import Manifest, from_bytes, to_bytes
from bots.modelstore.models import Activation, ModelVersion
from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS
from tradingsite.scheduling import leases
from training import recipes
from training.evaluation import refit_gate
from training.models import Copy, TrainingRun
from training.pipeline import archive, charts, dataset, folders, publishing

if TYPE_CHECKING:
    from training.pipeline import trainer

LOAD_TEST_SECONDS = 120
PROGRESS_EVERY_SECONDS = 1.0
PUSH_KEY = "models:push"

log = logging.getLogger(__name__)


def export(run: TrainingRun) -> str:
    """Step 1: write the slot's bars and features into an export folder on PROD."""
    folder, slot = folders.clear(folders.exports(run)), SLOTS[run.slot]
    # Decided here, where the ledger is: the slippage that it assumes is that of our own fills.
    recipe = recipes.approved(run.slot)
    chosen = recipe.settings if recipe else recipes.settings_of(slot, run.timesteps)
    leases.write(run, recipe=chosen)
    copy = Copy.objects.filter(slot=run.slot).first()
    held = copy.holding if copy else {}
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


def train(run: TrainingRun) -> str:
    """Step 3: import into PC's own database, train, and export the network."""
    # Imported here: only the worker that trains may carry torch.
    from training.pipeline import trainer

    slot = SLOTS[run.slot]
    folders.clear(folders.inbox(run), keep=folders.inbox(run))
    data = dataset.import_and_load(slot, folders.inbox(run))
    _record_copy(slot.slug, holding=dataset.holding(slot))
    work = folders.clear(folders.work(run), keep=folders.checkpoint(run))
    last_written = 0.0

    curves = charts.TrainingCurves()

    def report(progress: "trainer.Progress") -> None:
        nonlocal last_written
        curves.add(progress)
        ends = progress.timesteps >= progress.total_timesteps or progress.phase == "forecast"
        if ends or time.monotonic() - last_written >= PROGRESS_EVERY_SECONDS:
            last_written = time.monotonic()
            try:
                leases.write(run, progress=_progress_fields(progress))
            except (OperationalError, InterfaceError) as error:
                # Behind a cut link the training goes on; its lease is renewed once it is back.
                log.warning("%s: no word of its progress: %s", run, error)
                connections.close_all()

    champion = modelstore.active(run.slot)
    trials = TrainingRun.objects.filter(slot=run.slot, pk__lte=run.pk).count()
    parent = str(champion) if champion else None
    recipe = recipes.approved(run.slot)
    asked = trainer.TrainingRequest(
        run.pk,
        run.recipe or recipes.settings_of(slot, run.timesteps),
        run.seed,
        trials,
        parent,
        recipes.range_of(recipe),
    )
    with transfer.explained(work.parent):
        manifest, replayed = trainer.train(slot, data, work, asked, report, folders.checkpoint(run))
        folders.unsealed(run).write_bytes(to_bytes(manifest))
        drawn, picture = curves.to_json(replayed), folders.charts_of(run)
        charts.draw(drawn, f"{run.slot} run {run.pk} ({settings.MODE})", picture)
        charts.prune(picture.parent, archive.KEPT_PER_SLOT)
    held_out = manifest.metrics
    told = {"holdout": held_out, "baselines": manifest.baselines}
    leases.patiently(lambda: leases.write(run, metrics=told, charts=drawn))
    return (
        f"{manifest.hyperparameters['timesteps']:,} steps on {manifest.training_span.bars:,} bars; "
        f"{manifest.holdout_span.bars:,} held out: net {held_out['net_return']:+.2%}, buy-and-hold "
        f"{manifest.baselines['buy_and_hold']['net_return']:+.2%}{_masked_features(manifest)}"
        + (f"; {data.missing_rows:,} rows are missing" if data.missing_rows else "")
    )


def seal(run: TrainingRun) -> str:
    """Step 4: hash every file and sign the manifest with PC's key."""
    private = Path(settings.PC_DIR) / "keys" / "signing.pem"
    if not private.exists():
        if settings.MACHINE == "pc":
            raise Degraded(
                f"{private} is missing: make PC's signing key (manage.py signingkey) and put its "
                f"public half on PROD"
            )
        private.parent.mkdir(parents=True, exist_ok=True)
        modelstore.keys_folder().mkdir(parents=True, exist_ok=True)
        generate_keys(private, modelstore.keys_folder())
    manifest = from_bytes(folders.unsealed(run).read_bytes())
    sealed = bundle.seal(folders.work(run), manifest, load_private_key(private))
    transfer.copy(folders.work(run), folders.clear(folders.outbox(run)))
    return f"{len(sealed.files)} files hashed, signed by {sealed.signer_key_id}"


def verify_and_activate(run: TrainingRun) -> str:
    """Step 5: ship the bundle back, check it in every way, and let it trade."""
    if run.model_number is None:
        incoming = folders.clear(Path(settings.PROD_DIR) / "incoming" / folders.name_of(run))
        transfer.send(folders.outbox(run), incoming)
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


def archive_bundle(run: TrainingRun) -> str:
    """Step 6: keep the bundle on PC under its time."""
    store = transfer.archive_folder()
    place = archive.add(folders.work(run), store, run.slot, run.pk, run.created_at)
    gone = archive.prune(store, run.slot, modelstore.traded_runs(run.slot), clock.real())
    leases.write(run, progress=run.progress)  # raises when another worker took it over
    _record_copy(run.slot, archived=[each.run_id for each in archive.bundles(store, run.slot)])
    said = f"kept as {place.name}" + (f", {len(gone)} older ones deleted" if gone else "")
    said += _publish(run, place)
    if settings.MACHINE == "pc":
        said += f", {_clean_pc(run)}"
    return said


def clean_up(run: TrainingRun) -> str:
    """Step 7: remove what this run left behind and prune PROD's store."""
    shutil.rmtree(folders.exports(run), ignore_errors=True)
    if not transfer.is_link():
        _clean_pc(run)
    gone = modelstore.prune(run.slot)
    return f"exports and work folders removed, {len(gone)} old models pruned on PROD"


def clear_pc_copy(run: TrainingRun) -> bool:
    """Let a run begin again, its export whole; return False where it was whole already."""
    if not Copy.objects.filter(slot=run.slot).exclude(holding={}).update(holding={}):
        return False
    run.steps.update(finished_at=None)  # PC may undo a step, and delete none
    return True


def _record_copy(slot: str, **facts: Any) -> None:
    Copy.objects.update_or_create(slot=slot, defaults={**facts, "at": clock.real()})


def _clean_pc(run: TrainingRun) -> str:
    """Remove what a run left on PC beside its archived bundle."""
    for folder in (folders.inbox(run), folders.work(run), folders.outbox(run)):
        if folder.exists():
            shutil.rmtree(folder)
    for file in (folders.unsealed(run), folders.checkpoint(run)):
        file.unlink(missing_ok=True)
    return "work folders removed"


def _masked_features(manifest: Manifest) -> str:
    names = manifest.masked_features
    return f"; masked, as they never moved: {', '.join(names)}" if names else ""


def _activation_decision(slot: str, manifest: Manifest) -> tuple[bool, str]:
    """Return whether a verified model may trade by its slot's policy, and why."""
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


def _progress_fields(progress: "trainer.Progress") -> dict[str, float | str]:
    names = ("timesteps", "total_timesteps", "steps_per_second", "mean_reward", "eta_seconds")
    told: dict[str, float | str] = {
        name: round(float(getattr(progress, name)), 4)
        for name in (*names, "forecast_epoch", "forecast_epochs", "forecast_loss")
    }
    return told | {"phase": str(progress.phase)}


def _publish(run: TrainingRun, place: Path) -> str:
    """Push a model that was activated to the owner's git remote, where there is one."""
    version = modelstore.get(run.slot, run.model_number or 0)
    if not settings.MODELS_GIT_REMOTE or version.state != version.State.ACTIVE:
        return ""
    where = settings.MODELS_GIT_REMOTE, Path(settings.PC_DIR) / "published"
    title = f"{version} of run {run.pk}, learned until {version.trained_until:%Y-%m-%d}"
    try:
        branch = publishing.push(place, run.slot, title, run.created_at, *where)
    except publishing.NotPushed as error:
        notices.notify(
            "infrastructure",
            "warning",
            PUSH_KEY,
            f"{version} trades and is archived, but was not pushed to the models' git remote: "
            f"{error}. It goes with the next push.",
        )
        return f"; not pushed: {error}"
    notices.resolve(PUSH_KEY)
    return f"; pushed to {branch}"


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
