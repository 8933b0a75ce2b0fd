"""Signing in: the lock after five, the second factor, and nobody who slips past it."""

import re
import time
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings

from tests.monitoring import desks
from tests.monitoring.dashboard.pages import PASSWORD, words
from tradingsite.access import codes
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)

KEY = "31" * 20


@pytest.fixture
def owner() -> User:
    return User.objects.create_superuser("owner", password=PASSWORD)


@pytest.fixture
def phone(owner: User) -> TOTPDevice:
    return TOTPDevice.objects.create(user=owner, key=KEY, name="phone")


def code(steps: int = 0) -> str:
    """Return what the phone shows, so many steps from now."""
    shown = TOTP(bytes.fromhex(KEY))
    shown.time = time.time() + 30 * steps
    return f"{shown.token():06d}"


def sign_in(client: Client, password: str = PASSWORD, name: str = "owner", **extra: Any) -> Any:
    return client.post("/login/", {"username": name, "password": password, "next": "/"}, **extra)


def test_five_wrong_passwords_lock_the_address_for_a_while_and_tell_the_owner(
    client: Client, owner: User
) -> None:
    assert [sign_in(client, "a guess").status_code for _ in range(4)] == [200] * 4
    locked = sign_in(client, "a guess")
    assert locked.status_code == 429 and locked["Retry-After"] == "900"
    assert "Locked for a while" in words(locked) and "manage.py halt --all" in words(locked)
    assert sign_in(client).status_code == 429  # the right one gets the same words
    notice = Notice.objects.get()
    assert (notice.severity, "'owner' from 127.0.0.1" in notice.text) == ("critical", True)
    # From elsewhere the owner gets in; a guesser somewhere locks nobody out.
    elsewhere = Client(REMOTE_ADDR="192.0.2.7")
    assert sign_in(elsewhere).status_code == 302
    AccessAttempt.objects.update(attempt_time="2026-01-01T00:00:00Z")
    assert sign_in(client).status_code == 302  # it ends by itself


def test_a_good_sign_in_starts_the_count_anew(client: Client, owner: User) -> None:
    for _ in range(3):
        for _ in range(4):
            assert sign_in(client, "a guess").status_code == 200
        assert sign_in(client).status_code == 302


def test_the_count_is_of_the_client_and_not_of_the_proxy(
    client: Client, owner: User, settings: Settings
) -> None:
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    for number in range(5):  # what a client writes itself changes nothing
        headers = {"X-Forwarded-For": f"10.0.0.{number}, 203.0.113.9"}
        answer = sign_in(client, "a guess", headers=headers)
    assert answer.status_code == 429
    assert sign_in(client, headers={"X-Forwarded-For": "203.0.113.10"}).status_code == 302


def test_guessing_names_fills_one_notice(client: Client, owner: User) -> None:
    for name in ("root", "admin"):
        for _ in range(5):
            sign_in(client, "a guess", name)
    notice = Notice.objects.get()
    assert (notice.severity, notice.count) == ("warning", 2)


def test_who_has_a_phone_is_asked_for_its_code_everywhere(
    client: Client, phone: TOTPDevice
) -> None:
    assert sign_in(client).status_code == 302
    for address in ("/", "/you/", "/trading/", "/trading/btc/halt/", "/admin/", "/kite/"):
        sent = client.get(address)
        assert (sent.status_code, sent["Location"]) == (302, f"/login/code/?next={address}")
    assert client.post("/trading/btc/halt/", {"password": PASSWORD}).status_code == 302
    assert client.get("/healthz").status_code == 200
    text = words(client.get("/login/code/"))
    assert "The code of your phone" in text
    wrong = client.post("/login/code/", {"code": "000000"})
    assert wrong.status_code == 400 and "That is not the code" in words(wrong)
    TOTPDevice.objects.update(throttling_failure_count=0)
    # One device and its code are enough: no device has to be named.
    done = client.post("/login/code/", {"code": code(), "next": "/trading/"})
    assert (done.status_code, done["Location"]) == (302, "/trading/")
    assert client.get("/trading/").status_code == 200
    TOTPDevice.objects.all().delete()
    TOTPDevice.objects.create(user=phone.user, key="32" * 20, name="another")
    assert client.get("/trading/").status_code == 302  # the phone that let this session in is gone


