"""Signing in at the simulated broker, by requests, pyotp and kiteconnect as they are."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
from kiteconnect import KiteConnect
from kiteconnect.exceptions import DataException, InputException, TokenException

from markets.simulator import credentials as held
from tests.markets.simulator.doors import MORNING, UNREACHABLE, Doors, code

SECONDS = 1_780_000_000.0


@pytest.fixture
def doors() -> Iterator[Doors]:
    with Doors().open() as opened:
        yield opened


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the clock of codes and request tokens."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr("markets.simulator.kite.sessions._real", lambda: seconds)

    set_to(SECONDS)
    return set_to


def kite(doors: Doors, token: str | None = None) -> KiteConnect:
    client = KiteConnect(held.KITE_API_KEY, token, root=doors.url)
    client._default_login_uri = f"{doors.url}/connect/login"
    return client


class Browser:
    """Sign in as a browser does, one step at a time."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors
        self.session = requests.Session()

    def password(self, password: str = held.KITE_PASSWORD) -> requests.Response:
        form = {"user_id": held.KITE_USER_ID, "password": password}
        return self.session.post(f"{self.doors.url}/api/login", data=form)

    def twofa(self, first: requests.Response, value: str, **other: str) -> requests.Response:
        data = first.json()["data"]
        form = {
            "user_id": data["user_id"],
            "request_id": data["request_id"],
            "twofa_type": data["twofa_type"],
            "twofa_value": value,
            **other,
        }
        return self.session.post(f"{self.doors.url}/api/twofa", data=form)

    def sign_in(self, value: str) -> None:
        assert self.twofa(self.password(), value).json()["status"] == "success"

    def hops(self) -> list[str]:
        """Follow the redirects by hand; return every address they named."""
        address, found = kite(self.doors).login_url(), []
        while address.startswith(self.doors.url):
            answer = self.session.get(address, allow_redirects=False)
            if answer.status_code != 302:
                break
            address = urljoin(address, answer.headers["Location"])
            found.append(address)
        return found

    def request_token(self) -> str:
        query = parse_qs(urlsplit(self.hops()[-1]).query)
        assert query["status"] == ["success"]
        return query["request_token"][0]


def test_a_login_ends_in_a_token_that_opens_the_account(doors: Doors) -> None:
    browser = Browser(doors)
    browser.sign_in(code())
    assert {"kf_session", "enctoken", "public_token", "user_id"} <= set(
        browser.session.cookies.keys()
    )
    hops = browser.hops()
    assert [urlsplit(hop).path for hop in hops] == [
        "/connect/login",
        "/connect/finish",
        "/kite/redirect",
    ]
    assert hops[-1].startswith(UNREACHABLE)
    client = kite(doors)
    session = client.generate_session(
        parse_qs(urlsplit(hops[-1]).query)["request_token"][0], held.KITE_API_SECRET
    )
    assert session["user_id"] == held.KITE_USER_ID
    assert session["login_time"] == MORNING.replace(tzinfo=None)
    assert client.profile() == {"user_id": held.KITE_USER_ID}


def test_automatic_redirects_end_at_the_unreachable_host(doors: Doors) -> None:
    browser = Browser(doors)
    browser.sign_in(code())
    with pytest.raises(requests.ConnectionError):
        browser.session.get(kite(doors).login_url())


def test_a_wrong_password_is_refused_and_some_of_them_lock_the_account(doors: Doors) -> None:
    browser = Browser(doors)
    for _ in range(5):
        answer = browser.password("wrong")
        assert answer.status_code == 403
        assert answer.json() == {
            "status": "error",
            "message": "Invalid username or password.",
            "error_type": "UserException",
            "data": None,
        }
    assert "locked" in browser.password().json()["message"]
    assert doors.sessions.logins == 6


def test_a_wrong_code_is_refused(doors: Doors) -> None:
    browser = Browser(doors)
    answer = browser.twofa(browser.password(), "000000")
    assert answer.status_code == 403
    assert (answer.json()["error_type"], answer.json()["message"]) == (
        "TwoFAException",
        "Invalid TOTP.",
    )
    assert "enctoken" not in browser.session.cookies


def test_a_code_is_taken_once_in_its_window_and_the_next(
    doors: Doors, real: Callable[[float], None]
) -> None:
    browser = Browser(doors)
    this, before, long_ago = code(SECONDS), code(SECONDS - 30), code(SECONDS - 60)
    assert browser.twofa(browser.password(), long_ago).status_code == 403
    assert browser.twofa(browser.password(), before).status_code == 200
    assert browser.twofa(browser.password(), before).status_code == 403
    assert browser.twofa(browser.password(), this).status_code == 200
    assert browser.twofa(browser.password(), this).status_code == 403
    real(SECONDS + 30)
    assert browser.twofa(browser.password(), this).status_code == 403
    assert browser.twofa(browser.password(), code(SECONDS + 30)).status_code == 200


