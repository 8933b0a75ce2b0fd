"""Whether the machine is fit to trade, finding by finding."""

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from celery import current_app
from django.conf import settings
from django.core.management import call_command

from bots.execution import clearance, doctor_port, ledger
from bots.models import Discrepancy, Position
from bots.modelstore import services as modelstore
from bots.modelstore.keys import generate_keys, load_private_key
from monitoring.doctor import checks as doctor
from tests.bots.live.test_policies import install
from tests.desk import ist
from tests.histories import seed_days
from tests.monitoring import desks
from tradingsite import clock, owner_limits
from tradingsite.models import Heartbeat, Notice
from tradingsite.ports import NotProvided
from tradingsite.registry import BOTS
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.services import wanted

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture(autouse=True)
def morning(set_market: Callable[..., None]) -> None:
    seed_days("nifty")
    set_market(ist("2026-06-01 10:00"))


def finding(name: str) -> doctor.Finding:
    """Return the finding of a name."""
    return next(each for each in doctor.examine() if each.name == name)


def test_a_simulated_desk_is_fit_and_told_what_is_worth_a_look() -> None:
    levels = {each.name: each.level for each in doctor.examine()}
    assert levels["database nifty"] == levels["queue"] == levels["exchange calendar"] == "ok"
    assert levels["model of btc-1h"] == levels["backups"] == "warn"
    assert levels["NIFTY limit"] == "ok"
    said = StringIO()
    call_command("doctor", stdout=said)
    assert "Fit to trade (simulated)" in said.getvalue()
    said = StringIO()
    call_command("doctor", "--json", stdout=said)
    assert json.loads(said.getvalue().splitlines()[0])["level"] == "ok"


def test_what_stops_an_instrument_is_worth_a_look() -> None:
    Discrepancy.on("btc").objects.create(
        venue="paper",
        instrument="BTC-PERP",
        ledger_quantity=Decimal(0),
        venue_quantity=Decimal(1),
        seen_at=desks.NOW,
    )
    assert "BTC-PERP is stopped: the ledger has 0, the venue has 1" in finding("BTC account").says


def test_a_day_that_is_not_confirmed_fails(set_market: Callable[..., None]) -> None:
    set_market(ist("2031-06-02 10:00"))
    assert finding("exchange calendar").level == "fail"
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", stdout=StringIO())
    assert ended.value.code == 1


def test_live_needs_what_cannot_be_proved_yet(settings: pytest.FixtureRequest) -> None:
    settings.MODE = "live"  # type: ignore[attr-defined]
    said = doctor.refusals()
    assert any(each.startswith("backups: ") for each in said)
    assert any(each.startswith("broker's token: ") for each in said)
    of_btc = doctor.refusals("btc")
    assert any(each.startswith("backups: ") for each in of_btc)
    assert not any("token" in each or "NIFTY" in each or "calendar" in each for each in of_btc)


