"""The models' page: every version, and a switch that only a person with the password makes."""

import html
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponseBase
from django.test import Client

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.models import Activation, ModelVersion
from markets.domain.features import schema_for
from tests.bots.modelstore.bundles import make_bundle

REFIT = Activation.Kind.REFIT
pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

SLOT = "nifty-1h"
PASSWORD = "correct horse battery"


class Store:
    """PROD's store and PC's archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        generate_keys(folder / "signing.pem", modelstore.keys_folder())
        self.key = load_private_key(folder / "signing.pem")

    def add(self, run_id: int) -> ModelVersion:
        incoming = self.folder / f"incoming-{run_id}"
        schema = schema_for("nifty", "1h").hash
        metrics = {"net_return": 0.012, "sharpe_per_year": 1.4, "max_drawdown": 0.08}
        baselines = {"buy_and_hold": {"net_return": 0.005}}
        manifest = make_bundle(
            incoming, self.key, schema_hash=schema, metrics=metrics, baselines=baselines
        )
        return modelstore.add(incoming, manifest, run_id)

    def to_archive(self, version: ModelVersion) -> None:
        place = self.folder / "pc" / "archive" / SLOT / f"20260601T104500Z-run{version.run_id}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(modelstore.folder(version), place)


@pytest.fixture
def store(tmp_path: Path, settings: Any) -> Store:
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    return Store(tmp_path)


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    return client


def words(answer: HttpResponseBase) -> str:
    text = re.sub(r"<[^>]+>", " ", answer.content.decode())  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", html.unescape(text))


def switch(client: Client, number: int, **changes: str) -> Any:
    asked = {"password": PASSWORD, "reason": "it lost too much"} | changes
    return client.post(f"/models/{SLOT}/{number}/", asked)


def test_every_version_is_shown_with_its_result_and_where_it_is(
    staff: Client, store: Store
) -> None:
    first, second, third = (store.add(run) for run in (11, 12, 13))
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    modelstore.hold(third, "worse than its recipe ever was")
    store.to_archive(first)
    text = words(staff.get(f"/models/{SLOT}/"))
    assert "NIFTY 1h" in text and "the newest verified model trades" in text
    assert "v3" in text and "waits" in text and "worse than its recipe ever was" in text
    assert "Let v3 trade" in text and "Go to v1" in text and "Go to v2" not in text
    assert "trading" in text and "+1.2%" in text and "+0.5%" in text and "1.40" in text
    assert "PC" in text


def test_a_slot_without_models_says_how_to_get_one(staff: Client, store: Store) -> None:
    assert "manage.py trainbot nifty 15m" in words(staff.get("/models/"))
    assert staff.get("/models/nifty-9h/").status_code == 404
    assert staff.get(f"/models/{SLOT}/7/").status_code == 404


def test_a_person_goes_back_to_a_version_of_the_archive(staff: Client, store: Store) -> None:
    first, second = store.add(11), store.add(12)
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    store.to_archive(first)
    asked = words(staff.get(f"/models/{SLOT}/1/"))
    assert "let v1 trade?" in asked and "fetched from PC and verified first" in asked
    assert "v2 is kept, so you can return to it" in asked and "It is flat." in asked
    assert "newer models wait until you let one trade" in asked
    assert modelstore.active(SLOT) == second  # looking changes nothing
    sent = switch(staff, 1)
    assert (sent.status_code, sent["Location"]) == (302, f"/models/{SLOT}/")
    assert modelstore.active(SLOT) == first
    done = Activation.objects.filter(slot=SLOT).first()
    assert done is not None
    assert (done.by, done.kind, done.reason) == ("owner", "rollback", "it lost too much")
    assert "v1 trades from the bot's next bar on" in words(staff.get(f"/models/{SLOT}/"))


def test_without_the_password_or_a_reason_nothing_changes(staff: Client, store: Store) -> None:
    first, second = store.add(11), store.add(12)
    for version in (first, second):
        modelstore.switch(version, REFIT, "a run", "newest")
    said = switch(staff, 1, reason="  ")
    assert said.status_code == 400 and "Say why" in words(said)
    for _ in range(4):
        said = switch(staff, 1, password="guessed")
        assert said.status_code == 400 and "not your password" in words(said)
        assert "it lost too much" in said.content.decode()  # what was typed is kept
    assert switch(staff, 1, password="guessed").status_code == 302
    sent = switch(staff, 1)
    assert sent.status_code == 302 and "/login/" in sent["Location"]
    assert modelstore.active(SLOT) == second


def test_only_who_may_switches_and_only_with_a_token(store: Store, client: Client) -> None:
    for run in (11, 12):
        modelstore.switch(store.add(run), REFIT, "a run", "newest")
    assert client.get(f"/models/{SLOT}/").status_code == 200  # a simulated desk may be looked at
    assert "/login/" in client.get(f"/models/{SLOT}/1/")["Location"]
    assert "/login/" in switch(client, 1)["Location"]
    guest = User.objects.create_user("guest", password=PASSWORD, is_staff=True)
    client.force_login(guest)
    assert "Go to v1" not in words(client.get(f"/models/{SLOT}/"))
    assert switch(client, 1).status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    assert switch(strict, 1).status_code == 403
    active = modelstore.active(SLOT)
    assert active is not None and active.number == 2


def test_a_version_that_rotted_or_is_gone_is_not_switched_to(staff: Client, store: Store) -> None:
    first, second, third = (store.add(run) for run in (11, 12, 13))
    for version in (first, second, third):
        modelstore.switch(version, REFIT, "a run", "newest")
    head = modelstore.folder(first) / bundle.HEAD
    head.write_bytes(head.read_bytes()[:-1] + b"\0")
    switch(staff, 1)
    assert "Nothing was changed" in words(staff.get(f"/models/{SLOT}/"))
    shutil.rmtree(modelstore.folder(second))
    assert switch(staff, 2).status_code == 302
    assert "its files are gone" in words(staff.get(f"/models/{SLOT}/"))
    assert modelstore.active(SLOT) == third
