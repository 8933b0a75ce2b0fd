"""The broker's day token: the file, the headless login, and the login by a person."""

import datetime as dt
import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from markets.simulator import credentials as held
from markets.venues.kite import login as kite_login
from markets.venues.kite.login import LoginRefused, LoginUnavailable
from markets.venues.kite.token import KiteConfig, TokenStore
from tests.markets.simulator.doors import Doors
from tradingsite import clock


@pytest.fixture
def doors() -> Iterator[Doors]:
    with Doors().open() as opened:
        yield opened


def config_of(doors: Doors) -> KiteConfig:
    return KiteConfig(
        api_key=held.KITE_API_KEY,
        api_secret=held.KITE_API_SECRET,
        user_id=held.KITE_USER_ID,
        password=held.KITE_PASSWORD,
        totp_secret=held.KITE_TOTP_SECRET,
        root=doors.url,
        login_root=doors.url,
    )


@pytest.fixture
def jumps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waits for the next code pass at once, for both sides; return how long they were."""
    waits: list[float] = []
    began = clock.real()

    def jump(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(clock, "real", lambda: began + dt.timedelta(seconds=sum(waits)))
    monkeypatch.setattr(kite_login, "sleep", jump)
    return waits


# --- The file ------------------------------------------------------------------------------------


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    kept = TokenStore(tmp_path / "secrets" / "kite_token.json")
    assert (kept.current(), kept.age) == ("", None)
    kept.save("day token", "AB1234")
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.path.parent.stat().st_mode) == 0o700
    assert list(kept.path.parent.iterdir()) == [kept.path]
    assert kept.age is not None and kept.age < dt.timedelta(seconds=5)
    assert "day token" not in repr(kept.state())


def test_a_running_service_has_the_new_token_at_its_next_look(tmp_path: Path) -> None:
    reader, writer = TokenStore(tmp_path / "t.json"), TokenStore(tmp_path / "t.json")
    assert reader.current() == ""
    for token in ("first", "second", "third"):
        writer.save(token, "AB1234")
        assert reader.current() == token
    writer.forget()
    assert reader.current() == ""


def test_looking_again_costs_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = TokenStore(tmp_path / "t.json")
    kept.save("token", "AB1234")
    assert kept.current() == "token"
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("read again"))
    assert kept.current() == "token"


def test_a_damaged_file_is_no_token(tmp_path: Path) -> None:
    kept = TokenStore(tmp_path / "t.json")
    kept.save("token", "AB1234")
    kept.path.write_text('{"token": "half')
    assert kept.current() == ""
    kept.path.write_text('{"unknown": 1}')
    assert kept.current() == ""
    kept.save("token", "AB1234")
    assert kept.current() == "token"


def test_a_refusal_lasts_a_day_or_until_somebody_signs_in(tmp_path: Path) -> None:
    kept, day = TokenStore(tmp_path / "t.json"), dt.date(2026, 6, 1)
    kept.save("of yesterday", "AB1234")
    kept.refuse(day)
    assert kept.is_refused_on(day) and not kept.is_refused_on(day + dt.timedelta(days=1))
    assert kept.current() == "of yesterday"  # reading may still go on with it
    kept.save("of today", "AB1234")
    assert not kept.is_refused_on(day)


def test_a_token_dies_at_six_in_the_morning_of_the_market(
    tmp_path: Path, set_market: Callable[[dt.datetime], None]
) -> None:
    kept = TokenStore(tmp_path / "t.json")
    assert kept.state().dies_at is None
    for hour, dies_on in ((5, 1), (9, 2), (23, 2)):
        set_market(dt.datetime(2026, 6, 1, hour, 59, tzinfo=clock.IST))
        kept.save("token", "AB1234")
        assert kept.state().dies_at == dt.datetime(2026, 6, dies_on, 6, tzinfo=clock.IST)


# --- The headless login --------------------------------------------------------------------------


def test_it_signs_in_though_nobody_listens_at_the_redirect(doors: Doors) -> None:
    config = config_of(doors)
    token, user = kite_login.login_headless(config)
    assert user == held.KITE_USER_ID
    assert kite_login.client(config, token).profile() == {"user_id": held.KITE_USER_ID}
    assert doors.seen[:-1] == [
        "POST /api/login",
        "POST /api/twofa",
        "GET /connect/login",
        "GET /connect/login",
        "GET /connect/finish",
        "POST /session/token",
    ]


def test_what_the_site_calls_the_second_factor_is_sent_back(doors: Doors) -> None:
    doors.sessions.twofa_type = "app_code"
    assert kite_login.login_headless(config_of(doors))[1] == held.KITE_USER_ID


def test_a_wrong_password_is_sent_once(doors: Doors) -> None:
    config = replace(config_of(doors), password="wrong")
    with pytest.raises(LoginRefused, match="/api/login: Invalid username or password"):
        kite_login.login_headless(config)
    assert doors.sessions.logins == 1 and doors.codes_sent == 0


def test_a_code_that_was_used_is_followed_by_that_of_the_next_window(
    doors: Doors, jumps: list[float]
) -> None:
    config = config_of(doors)
    kite_login.login_headless(config)
    kite_login.login_headless(config)
    assert doors.codes_sent == 3
    assert len(jumps) == 1 and 0.0 <= jumps[0] <= 30.0


def test_a_wrong_secret_costs_two_codes_and_no_more(doors: Doors, jumps: list[float]) -> None:
    config = replace(config_of(doors), totp_secret="KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU")
    with pytest.raises(LoginRefused, match="Invalid TOTP"):
        kite_login.login_headless(config)
    assert (doors.sessions.logins, doors.codes_sent) == (1, 2)
    with pytest.raises(LoginRefused, match="not the base32 text") as caught:
        kite_login.login_headless(replace(config, totp_secret="not/base32/at/all"))
    assert "not/base32" not in str(caught.value)


def test_a_page_instead_of_data_may_be_maintenance(doors: Doors) -> None:
    doors.faults.put("changed_page")
    with pytest.raises(LoginUnavailable, match="a page instead of data"):
        kite_login.login_headless(config_of(doors))
    doors.faults.put("unavailable", match="/api/twofa")
    with pytest.raises(LoginUnavailable, match="/api/twofa answered HTTP 503"):
        kite_login.login_headless(config_of(doors))
    assert doors.sessions.logins == 1


def test_a_captcha_is_for_a_person(doors: Doors) -> None:
    doors.faults.put("captcha")
    with pytest.raises(LoginRefused, match="solve the captcha"):
        kite_login.login_headless(config_of(doors))


def test_a_page_at_the_end_of_the_redirects_is_for_a_person(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors.sessions, "_sign_in", lambda response: None)
    with pytest.raises(LoginRefused, match="sign in by hand at the login link"):
        kite_login.login_headless(config_of(doors))


def test_a_broker_that_is_away_is_asked_later(doors: Doors) -> None:
    config = replace(config_of(doors), login_root="http://127.0.0.1:1")
    with pytest.raises(LoginUnavailable, match=r"no answer of 127\.0\.0\.1: ConnectionError"):
        kite_login.login_headless(config)
    doors.faults.put("reset", match="/session/token")
    with pytest.raises(LoginUnavailable, match="ConnectionError"):
        kite_login.login_headless(config_of(doors))


def test_without_its_secrets_it_says_which_are_missing() -> None:
    with pytest.raises(LoginRefused, match="needs KITE_USER_ID, KITE_PASSWORD, KITE_TOTP_SECRET"):
        kite_login.login_headless(KiteConfig("key", "secret"))


# --- The login by a person -----------------------------------------------------------------------


def test_what_a_person_pastes() -> None:
    address = "https://desk.example/kite/redirect?action=login&status=success&request_token=abc123"
    assert kite_login.request_token_in(f"  {address}&type=login\n") == "abc123"
    assert kite_login.request_token_in("/?request_token=abc123") == "abc123"
    assert kite_login.request_token_in("abc123") == "abc123"
    with pytest.raises(LoginRefused, match="ended as 'cancelled'"):
        kite_login.request_token_in("/?status=cancelled&request_token=abc123")
    for nothing in ("", "https://desk.example/kite/redirect", "two words", "abc<script>"):
        with pytest.raises(LoginRefused, match="no request token; paste the whole address"):
            kite_login.request_token_in(nothing)


def test_a_request_token_serves_once(doors: Doors) -> None:
    config = config_of(doors)
    token = doors.request_token()
    assert kite_login.exchange_request_token(config, token)[1] == held.KITE_USER_ID
    with pytest.raises(LoginRefused, match="serves once and for a few minutes"):
        kite_login.exchange_request_token(config, token)
    with pytest.raises(LoginRefused, match="Invalid `checksum`"):
        kite_login.exchange_request_token(replace(config, api_secret="wrong"), token)


def test_the_link_is_that_of_the_library() -> None:
    config = KiteConfig(held.KITE_API_KEY, held.KITE_API_SECRET)
    assert kite_login.login_url(config) == kite_login.client(config).login_url()


def test_secrets_are_not_shown_by_repr(doors: Doors) -> None:
    shown = repr(config_of(doors))
    assert held.KITE_API_KEY in shown
    for secret in (held.KITE_API_SECRET, held.KITE_PASSWORD, held.KITE_TOTP_SECRET):
        assert secret not in shown
