"""PC's steps of the seven: train, hash, archive; `runs` decides when and records it.

Every step may be repeated: it replaces what an earlier try left behind.
"""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.manifest import Manifest, from_bytes, to_bytes
from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.machines import transfer
from tradingsite.registry import SLOTS, Slot
from tradingsite.scheduling import leases
from training import recipes
from training.models import TrainingRun
from training.pipeline import archive, charts, dataset, folders, pc_copy, publishing

if TYPE_CHECKING:
    from training.pipeline import trainer

PROGRESS_EVERY_SECONDS = 1.0
PUSH_KEY = "models:push"

log = logging.getLogger(__name__)


def train(run: TrainingRun) -> str:
    """Step 3: import into PC's own database, train, and export the network."""
    # Imported here: only the worker that trains may carry torch.
    from training.pipeline import trainer

    slot = SLOTS[run.slot]
    folders.clear(folders.inbox(run), keep=folders.inbox(run))
    data = dataset.import_and_load(slot, folders.inbox(run))
    pc_copy.record(slot.slug, holding=dataset.holding(slot))
    work = folders.clear(folders.work(run), keep=folders.checkpoint(run))
    watch = _Watch(run)
    with transfer.explained(work.parent):
        manifest, replayed = trainer.train(
            slot, data, work, _request_of(run, slot), watch.report, folders.checkpoint(run)
        )
        folders.unsealed(run).write_bytes(to_bytes(manifest))
        drawn, picture = watch.curves.to_json(replayed), folders.charts_of(run)
        charts.draw(drawn, f"{run.slot} run {run.pk} ({settings.MODE})", picture)
        charts.prune(picture.parent, archive.KEPT_PER_SLOT)
    figures = {"holdout": manifest.metrics, "baselines": manifest.baselines}
    # Hours of work are behind this word: it waits for a link that is cut.
    leases.patiently(lambda: leases.write(run, metrics=figures, charts=drawn))
    return _outcome(manifest, data)


class _Watch:
    """Record what a training reports of itself: curves for its charts, its row's progress."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        self._last_written = 0.0
        self.curves = charts.TrainingCurves()

    def report(self, progress: "trainer.Progress") -> None:
        """Take one report; LeaseLost, where the run was ended or taken over, ends the training."""
        self.curves.add(progress)
        ends = progress.timesteps >= progress.total_timesteps or progress.phase == "forecast"
        if not ends and time.monotonic() - self._last_written < PROGRESS_EVERY_SECONDS:
            return
        self._last_written = time.monotonic()
        try:
            leases.write(self._run, progress=_progress_fields(progress))
        except (OperationalError, InterfaceError) as error:
            # Behind a cut link the training goes on; its lease is renewed once it is back.
            log.warning("%s: no word of its progress: %s", self._run, error)
            connections.close_all()


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


def archive_bundle(run: TrainingRun) -> str:
    """Step 6: keep the bundle on PC under its time."""
    store = transfer.archive_folder()
    place = archive.add(folders.work(run), store, run.slot, run.pk, run.created_at)
    gone = archive.prune(store, run.slot, modelstore.traded_runs(run.slot), clock.real())
    leases.write(run, progress=run.progress)  # raises when another worker took it over
    pc_copy.record(run.slot, archived=[each.run_id for each in archive.bundles(store, run.slot)])
    detail = f"kept as {place.name}" + (f", {len(gone)} older ones deleted" if gone else "")
    detail += _publish(run, place)
    if settings.MACHINE == "pc":
        detail += f", {folders.remove_from_pc(run)}"
    return detail


def _request_of(run: TrainingRun, slot: Slot) -> "trainer.TrainingRequest":
    from training.pipeline import trainer

    champion = modelstore.active(run.slot)
    return trainer.TrainingRequest(
        run.pk,
        run.recipe or recipes.settings_of(slot, run.timesteps),
        run.seed,
        trials=TrainingRun.objects.filter(slot=run.slot, pk__lte=run.pk).count(),
        parent=str(champion) if champion else None,
        allowed=recipes.range_of(recipes.approved(run.slot)),
    )


def _outcome(manifest: Manifest, data: dataset.Dataset) -> str:
    """Return a step's sentence about what was trained and how it did on the held-out bars."""
    return (
        f"{manifest.hyperparameters['timesteps']:,} steps on {manifest.training_span.bars:,} bars; "
        f"{manifest.holdout_span.bars:,} held out: net {manifest.metrics['net_return']:+.2%}, "
        f"buy-and-hold {manifest.baselines['buy_and_hold']['net_return']:+.2%}"
        f"{_masked_features(manifest)}"
        + (f"; {data.missing_rows:,} rows are missing" if data.missing_rows else "")
    )


def _masked_features(manifest: Manifest) -> str:
    names = manifest.masked_features
    return f"; masked, as they never moved: {', '.join(names)}" if names else ""


def _progress_fields(progress: "trainer.Progress") -> dict[str, float | str]:
    names = ("timesteps", "total_timesteps", "steps_per_second", "mean_reward", "eta_seconds")
    fields: dict[str, float | str] = {
        name: round(float(getattr(progress, name)), 4)
        for name in (*names, "forecast_epoch", "forecast_epochs", "forecast_loss")
    }
    return fields | {"phase": str(progress.phase)}


def _publish(run: TrainingRun, place: Path) -> str:
    """Push a model that was activated to the owner's git remote, where there is one."""
    # A model that waits is archived too, but only what trades is worth a copy elsewhere.
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
