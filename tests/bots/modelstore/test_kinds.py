"""What a switch of the model was is a field of its own: no wording decides who may trade."""

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from bots.modelstore import archive_port
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from tradingsite import clock, ports

pytestmark = pytest.mark.django_db
Kind = Activation.Kind
SLOT = "nifty-1d"


def version(number: int = 1) -> ModelVersion:
    return ModelVersion.objects.create(
        slot=SLOT,
        number=number,
        run_id=number,
        state=ModelVersion.State.VERIFIED,
        path=f"{SLOT}/v{number}",
        manifest_sha256="0" * 64,
        trained_from=clock.real(),
        trained_until=clock.real(),
        created_at=clock.real(),
    )


def activation(kind: str, reason: str = "", by: str = "the owner") -> Activation:
    now = clock.real()
    model = ModelVersion.objects.first() or version()
    return Activation.objects.create(
        slot=SLOT, kind=kind, model=model, at=now, market_at=now, by=by, reason=reason
    )


@pytest.mark.parametrize("kind", Kind.values)
@pytest.mark.parametrize("reason", ["", "rollback", "rollback: it lost", "chosen", "anything"])
def test_the_kind_locks_and_never_the_words(kind: str, reason: str) -> None:
    row = activation(kind, reason)
    locked = modelstore.rollback_lock(SLOT)
    assert (locked == row) is (kind in (Kind.ROLLBACK, Kind.DEMOTION))


def test_an_earlier_version_that_is_chosen_is_a_rollback(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("restore_files", "verify_version"):
        monkeypatch.setattr(modelstore, check, lambda version: None)
    versions = [version(number) for number in (1, 2, 3)]
    kinds = [modelstore.choose(SLOT, number, "the owner").kind for number in (2, 3, 1, 1, 2)]
    assert kinds == [Kind.CHOSEN, Kind.CHOSEN, Kind.ROLLBACK, Kind.CHOSEN, Kind.CHOSEN]
    assert modelstore.active(SLOT) == versions[1]


def test_rows_of_before_get_their_kind_from_the_words_of_then() -> None:
    """The words are those that the last release wrote."""
    old = {
        "newest verified model": (Kind.REFIT, "newest verified model"),
        "rollback": (Kind.ROLLBACK, ""),
        "rollback: it lost: too much": (Kind.ROLLBACK, "it lost: too much"),
        "chosen: I like it": (Kind.CHOSEN, "I like it"),
    }
    rows = {activation(Kind.REFIT, words).pk: found for words, found in old.items()}
    demoted = activation(Kind.REFIT, "rollback: -12.50% over 30 live bars", "automatic demotion")
    fill: Any = import_module("bots.modelstore.migrations.0002_kind_of_activation").fill
    with connection.schema_editor() as editor:
        fill(apps, editor)
    for pk, found in rows.items():
        row = Activation.objects.get(pk=pk)
        assert (row.kind, row.reason) == found
    demoted.refresh_from_db()
    assert (demoted.kind, demoted.reason) == (Kind.DEMOTION, "-12.50% over 30 live bars")


def test_a_version_in_quarantine_is_let_trade_by_no_door() -> None:
    row = version()
    ModelVersion.objects.update(state=ModelVersion.State.QUARANTINED, reason="its hash is another")
    row.refresh_from_db()
    for kind in Kind.values:
        with pytest.raises(modelstore.Degraded, match="in quarantine: its hash is another"):
            modelstore.switch(row, kind, "anybody")


def test_without_an_archive_s_app_nobody_says_that_no_archive_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive_port._PORT, "_provided", None)
    with pytest.raises(ports.NotProvided, match="the archive of models"):
        modelstore.archived_runs(SLOT)