def test_a_code_serves_once_and_leads_nowhere_else(client: Client, phone: TOTPDevice) -> None:
    shown = code()
    sign_in(client)
    done = client.post("/login/code/", {"code": shown, "next": "https://elsewhere.example/"})
    assert done["Location"] == "/"
    again = Client()
    sign_in(again)
    assert again.post("/login/code/", {"code": shown}).status_code == 400


def test_five_wrong_codes_sign_out_and_lock(client: Client, phone: TOTPDevice) -> None:
    sign_in(client)
    answers = [client.post("/login/code/", {"code": "000000"}).status_code for _ in range(5)]
    assert answers == [400] * 4 + [429]
    assert "/login/" in client.get("/trading/btc/halt/")["Location"]
    sign_in(client)
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert "Locked for a while" in words(client.post("/login/code/", {"code": code()}))
    assert Notice.objects.get(severity="critical").key.startswith("access:once-more")


@pytest.mark.parametrize("where", ["live", "public"])
def test_where_money_moves_or_others_reach_it_nobody_is_in_without_a_second_factor(
    client: Client, owner: User, settings: Settings, where: str
) -> None:
    if where == "live":
        settings.MODE = "live"
    else:
        settings.PUBLIC_HOSTS = ["desk.example.in"]
    sign_in(client)
    assert client.get("/trading/")["Location"] == "/login/code/?next=/trading/"
    assert client.get("/you/phone/").status_code == 302  # a stolen password sets up no phone
    text = words(client.get("/login/code/"))
    assert "manage.py firstuser --code --user owner" in text
    let_in = client.post("/login/code/", {"code": codes.print_code(owner)})
    assert let_in["Location"] == "/you/phone/"
    assert client.get("/trading/").status_code == 200


def test_a_phone_is_set_up_on_the_page(client: Client, owner: User) -> None:
    client.force_login(owner)
    page = client.get("/you/phone/")
    typed = re.search(r'class="key">([A-Z2-7 ]+)<', page.content.decode())
    assert typed is not None and not TOTPDevice.objects.exists()
    session = client.session
    session["phone_key"] = KEY
    session.save()
    asked = {"code": code(), "password": "a guess", "reason": "my phone"}
    assert client.post("/you/phone/", asked).status_code == 400
    wrong = client.post("/you/phone/", asked | {"password": PASSWORD, "code": "000000"})
    assert "does not fit the key" in words(wrong) and not TOTPDevice.objects.exists()
    done = client.post("/you/phone/", asked | {"password": PASSWORD}, follow=True)
    assert "Your phone is the second factor" in words(done)
    assert TOTPDevice.objects.get().confirmed
    assert client.get("/trading/").status_code == 200  # this session has shown it already
    assert "set up a phone" in Notice.objects.get().text


def test_a_code_stands_for_the_password_once_more(
    client: Client, phone: TOTPDevice, owner: User
) -> None:
    sign_in(client)
    client.post("/login/code/", {"code": code()})
    again = code()  # used at the sign-in
    asked = {"reason": "a spike", "password": again}
    assert client.post("/trading/btc/halt/", asked).status_code == 400
    asked["password"] = codes.print_code(owner)
    assert client.post("/trading/btc/halt/", asked).status_code == 302
    TOTPDevice.objects.update(throttling_failure_count=0)
    assert client.post("/trading/btc/halt/", asked | {"password": code(1)}).status_code == 302


def test_the_old_address_leads_to_the_one_page_to_sign_in_at(client: Client) -> None:
    sent = client.get("/admin/", follow=True)
    assert sent.redirect_chain[-1][0] == "/login/?next=%2Fadmin%2F"
    assert "Sign in" in words(sent) and "unsafe" not in sent["Content-Security-Policy"]
    assert client.get("/logout/").status_code == 405
