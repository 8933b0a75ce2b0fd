"""The broker's page: who may open it, what it says, and that nothing changes by GET."""

import datetime as dt
import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponseBase
from django.test import Client
from pytest_django import Settings

from markets.simulator import credentials as held
from markets.venues.configured import kite_config, kite_token
from markets.venues.kite import login as kite_login
from tests.markets.simulator.doors import MORNING, Doors
from tests.test_front_end import Page
from tradingsite import clock, notices
from tradingsite.access.models import PinnedAccount
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db


@pytest.fixture
def doors(settings: Settings, tmp_path: Path, set_market: Callable[..., None]) -> Iterator[Doors]:
    set_market(MORNING)
    with Doors().open() as opened:
        settings.KITE_ROOT = settings.KITE_LOGIN_ROOT = opened.url
        settings.DATA_DIR = tmp_path
        yield opened


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", password="correct horse battery"))
    return client


def words(answer: HttpResponseBase) -> str:
    text = re.sub(r"<[^>]+>", " ", answer.content.decode())  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", html.unescape(text))


def test_only_who_may_sign_in_there_takes_a_login(client: Client, doors: Doors) -> None:
    for address in ("/kite/", "/kite/redirect"):
        sent = client.get(address)
        assert (sent.status_code, sent["Location"]) == (302, f"/login/?next={address}")
    client.force_login(User.objects.create_user("guest", is_staff=True))
    text = words(client.get("/kite/"))
    assert "There is no token." in text and "Signing in at the broker is not yours to do" in text
    assert "Open the login" not in text and "Ask the broker" not in text
    refused = client.post("/kite/", {"pasted": doors.request_token()})
    assert refused.status_code == 403
    assert "You have no right to do this: Sign in at the broker" in words(refused)
    assert client.get("/kite/redirect?request_token=abc123").status_code == 403
    assert kite_token().current() == "" and doors.seen == []


@pytest.mark.parametrize("mode", ["simulated", "live"])
def test_a_request_token_stands_in_no_address_and_waits_for_the_sign_in(
    client: Client, doors: Doors, settings: Settings, mode: str
) -> None:
    settings.MODE = mode
    token = doors.request_token()
    sent = client.get(f"/kite/redirect?action=login&status=success&request_token={token}")
    assert sent["Location"] == "/login/?next=/kite/redirect"
    settings.MODE = "simulated"
    User.objects.create_superuser("owner", password="correct horse battery")
    signed = {"username": "owner", "password": "correct horse battery", "next": "/kite/redirect"}
    shown = client.post("/login/", signed, follow=True)
    assert shown.redirect_chain == [("/kite/redirect", 302)]
    assert f'name="pasted" value="{token}"' in shown.content.decode()
    assert "That is no request token" in words(client.get("/kite/redirect", follow=True))  # once


def test_another_accounts_token_is_refused_until_the_account_is_changed(
    staff: Client, doors: Doors
) -> None:
    kite_token().save("token of before", held.KITE_USER_ID)
    PinnedAccount.objects.create(broker="kite", account="AB1234", by="x", pinned_at=MORNING)
    text = words(staff.post("/kite/", {"pasted": doors.request_token()}, follow=True))
    assert "That login is of account SIM001, and this desk trades in AB1234." in text
    assert kite_token().current() == "token of before"
    assert Notice.objects.get(severity="critical").key == "kite:other-account"
    change = {"account": " sim001", "seen": "AB1234", "reason": "moved", "password": "a guess"}
    assert staff.post("/kite/account/", change).status_code == 400
    assert PinnedAccount.objects.get().account == "AB1234"
    change["password"] = "correct horse battery"
    stale = staff.post("/kite/account/", change | {"seen": "another"})
    assert "The numbers have changed" in words(stale)
    assert staff.post("/kite/account/", change).status_code == 302
    assert kite_token().current() == ""
    assert "Signed in as SIM001." in words(
        staff.post("/kite/", {"pasted": doors.request_token()}, follow=True)
    )
    assert not Notice.objects.filter(key="kite:other-account", resolved_at=None).exists()


def test_the_first_account_is_the_one_the_settings_name_or_signs_in(
    staff: Client, doors: Doors, settings: Settings
) -> None:
    settings.KITE_USER_ID = "AB1234"
    text = words(staff.post("/kite/", {"pasted": doors.request_token()}, follow=True))
    assert "this desk trades in AB1234" in text
    PinnedAccount.objects.all().delete()
    settings.KITE_USER_ID = ""
    staff.post("/kite/", {"pasted": doors.request_token()})
    pinned = PinnedAccount.objects.get()
    assert (pinned.account, pinned.by) == ("SIM001", "owner")


