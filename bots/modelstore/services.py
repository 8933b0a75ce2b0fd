"""The model store of PROD: which version of a slot trades, switching it, going back.

The rows decide; a folder is immutable once its version exists. PROD keeps the active and the
previous version of each slot, so that a rollback needs no other machine.
"""

import hashlib
import re
import shutil
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from bots.modelstore import archive_port, bundle
from bots.modelstore.keys import BadKeys, load_public_keys
from bots.modelstore.manifest import Manifest, to_bytes
from bots.modelstore.models import Activation, ModelVersion
from markets.domain.features import schema_for
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import SLOTS

KEPT_PER_SLOT = 2
REASON_CHARACTERS = 300
ROLLBACK = Activation.Kind.ROLLBACK
_VERSION = re.compile(r"v[0-9]+")


def models_folder() -> Path:
    """Return the folder that holds every slot's versions."""
    return Path(settings.PROD_DIR) / "models"


def keys_folder() -> Path:
    """Return the folder of the public keys whose signatures PROD trusts."""
    return Path(settings.PROD_DIR) / "keys"


def folder(version: ModelVersion) -> Path:
    """Return the folder of a version's files, by its slot and number alone."""
    return _slot_folder(version.slot) / f"v{version.number}"


def active(slot: str) -> ModelVersion | None:
    """Return the version that trades a slot, or None before its first."""
    return ModelVersion.objects.filter(slot=slot, state=ModelVersion.State.ACTIVE).first()


def get(slot: str, number: int) -> ModelVersion:
    """Return a version of a slot; raise Degraded where there is none of that number."""
    version = ModelVersion.objects.filter(slot=slot, number=number).first()
    if version is None:
        raise Degraded(f"{slot} has no version {number}: see `manage.py models`")
    return version


def challenger(slot: str) -> ModelVersion | None:
    """Return the newest verified version that was not let trade, None where a newer one does."""
    now = active(slot)
    waiting = ModelVersion.objects.filter(slot=slot, state=ModelVersion.State.VERIFIED)
    if now is not None:
        waiting = waiting.filter(number__gt=now.number)
    return waiting.order_by("-number").first()


def hold(version: ModelVersion, reason: str) -> None:
    """Keep a verified version without letting it trade, and say why."""
    version.reason = reason[:REASON_CHARACTERS]
    version.save(update_fields=["reason"])


def verify(version_folder: Path, slot: str) -> Manifest:
    """Return the manifest of a bundle that may trade a slot; raise BundleRejected otherwise."""
    where = SLOTS[slot]
    try:
        public_keys = load_public_keys(keys_folder())
    except BadKeys as error:
        raise bundle.BundleRejected(f"no signature can be checked: {error}") from error
    return bundle.verify(
        version_folder,
        public_keys,
        slot=slot,
        schema_hash=schema_for(where.market, where.timeframe).hash,
    )


def verify_version(version: ModelVersion) -> Manifest:
    """Return the manifest of a version whose files are the very ones it was recorded with.

    Raises BundleRejected otherwise: what is whole and signed may still be another version's.
    """
    place = folder(version)
    manifest = verify(place, version.slot)
    do = "move them away, and `models activate` fetches the right ones from PC's archive"
    _require_recorded(version, manifest, str(place), do)
    return manifest


def add(bundle_folder: Path, manifest: Manifest, run_id: int) -> ModelVersion:
    """Move a verified bundle into the store as the slot's next version."""
    with transaction.atomic():
        last = ModelVersion.objects.filter(slot=manifest.slot).aggregate(last=Max("number"))["last"]
        number = (last or 0) + 1
        version = ModelVersion.objects.create(
            slot=manifest.slot,
            number=number,
            run_id=run_id,
            state=ModelVersion.State.VERIFIED,
            path=f"{manifest.slot}/v{number}",
            manifest_sha256=_sha256(manifest),
            trained_from=clock.from_seconds(manifest.training_span.opens_at),
            trained_until=clock.from_seconds(manifest.training_span.closes_at),
            metrics={"holdout": manifest.metrics, "baselines": manifest.baselines},
            created_at=clock.real(),
        )
        place = folder(version)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():  # of a process that died before its row was there
            _remove(place)
        bundle_folder.rename(place)
    return version


def traded_runs(slot: str) -> set[int]:
    """Return the runs whose models ever traded a slot."""
    switches = Activation.objects.filter(slot=slot).select_related("model")
    return set(switches.values_list("model__run_id", flat=True))


def archived_runs(slot: str) -> set[int]:
    """Return the runs whose bundles are in an archive that answers."""
    return archive_port.get().archived_runs(slot)


