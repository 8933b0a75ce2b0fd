"""Bots that beat and decide nothing, and services left behind by a change."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import OperationalError

from bots.models import Decision
from markets import store
from markets.models import Source
from monitoring import checks
from monitoring.deciding import CodeWatch, DecisionWatch
from tests import histories
from tests.desk import ist
from tests.monitoring.desks import ALIASES
from tradingsite import clock, version
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.services import ONLY_VARIABLE

pytestmark = pytest.mark.django_db(databases=ALIASES)
NOW = ist("2026-06-01 12:00")


@pytest.fixture
def bars(set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let BTC have bars of four hours, and its bot run alone."""
    monkeypatch.setenv(ONLY_VARIABLE, "btc-bot")
    monkeypatch.setattr(checks, "UNDECIDED_SECONDS", 0.0)
    store.save_bars("btc", "4h", histories.four_hours(5), Source.GENERATED)
    set_market(dt.datetime.fromtimestamp(newest(), dt.UTC) + dt.timedelta(minutes=5))


def newest() -> int:
    """Return when the newest bar closed."""
    return int(store.load_bars("btc", "4h").closes_at[-1])


def decide(slot: str) -> None:
    """Write the decision of the newest bar."""
    at = dt.datetime.fromtimestamp(newest(), dt.UTC)
    Decision.on("btc").objects.create(
        slot=slot,
        bar_closes_at=at,
        decided_at=at,
        action="hold",
        lots_before=0,
        lots_after=0,
        price=1,
        cause="halted",
    )


@pytest.mark.usefixtures("bars")
def test_a_bot_that_beats_and_decides_nothing_is_told_and_taken_back() -> None:
    watch = DecisionWatch()
    Beat("btc-bot").beat("running", "lots 0")
    assert watch.look() == {"btc-4h"}
    watch.look()
    notice = Notice.objects.get(key="undecided:btc-4h")
    assert (notice.severity, notice.count) == ("critical", 1)
    assert "btc-4h decides nothing" in notice.text
    decide("btc-4h")
    assert watch.look() == set()
    notice.refresh_from_db()
    assert notice.resolved_at is not None


@pytest.mark.usefixtures("bars")
def test_a_monitor_that_starts_takes_up_the_alarm_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Beat("btc-bot").beat("running", "")
    DecisionWatch().look()
    monkeypatch.setattr(checks, "UNDECIDED_SECONDS", 60.0)
    again = DecisionWatch()
    assert again.look() == {"btc-4h"}  # still, and not only after a minute
    assert Notice.objects.get(key="undecided:btc-4h").count == 1
    decide("btc-4h")
    again = DecisionWatch()
    assert again.look() == set()
    assert Notice.objects.get(key="undecided:btc-4h").resolved_at is not None


@pytest.mark.usefixtures("bars")
def test_a_database_that_does_not_answer_ends_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    Beat("btc-bot").beat("running", "")
    watch = DecisionWatch()
    watch.look()

    def away(*arguments: object) -> bool:
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr("monitoring.deciding._is_undecided", away)
    assert watch.look() == {"btc-4h"}
    assert Notice.objects.get(key="undecided:btc-4h").resolved_at is None


@pytest.mark.usefixtures("bars")
def test_it_is_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "UNDECIDED_SECONDS", 60.0)
    Beat("btc-bot").beat("running", "")
    assert DecisionWatch().look() == set()


@pytest.mark.usefixtures("bars")
@pytest.mark.parametrize("state", ["waiting", "idle"])
def test_a_bot_that_said_why_is_excused(state: str) -> None:
    Beat("btc-bot").beat(state, "no feed")
    assert DecisionWatch().look() == set()


@pytest.mark.usefixtures("bars")
def test_a_bot_that_was_never_heard_of_is_the_service_watchs() -> None:
    assert DecisionWatch().look() == set()


def test_services_say_what_they_run() -> None:
    Beat("beat").beat("running", "")
    row = Heartbeat.objects.get()
    assert row.code == version.commit() and len(row.code) >= 7
    assert row.config == version.config() and len(row.config) == 12


def test_code_left_behind_is_told_until_it_is_restarted() -> None:
    watch = CodeWatch()
    for service in ("beat", "worker", "btc-bot"):
        Beat(service).beat("running", "")
    assert not watch.look()
    Heartbeat.objects.filter(service="btc-bot").update(code="0123456789ab")
    assert watch.look()
    notice = Notice.objects.get(key="code:mixed")
    assert "btc-bot on 0123456789ab" in notice.text
    # A dead one is the service watch's: nothing of it trades.
    old = clock.real() - dt.timedelta(minutes=5)
    Heartbeat.objects.filter(service="btc-bot").update(beat_at=old)
    assert not CodeWatch().look()
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_settings_that_differ_are_told(settings: pytest.FixtureRequest) -> None:
    Beat("beat").beat("running", "")
    settings.KITE_PRODUCT = "MIS"  # type: ignore[attr-defined]
    Beat("nifty-bot").beat("running", "")
    assert CodeWatch().look()