def test_only_who_may_changes_the_account(client: Client, doors: Doors) -> None:
    guest = User.objects.create_user("guest", password="correct horse battery", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="sign_in_broker"))
    client.force_login(guest)
    assert "/kite/account/" not in client.get("/kite/").content.decode()
    assert client.get("/kite/account/").status_code == 403


def test_it_shows_the_link_and_how_the_token_stands(
    staff: Client, doors: Doors, set_market: Callable[..., None]
) -> None:
    page = staff.get("/kite/")
    assert html.escape(kite_login.login_url(kite_config())) in page.content.decode()
    assert "There is no token." in words(page)
    kite_token().save("token", held.KITE_USER_ID)
    text = words(staff.get("/kite/"))
    assert "The token of the day is here. It is good until Tue 06:00 IST." in text
    assert "Account SIM001 Held to SIM001 Obtained just now" in text
    kite_token().refuse(MORNING.date())
    assert "No trading today." in words(staff.get("/kite/"))
    set_market(MORNING + dt.timedelta(days=1))
    assert "The token is over. It was good until 06:00 IST" in words(staff.get("/kite/"))
    assert doors.seen == []  # looking costs no call


def test_coming_back_changes_nothing_until_it_is_confirmed(staff: Client, doors: Doors) -> None:
    notices.notify("infrastructure", "critical", "job:token-refresh", "no token")
    kite_token().refuse(MORNING.date())
    token = doors.request_token()
    shown = staff.get(f"/kite/redirect?action=login&status=success&request_token={token}")
    assert "You came back from the broker" in words(shown)
    assert f'name="pasted" value="{token}"' in shown.content.decode()
    assert doors.seen == [] and kite_token().current() == ""
    assert staff.post(f"/kite/redirect?request_token={token}").status_code == 405
    done = staff.post("/kite/", {"pasted": token}, follow=True)
    assert "Signed in as SIM001." in words(done)
    assert doors.sessions.is_valid(held.KITE_API_KEY, kite_token().current())
    assert not kite_token().is_refused_on(MORNING.date())
    assert not Notice.objects.filter(resolved_at__isnull=True).exists()


def test_a_whole_address_can_be_pasted(staff: Client, doors: Doors) -> None:
    pasted = f" {held.KITE_REDIRECT_URL}?status=success&request_token={doors.request_token()} "
    assert "Signed in as SIM001." in words(staff.post("/kite/", {"pasted": pasted}, follow=True))


def test_what_is_not_taken_is_said(staff: Client, doors: Doors) -> None:
    def post(pasted: str) -> str:
        return words(staff.post("/kite/", {"pasted": pasted}, follow=True))

    assert "That is no request token; paste the whole address" in post("<script>")
    assert "It serves once and for a few minutes" in post("a0b1c2d3e4f5")
    doors.faults.put("unavailable")
    assert "No answer" in post(doors.request_token())
    back = staff.get("/kite/redirect?status=cancelled&request_token=abc123", follow=True)
    assert "The broker says that the login ended as 'cancelled'." in words(back)
    back = staff.get("/kite/redirect", follow=True)
    assert "That is no request token" in words(back)
    assert kite_token().current() == ""


def test_the_broker_can_be_asked(staff: Client, doors: Doors) -> None:
    def ask() -> str:
        return words(staff.post("/kite/", {"act": "ask"}, follow=True))

    assert "The broker does not take the token." in ask()
    kite_token().save(doors.sessions.issue(), held.KITE_USER_ID)
    assert "The broker takes the token." in ask()
    doors.faults.put("reset")
    assert "The broker did not answer: ConnectionError." in ask()


def test_forms_need_the_csrf_token(doors: Doors) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("owner", password="correct horse battery"))
    assert strict.post("/kite/", {"pasted": doors.request_token()}).status_code == 403


def test_without_keys_it_says_which(staff: Client, doors: Doors, settings: Settings) -> None:
    settings.KITE_API_KEY = ""
    assert "Set KITE_API_KEY and KITE_API_SECRET" in words(staff.get("/kite/"))


def test_it_is_a_page_like_the_others(staff: Client, doors: Doors) -> None:
    answer = staff.get(f"/kite/redirect?request_token={doors.request_token()}")
    assert "script-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert "no-store" in answer["Cache-Control"]
    page = Page(answer.content.decode())
    assert page.inline == []
    assert sorted(set(page.ids)) == sorted(page.ids)
    assert set(page.anchors) <= set(page.ids)
    assert clock.market() == MORNING