def test_a_live_bot_waits_while_flat_only_reduces_while_it_holds_and_asks_again(
    settings: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODE = "live"  # type: ignore[attr-defined]
    monkeypatch.setattr(clearance, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(clearance, "refusals", ())
    found = ["disk: 96 % full"]
    monkeypatch.setattr(doctor, "refusals", lambda bot: list(found))
    bot, beat = BOTS["btc"], Beat("btc-bot")
    leave = clearance.Clearance(bot)
    assert not leave.may_work(beat)
    assert "disk: 96 % full" in Heartbeat.objects.get(service="btc-bot").detail
    assert "and waits until" in Notice.objects.get(key="unfit:btc").text
    ledger.open_rows(bot, "BTC-PERP", "paper")
    Position.on("btc").objects.filter(slot="btc-1h").update(quantity=Decimal("0.01"))
    assert leave.may_work(beat) and clearance.refusals == ("disk: 96 % full",)
    assert "only reduces what it holds" in Notice.objects.get(key="unfit:btc").text
    found.clear()
    assert leave.may_work(beat) and not clearance.refusals
    assert Notice.objects.get(key="unfit:btc").resolved_at is not None


def test_without_a_doctor_no_live_bot_begins(
    settings: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MODE = "live"  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor_port._PORT, "_provided", None)
    leave = clearance.Clearance(BOTS["btc"])
    for _ in range(2):
        with pytest.raises(NotProvided, match="doctor"):
            leave.may_work(Beat("btc-bot"))


def test_a_queue_that_is_away_stops_no_bot(settings: pytest.FixtureRequest) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"  # type: ignore[attr-defined]
    found = finding("queue")
    assert found.level == "warn" and "bots trade without it" in found.says


def test_the_limits_in_force_are_shown_with_where_they_come_from(tmp_path: Path) -> None:
    kept = owner_limits.in_force.path
    path = tmp_path / "limits.toml"
    path.write_text("[bots.nifty]\nlimit_lots = 3\n")
    try:
        owner_limits.apply(path)
        assert "sets 1" in finding("limits file").says
        assert "3 lots a slot (limits.toml of" in finding("NIFTY limit").says
        assert "USDC 20,000 in all" in finding("BTC limit").says
        path.write_text("[bots.nifty]\nlimit_lots = 0\n")
        owner_limits.apply(path)
        assert finding("limits file").level == "fail"
        assert "line 2" in finding("limits file").says
        assert any("limits file" in each for each in doctor.refusals())
    finally:
        owner_limits.apply(kept)
    assert finding("limits file").level == "ok"


def test_a_model_trained_for_other_lots_is_said_not_to_trade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PROD_DIR", tmp_path / "prod")
    generate_keys(tmp_path / "private.pem", modelstore.keys_folder())
    key = load_private_key(tmp_path / "private.pem")
    install(key, tmp_path, 1)
    assert "v1 trades" in finding("model of btc-1h").says
    install(key, tmp_path, 2, limit_lots=8)
    found = finding("model of btc-1h")
    assert (found.level, found.do) == ("warn", "manage.py trainbot btc 1h, or see manage.py models")
    assert (
        "v2 does not trade: it was trained to hold up to 8 lots, and the limit is 4" in found.says
    )
    shutil.rmtree(modelstore.models_folder())
    assert "v2 does not trade: " in finding("model of btc-1h").says


def test_a_bot_that_was_started_before_the_limits_changed_is_named(tmp_path: Path) -> None:
    kept = owner_limits.in_force.path
    path = tmp_path / "limits.toml"
    path.write_text("[bots.btc]\nnotional_limit = 10_000\n")
    Beat("nifty-bot").beat("trading")
    assert "running bots" not in {each.name for each in doctor.examine()}
    try:
        owner_limits.apply(path)
        Beat("btc-bot").beat("trading")
        found = finding("running bots")
        assert found.level == "warn" and found.says.startswith("nifty-bot: started with other")
    finally:
        owner_limits.apply(kept)


def test_pc_is_told_the_limits_that_it_trains_for(settings: pytest.FixtureRequest) -> None:
    settings.MACHINE = "pc"  # type: ignore[attr-defined]
    names = {each.name for each in doctor.examine()}
    assert "limits file" in names and "model of btc-1h" not in names


def test_a_desk_that_does_not_run_is_said(set_market: Callable[..., None]) -> None:
    assert finding("services").says == "no desk is running"
    said = StringIO()
    call_command("doctor", stdout=said)
    assert "No desk is running: start it with `make run`." in said.getvalue()
    clock.simulate(None)
    assert finding("clock").level == "ok"


def test_a_running_desk_is_asked_for_its_services_clock_and_queues(
    set_market: Callable[..., None], queue: None
) -> None:
    for service in wanted(settings.MODE, settings.MACHINE):
        Beat(service.name).beat("running")
    set_market(ist("2026-06-01 10:00"), 48.0)
    assert finding("services").says == "all 14 report"
    assert finding("market's clock").says == "Mon 01 Jun 10:00 IST, 48x"
    assert finding("queues").level == "ok"
    Beat("worker").beat("stopped")
    current_app.send_task("no.such.task", queue="collect")
    assert finding("services").says == "13 report, worker does not"
    assert finding("queues").says == "1 message in collect and no worker to take them"
    set_market(ist("2026-06-01 10:00"))
    assert finding("market's clock").says.startswith("stands still at Mon 01 Jun")
