"""The 09:00 job: a token in time, or an alert in time."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from markets import tasks
from markets.capture import token_refresh
from markets.capture.token_refresh import NoToken
from markets.simulator import credentials as held
from markets.venues.configured import kite_config, kite_token
from markets.venues.kite import login as kite_login
from tests.markets.simulator.doors import MORNING, Doors
from tradingsite import clock
from tradingsite.models import JobRun, Notice

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

TODAY = MORNING.date()


class Morning:
    """The broker's doors, the market's clock, and what the job does while it waits."""

    def __init__(self, doors: Doors, set_market: Callable[..., None]) -> None:
        self.doors = doors
        self.waits: list[dt.timedelta] = []
        self.meanwhile: Callable[[], Any] = lambda: None
        self._set_market = set_market
        self.now = MORNING
        set_market(MORNING)

    def pause(self, seconds: float) -> None:
        """Let market time pass instead of waiting."""
        self.waits.append(dt.timedelta(seconds=seconds * clock.speed()))
        self.now += self.waits[-1]
        self._set_market(self.now)
        self.meanwhile()

    def fire(self) -> JobRun:
        """Fire the job; return its record."""
        tasks.refresh_token(MORNING.isoformat())
        return JobRun.objects.get()

    def fail(self) -> JobRun:
        """Fire the job, which must end without a token; return its record."""
        with pytest.raises(NoToken):
            tasks.refresh_token(MORNING.isoformat())
        return JobRun.objects.get()


@pytest.fixture
def morning(
    set_market: Callable[..., None],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Morning]:
    with Doors().open() as doors:
        settings.KITE_ROOT = settings.KITE_LOGIN_ROOT = doors.url
        settings.DATA_DIR = tmp_path
        found = Morning(doors, set_market)
        monkeypatch.setattr(token_refresh, "pause", found.pause)
        yield found


def open_notices() -> dict[str, Notice]:
    return {row.key: row for row in Notice.objects.filter(resolved_at__isnull=True)}


def test_it_signs_in_where_there_is_no_token(morning: Morning) -> None:
    run = morning.fire()
    assert (run.state, run.detail) == ("done", "signed in as SIM001")
    kite = kite_login.client(kite_config(), kite_token().current())
    assert kite.profile()["user_id"] == held.KITE_USER_ID
    assert not Notice.objects.exists()


def test_a_token_that_works_is_left_alone(morning: Morning) -> None:
    token = morning.doors.sessions.issue()
    kite_token().save(token, "SIM001")
    assert morning.fire().detail == "the token still works"
    assert morning.doors.seen == ["GET /user/profile"]
    assert kite_token().current() == token


def test_a_token_of_yesterday_is_replaced(morning: Morning) -> None:
    morning.doors.at -= dt.timedelta(days=1)
    kite_token().save(morning.doors.sessions.issue(), "SIM001")
    morning.doors.at = MORNING
    assert morning.fire().detail == "signed in as SIM001"
    assert morning.doors.seen[0] == "GET /user/profile"


def test_it_tries_again_and_then_it_works(morning: Morning) -> None:
    morning.doors.faults.put("changed_page", times=2)
    said: list[str] = []
    morning.meanwhile = lambda: said.append(open_notices()["kite:sign-in"].text)
    assert morning.fire().state == "done"
    assert "try 1 of 3" in said[0] and "try 2 of 3" in said[1]
    assert morning.now.time() == dt.time(9, 9)
    assert open_notices() == {}


def test_it_tries_until_the_deadline_and_then_says_that_there_is_no_trading(
    morning: Morning,
) -> None:
    kite_token().save("of yesterday", "SIM001")
    morning.doors.faults.put("changed_page", times=9)
    run = morning.fail()
    assert run.state == "failed"
    assert morning.doors.seen.count("POST /api/login") == 3
    assert MORNING.time() < morning.now.time() < token_refresh.DEADLINE
    notice = open_notices()["job:token-refresh"]
    assert (notice.channel, notice.severity) == ("infrastructure", "critical")
    assert "after 3 tries: /api/login answered HTTP 200 with a page" in notice.text
    assert "No trading today unless somebody signs in at /kite/" in notice.text
    assert kite_token().is_refused_on(TODAY)
    # Whoever signs in later takes it back.
    assert token_refresh.exchange_request_token(morning.doors.request_token()) == held.KITE_USER_ID
    assert not kite_token().is_refused_on(TODAY)
    assert open_notices() == {}


def test_a_late_start_still_has_one_try(morning: Morning) -> None:
    morning.pause(14 * 60 / clock.speed())
    morning.doors.faults.put("unavailable", times=9, match="/api/login")
    assert "after 1 tries" in morning.fail().detail
    assert len(morning.waits) == 1


def test_a_refused_login_is_never_repeated(morning: Morning, settings: Settings) -> None:
    settings.KITE_PASSWORD = "wrong"
    morning.fail()
    assert morning.doors.sessions.logins == 1 and morning.waits == []
    assert "Invalid username or password" in open_notices()["job:token-refresh"].text
    assert kite_token().is_refused_on(TODAY)


def test_a_redelivered_message_signs_in_no_second_time(morning: Morning) -> None:
    morning.fire()
    morning.fire()
    assert morning.doors.sessions.logins == 1


def test_without_keys_it_says_so(morning: Morning, settings: Settings) -> None:
    settings.KITE_API_SECRET = ""
    assert "KITE_API_KEY and KITE_API_SECRET are not set" in morning.fail().detail


def test_a_person_is_sent_the_link_and_waited_for(morning: Morning, settings: Settings) -> None:
    settings.KITE_LOGIN = "interactive"
    kite_token().save("of yesterday", "SIM001")

    def click() -> None:
        if len(morning.waits) == 3:
            notice = open_notices()["kite:sign-in"]
            link = kite_login.login_url(kite_config())
            assert notice.severity == "warning" and f"{link} ." in notice.text
            token_refresh.exchange_request_token(morning.doors.request_token())

    morning.meanwhile = click
    assert morning.fire().detail == "SIM001 signed in"
    assert morning.doors.sessions.logins == 0  # nothing is typed for a person
    assert open_notices() == {}


def test_a_person_who_does_not_come_is_told_at_the_deadline(
    morning: Morning, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KITE_LOGIN = "interactive"
    passed = [0.0]
    monkeypatch.setattr(token_refresh.time, "monotonic", lambda: passed[0])

    def wait() -> None:
        passed[0] += 5.0

    morning.meanwhile = wait
    morning.fail()
    assert passed[0] == pytest.approx(14 * 60 / clock.speed(), abs=5.0)
    text = open_notices()["job:token-refresh"].text
    assert "nobody signed in at the broker by 09:14 IST. No trading today" in text
    assert "kite:sign-in" in open_notices()  # the link is still good


def test_a_day_without_a_session_needs_no_token(morning: Morning) -> None:
    morning.pause(dt.timedelta(days=5).total_seconds() / clock.speed())
    tasks.refresh_token("2026-06-06T09:00:00+05:30")
    run = JobRun.objects.get()
    assert (run.state, run.detail) == ("skipped", "no session on 06 Jun 2026")
    assert morning.doors.seen == []


def test_no_secret_reaches_a_log_or_the_database(
    morning: Morning, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (None, "urllib3", "requests", "kiteconnect", "asyncio", "django.request"):
        caplog.set_level(logging.DEBUG, name)
    morning.doors.faults.put("changed_page")
    morning.fire()
    first = kite_token().current()
    asked = morning.doors.request_token()
    token_refresh.exchange_request_token(asked)
    for broken in ("reset", "not_json"):
        morning.doors.faults.put(broken, match="/session/token")
        with pytest.raises(kite_login.LoginUnavailable):
            token_refresh.exchange_request_token(asked)
    settings.KITE_PASSWORD = "another wrong password"
    kite_token().save("a token of yesterday", "SIM001")
    JobRun.objects.all().delete()
    run = morning.fail()
    secrets = [
        *(held.KITE_API_SECRET, held.KITE_PASSWORD, held.KITE_TOTP_SECRET, first, asked),
        *("another wrong password", "a token of yesterday"),
        *morning.doors.sessions._signed_in,
    ]
    told = [caplog.text, run.detail, *(row.text for row in Notice.objects.all())]
    assert "POST /api/login" in caplog.text  # the libraries did log
    for secret in secrets:
        assert not any(secret in text for text in told)