def restore_files(version: ModelVersion) -> None:
    """Have a version's files on this machine: fetched from the archive and verified if need be.

    Raises Degraded where no archive has them, BundleRejected where they are not what they were.
    """
    place = folder(version)
    if place.is_dir():
        return
    incoming = (
        Path(settings.PROD_DIR) / "incoming" / f"{SLOTS[version.slot].slug}-back-v{version.number}"
    )
    shutil.rmtree(incoming, ignore_errors=True)
    if not archive_port.get().fetch(version.slot, version.run_id, incoming):
        raise Degraded(
            f"{version} is neither on this machine nor in an archive that answers: is PC awake?"
        )
    try:
        _require_recorded(
            version, verify(incoming, version.slot), "PC's archive", "nothing of it is used"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(place)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def switch(version: ModelVersion, kind: str, by: str, reason: str = "") -> Activation:
    """Make a version the one that trades its slot: the one door of every change of model.

    Its files are verified once more, and fetched where they are no longer on this machine. The
    position stays; the new policy decides at the next bar. Raises Degraded for a version in
    quarantine or without files, BundleRejected for files that are not what was recorded.
    """
    if version.state == ModelVersion.State.QUARANTINED:
        raise Degraded(f"{version} is in quarantine: {version.reason}")
    restore_files(version)
    verify_version(version)
    with transaction.atomic():
        locked = ModelVersion.objects.select_for_update().filter(slot=version.slot)
        list(locked)
        locked.filter(state=ModelVersion.State.ACTIVE).update(state=ModelVersion.State.RETIRED)
        locked.filter(pk=version.pk).update(state=ModelVersion.State.ACTIVE)
        version.state = ModelVersion.State.ACTIVE
        return Activation.objects.create(
            slot=version.slot,
            kind=kind,
            model=version,
            at=clock.real(),
            market_at=clock.market(),
            by=by,
            reason=reason,
        )


def previous(slot: str) -> ModelVersion:
    """Return the version a rollback goes to: the last earlier one that traded and is still here.

    Raises Degraded where there is none: never a later one, which an earlier rollback left.
    """
    now = active(slot)
    for switch in Activation.objects.filter(slot=slot).select_related("model"):
        version = switch.model
        if (now is None or version.number < now.number) and folder(version).is_dir():
            return version
    raise Degraded(f"{slot} has no earlier version on this machine; older ones are in PC's archive")


def roll_back(slot: str, by: str, reason: str = "", kind: str = ROLLBACK) -> Activation:
    """Go back to the version that traded before the active one."""
    return switch(previous(slot), kind, by, reason)


def choose(slot: str, number: int, by: str, reason: str = "") -> Activation:
    """Let a person's choice trade a slot; an earlier version than the active one is a rollback."""
    version, now = get(slot, number), active(slot)
    is_back = now is not None and version.number < now.number
    return switch(version, ROLLBACK if is_back else Activation.Kind.CHOSEN, by, reason)


def rollback_lock(slot: str) -> Activation | None:
    """Return the rollback that a slot stays at, None where none was the last word.

    Whoever goes back does not want the next training to undo it: new models wait until somebody
    lets a newer one trade.
    """
    last = Activation.objects.filter(slot=slot).select_related("model").order_by("-at").first()
    return last if last is not None and last.kind in Activation.LOCKING else None


def prune(slot: str, *, dry_run: bool = False) -> list[Path]:
    """Delete all folders but the active's, the previous version's and the newest that waits.

    Returns those deleted, or with dry_run those that would be.
    """
    kept = {folder(version) for version in (active(slot),) if version}
    for switch in Activation.objects.filter(slot=slot).select_related("model"):
        if len(kept) == KEPT_PER_SLOT:
            break
        kept.add(folder(switch.model))
    waiting = challenger(slot)
    if waiting is not None:
        kept.add(folder(waiting))
    here = sorted(path for path in _slot_folder(slot).glob("v*") if _is_version(path))
    gone = [path for path in here if path not in kept]
    if not dry_run:
        for path in gone:
            _remove(path)
    return gone


def _require_recorded(version: ModelVersion, manifest: Manifest, where: str, do: str) -> None:
    found = _sha256(manifest)
    if found == version.manifest_sha256:
        return
    raise bundle.BundleRejected(
        f"{where} does not hold {version}: its {bundle.MANIFEST} has sha256 {found[:12]} (training "
        f"run {manifest.run_id}), {version} was recorded with {version.manifest_sha256[:12]} (run "
        f"{version.run_id}). Those are another version's files: {do}"
    )


def _sha256(manifest: Manifest) -> str:
    """Return the hash of a manifest's file, which has one form only."""
    return hashlib.sha256(to_bytes(manifest)).hexdigest()


def _slot_folder(slot: str) -> Path:
    """Return the folder of a slot of the registry; raise Degraded for any other word."""
    if slot not in SLOTS:
        raise Degraded(f"there is no slot {slot!r}")
    return models_folder() / SLOTS[slot].slug


def _is_version(place: Path) -> bool:
    """Return whether a path is models/<known slot>/v<digits>, a folder and no link to one."""
    known = {models_folder() / slot for slot in SLOTS}
    named = place.parent in known and _VERSION.fullmatch(place.name)
    return bool(named) and place.is_dir() and not (place.is_symlink() or place.parent.is_symlink())


def _remove(place: Path) -> None:
    """Delete a version's folder: the only way in which the store removes anything."""
    if not _is_version(place):
        raise Degraded(f"{place} is no folder of a model's version: it is left as it is")
    shutil.rmtree(place)