def test_the_second_step_belongs_to_its_first(doors: Doors) -> None:
    browser, stranger = Browser(doors), Browser(doors)
    first = browser.password()
    assert stranger.twofa(first, code()).status_code == 403
    doors.sessions.twofa_type = "app_code"
    assert browser.twofa(first, code(), twofa_type="totp").status_code == 400
    assert browser.twofa(first, code(), twofa_type="app_code").status_code == 200
    assert browser.twofa(first, code(), twofa_type="app_code").status_code == 403


def test_a_request_token_is_good_once_and_for_three_minutes(
    doors: Doors, real: Callable[[float], None]
) -> None:
    browser = Browser(doors)
    browser.sign_in(code(SECONDS))
    client = kite(doors)
    token = browser.request_token()
    client.generate_session(token, held.KITE_API_SECRET)
    with pytest.raises(TokenException, match="invalid or has expired"):
        client.generate_session(token, held.KITE_API_SECRET)
    late = browser.request_token()
    real(SECONDS + 181)
    with pytest.raises(TokenException, match="invalid or has expired"):
        client.generate_session(late, held.KITE_API_SECRET)
    with pytest.raises(TokenException, match="checksum"):
        client.generate_session(browser.request_token(), "another secret")


def test_a_new_login_ends_the_token_before_it(doors: Doors) -> None:
    first = kite(doors, doors.sessions.issue())
    first.profile()
    second = kite(doors, doors.sessions.issue())
    second.profile()
    with pytest.raises(TokenException, match="Incorrect `api_key` or `access_token`"):
        first.profile()
    assert second.invalidate_access_token() is True
    with pytest.raises(TokenException):
        second.profile()


def test_a_token_dies_at_six_in_the_morning(doors: Doors) -> None:
    client = kite(doors, doors.sessions.issue())
    doors.at = MORNING + dt.timedelta(hours=20, minutes=59)
    client.profile()
    doors.at += dt.timedelta(minutes=1)
    with pytest.raises(TokenException):
        client.profile()
    doors.at = MORNING.replace(hour=5, minute=59)
    client = kite(doors, doors.sessions.issue())
    doors.at = MORNING.replace(hour=6)
    with pytest.raises(TokenException):
        client.profile()


def test_a_token_outlives_the_simulator_that_has_a_home(tmp_path: Path) -> None:
    token = Doors(home=tmp_path / "kite").sessions.issue()
    second = Doors(home=tmp_path / "kite").sessions
    assert second.is_valid(held.KITE_API_KEY, token)
    assert not second.is_valid("another key", token)
    second.expire()
    assert not Doors(home=tmp_path / "kite").sessions.is_valid(held.KITE_API_KEY, token)


def test_faults_of_the_login(doors: Doors) -> None:
    browser = Browser(doors)
    doors.faults.put("changed_page")
    assert "text/html" in browser.password().headers["Content-Type"]
    doors.faults.put("captcha")
    assert "captcha" in browser.password().json()["message"]
    client = kite(doors, doors.sessions.issue())
    hooks: list[str] = []
    client.set_session_expiry_hook(lambda: hooks.append("expired"))
    doors.faults.put("token_expired")
    with pytest.raises(TokenException):
        client.profile()
    assert hooks == ["expired"]
    doors.faults.put("not_json")
    with pytest.raises(DataException):
        client.profile()


def test_a_person_signs_in_with_a_form(doors: Doors) -> None:
    session = requests.Session()
    page = session.get(kite(doors).login_url())
    assert page.status_code == 200 and "<form" in page.text
    form = {
        "sess_id": page.text.split('name="sess_id" value="')[1].split('"')[0],
        "user_id": held.KITE_USER_ID,
        "password": held.KITE_PASSWORD,
        "totp": "000000",
    }
    wrong = session.post(f"{doors.url}/connect/login", data=form)
    assert wrong.status_code == 403 and "Invalid TOTP." in wrong.text
    form["totp"] = code()
    answer = session.post(f"{doors.url}/connect/login", data=form, allow_redirects=False)
    answer = session.get(doors.url + answer.headers["Location"], allow_redirects=False)
    token = parse_qs(urlsplit(answer.headers["Location"]).query)["request_token"][0]
    kite(doors).generate_session(token, held.KITE_API_SECRET)


def test_what_is_not_signed_in_goes_no_further(doors: Doors) -> None:
    session = requests.Session()
    assert session.get(f"{doors.url}/connect/finish").status_code == 403
    assert session.get(f"{doors.url}/connect/login?api_key=other").status_code == 400
    with pytest.raises(TokenException):
        kite(doors, "never issued").profile()
    other = KiteConnect("otherkey", root=doors.url)
    with pytest.raises(InputException):
        other.generate_session("x", held.KITE_API_SECRET)
