"""The model store: which version trades, switching it, going back, pruning."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.manifest import Span
from bots.modelstore.models import Activation, ModelVersion
from markets.domain.features import schema_for
from tests.bots.modelstore.bundles import make_bundle
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

REFIT = Activation.Kind.REFIT
pytestmark = pytest.mark.django_db

SLOT = "nifty-1h"
State = ModelVersion.State


@pytest.fixture(autouse=True)
def private_key(tmp_path: Path, settings: Any) -> Ed25519PrivateKey:
    """Give PROD a store of its own that trusts this key."""
    settings.PROD_DIR = tmp_path / "prod"
    generate_keys(tmp_path / "signing.pem", modelstore.keys_folder())
    return load_private_key(tmp_path / "signing.pem")


@pytest.fixture
def add(tmp_path: Path, private_key: Ed25519PrivateKey) -> Any:
    """Return a function that puts a new verified version of a slot into the store."""

    def make(run_id: int = 1, **changes: Any) -> ModelVersion:
        folder = tmp_path / f"incoming-{run_id}"
        changes.setdefault("schema_hash", schema_for("nifty", "1h").hash)
        manifest = make_bundle(folder, private_key, **changes)
        return modelstore.add(folder, manifest, run_id)

    return make


def states() -> list[str]:
    """Return the state of every version of the slot, first to last."""
    versions = ModelVersion.objects.filter(slot=SLOT).order_by("number")
    return [str(version.state) for version in versions]


def test_a_version_is_added_without_trading(add: Any) -> None:
    version = add(training_span=Span(Epoch(1_400_000_000), Epoch(1_780_000_000), 20_000))
    assert (version.number, version.state) == (1, State.VERIFIED)
    assert clock.epoch(version.trained_until) == 1_780_000_000
    assert modelstore.active(SLOT) is None
    folder = modelstore.folder(version)
    assert folder == modelstore.models_folder() / SLOT / "v1"
    assert modelstore.verify(folder, SLOT).slot == SLOT


def test_activating_retires_the_one_before(add: Any) -> None:
    first, second = add(1), add(2)
    modelstore.switch(first, REFIT, "run 1", "newest")
    modelstore.switch(second, REFIT, "run 2", "newest")
    assert states() == [State.RETIRED, State.ACTIVE]
    assert modelstore.active(SLOT) == second
    switches = Activation.objects.filter(slot=SLOT).order_by("at")
    assert [(switch.model, switch.by) for switch in switches] == [
        (first, "run 1"),
        (second, "run 2"),
    ]


def test_a_version_whose_files_changed_is_not_activated(add: Any) -> None:
    first, second = add(1), add(2)
    modelstore.switch(first, REFIT, "run 1", "newest")
    head = modelstore.folder(second) / bundle.HEAD
    body = bytearray(head.read_bytes())
    body[-1] ^= 1
    head.write_bytes(body)
    with pytest.raises(bundle.BundleRejected, match=r"head.onnx: its sha256 is not the one"):
        modelstore.switch(second, REFIT, "run 2", "newest")
    assert modelstore.active(SLOT) == first
    assert states() == [State.ACTIVE, State.VERIFIED]


def test_a_version_of_other_features_is_not_activated(add: Any) -> None:
    with pytest.raises(bundle.BundleRejected, match="the features have changed since"):
        modelstore.switch(add(schema_hash="0" * 64), REFIT, "run 1", "newest")


def test_without_keys_nothing_is_trusted(add: Any) -> None:
    version = add()
    for path in modelstore.keys_folder().glob("*.pub"):
        path.unlink()
    with pytest.raises(bundle.BundleRejected, match=r"no signature can be checked: .* no public"):
        modelstore.switch(version, REFIT, "run 1", "newest")


def test_rollback_goes_to_the_version_before(add: Any) -> None:
    first, second = add(1), add(2)
    modelstore.switch(first, REFIT, "run 1", "newest")
    modelstore.switch(second, REFIT, "run 2", "newest")
    switch = modelstore.roll_back(SLOT, "the owner")
    assert switch.model == first and switch.by == "the owner" and switch.kind == "rollback"
    assert modelstore.active(SLOT) == first
    assert states() == [State.ACTIVE, State.RETIRED]


def test_a_second_rollback_does_not_return_to_the_model_it_left(add: Any) -> None:
    for run in (1, 2):
        modelstore.switch(add(run), REFIT, f"run {run}", "newest")
    modelstore.roll_back(SLOT, "the owner")
    with pytest.raises(Degraded, match="nifty-1h has no earlier version on this machine"):
        modelstore.roll_back(SLOT, "the owner")
    assert states() == [State.ACTIVE, State.RETIRED]


def test_after_a_rollback_the_next_model_rolls_back_to_the_good_one(add: Any) -> None:
    for run in (1, 2):
        modelstore.switch(add(run), REFIT, f"run {run}", "newest")
    modelstore.roll_back(SLOT, "the owner")
    modelstore.switch(add(3), REFIT, "run 3", "newest")
    modelstore.prune(SLOT)
    assert modelstore.roll_back(SLOT, "the owner").model.number == 1


def test_rollback_without_an_earlier_version_says_so(add: Any) -> None:
    with pytest.raises(Degraded, match=r"no earlier version .* older ones are in PC's archive"):
        modelstore.roll_back(SLOT, "the owner")
    modelstore.switch(add(), REFIT, "run 1", "newest")
    with pytest.raises(Degraded, match=r"no earlier version"):
        modelstore.roll_back(SLOT, "the owner")
    assert states() == [State.ACTIVE]


def test_rollback_needs_the_files_to_be_there(add: Any) -> None:
    first = add(1)
    modelstore.switch(first, REFIT, "run 1", "newest")
    modelstore.switch(add(2), REFIT, "run 2", "newest")
    modelstore.folder(first).rename(modelstore.models_folder() / "elsewhere")
    with pytest.raises(Degraded, match=r"no earlier version on this machine"):
        modelstore.roll_back(SLOT, "the owner")


def test_pruning_keeps_the_active_and_the_previous_version(add: Any) -> None:
    versions = [add(run) for run in (1, 2, 3, 4)]
    for version in versions:
        modelstore.switch(version, REFIT, "a run", "newest")
    folders = [modelstore.folder(version) for version in versions]
    assert modelstore.prune(SLOT, dry_run=True) == folders[:2]
    assert all(folder.is_dir() for folder in folders)
    assert modelstore.prune(SLOT) == folders[:2]
    assert [folder.is_dir() for folder in folders] == [False, False, True, True]
    assert modelstore.prune(SLOT) == []
    assert modelstore.roll_back(SLOT, "the owner").model == versions[2]


def test_pruning_leaves_other_slots_alone(add: Any) -> None:
    modelstore.switch(add(1), REFIT, "run 1", "newest")
    other = modelstore.models_folder() / "nifty-15m" / "v1"
    other.mkdir(parents=True)
    assert modelstore.prune(SLOT) == []
    assert other.is_dir()


def test_files_without_a_row_give_way_to_the_next_version(add: Any) -> None:
    # A process that died after moving the files, before its transaction was committed.
    orphan = modelstore.models_folder() / SLOT / "v1"
    orphan.mkdir(parents=True)
    (orphan / "half").write_bytes(b"of a model")
    version = add()
    assert version.number == 1
    assert modelstore.verify(modelstore.folder(version), SLOT).slot == SLOT


def models(*arguments: str) -> str:
    """Run the command and return what it says."""
    said = StringIO()
    call_command("models", *arguments, stdout=said)
    return said.getvalue()


def test_the_command_shows_and_rolls_back(add: Any) -> None:
    assert f"{SLOT}: no model, holds flat" in models()
    for run_id in (1, 2):
        modelstore.switch(add(run_id), REFIT, "test")
    assert f"{SLOT} v2: learned up to" in models()
    listed = models("list", SLOT)
    assert "v2" in listed and "v1" in listed and "1 time" in listed and "here" in listed
    assert [row["number"] for row in json.loads(models("list", "--json"))] == [2, 1]
    assert models("rollback", SLOT, "--dry-run") == f"Would go {SLOT} v2 -> v1.\n"
    assert states() == [State.RETIRED, State.ACTIVE]
    assert f"{SLOT} v2 -> v1;" in models("rollback", SLOT, "--yes")
    assert states() == [State.ACTIVE, State.RETIRED]
    with pytest.raises(CommandError, match=r"no earlier version .* Nothing was changed"):
        models("rollback", SLOT, "--yes")


def test_files_of_another_version_are_refused_by_every_door(add: Any, archived: Any) -> None:
    first, second = add(11), add(12, trial_count=9)
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    right = archived(second)
    shutil.copytree(modelstore.folder(first), modelstore.folder(second))
    wrong = f"does not hold {SLOT} v2"
    with pytest.raises(CommandError, match=wrong):
        models("verify", SLOT)
    modelstore.roll_back(SLOT, "the owner")
    with pytest.raises(bundle.BundleRejected, match=wrong):
        modelstore.switch(second, REFIT, "the owner")
    assert modelstore.active(SLOT) == first
    with pytest.raises(CommandError, match=wrong):
        models("activate", SLOT, "2", "--yes")
    # What the refusal says to do brings the right ones back.
    shutil.rmtree(modelstore.folder(second))
    models("activate", SLOT, "2", "--yes")
    assert "is whole" in models("verify", SLOT) and right.is_dir()
    shutil.rmtree(modelstore.folder(second))
    assert "fetched from PC's archive" in models("activate", SLOT, "2", "--yes")
    assert "is whole" in models("verify", SLOT), "the version that trades, too"


@pytest.fixture
def archived(tmp_path: Path, settings: Any) -> Any:
    """Return a function that moves a version's files into PC's archive."""
    settings.PC_DIR = tmp_path / "pc"

    def move(version: ModelVersion) -> Path:
        place = tmp_path / "pc" / "archive" / SLOT / f"20260601T104500Z-run{version.run_id}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(modelstore.folder(version), place)
        return place

    return move


def test_an_old_version_is_fetched_from_the_archive_and_trades(add: Any, archived: Any) -> None:
    versions = [add(run) for run in (11, 12, 13)]
    for version in versions:
        modelstore.switch(version, REFIT, "a run", "newest")
    archived(versions[0])
    assert "on PC" in models("list", SLOT)
    assert "fetched from PC's archive" in models("rollback", SLOT, "1", "--dry-run")
    said = models("rollback", SLOT, "1", "--yes", "--because", "it knew bear markets")
    assert f"{SLOT} v3 -> v1" in said
    assert modelstore.active(SLOT) == versions[0]
    assert modelstore.verify(modelstore.folder(versions[0]), SLOT).slot == SLOT
    switch = Activation.objects.filter(slot=SLOT).first()
    assert switch is not None and switch.reason == "it knew bear markets"
    assert "is whole" in models("verify", SLOT)


def test_a_version_that_nobody_has_keeps_the_one_that_trades(add: Any, archived: Any) -> None:
    first, second = add(11), add(12)
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    shutil.rmtree(archived(first))
    with pytest.raises(CommandError, match="is PC awake"):
        models("rollback", SLOT, "1", "--yes")
    assert modelstore.active(SLOT) == second
    with pytest.raises(CommandError, match="is not on this machine"):
        models("verify", SLOT, "1")


def test_what_the_archive_has_must_be_what_was_verified(add: Any, archived: Any) -> None:
    first, second = add(11), add(12, trial_count=9)
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    place = archived(first)
    body = bytearray((place / bundle.HEAD).read_bytes())
    body[10] ^= 1
    (place / bundle.HEAD).write_bytes(body)
    with pytest.raises(CommandError, match="sha256 is not the one"):
        models("rollback", SLOT, "1", "--yes")
    # Another model of the same slot, whole and signed, is not that version either.
    shutil.rmtree(place)
    shutil.copytree(modelstore.folder(second), place)
    with pytest.raises(CommandError, match="PC's archive does not hold"):
        models("rollback", SLOT, "1", "--yes")
    assert modelstore.active(SLOT) == second
    assert not modelstore.folder(first).exists()


def test_a_switch_that_makes_no_sense_is_refused(add: Any) -> None:
    modelstore.switch(add(1), REFIT, "run 1", "newest")
    for arguments, said in (
        (("activate",), "name the slot"),
        (("activate", SLOT), "name the version"),
        (("activate", SLOT, "1"), "trades already"),
        (("rollback", SLOT, "9"), "no version 9"),
    ):
        with pytest.raises(CommandError, match=said):
            models(*arguments)
