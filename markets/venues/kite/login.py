"""Signing in at the broker: by a person's click, or with stored secrets where the owner chose so.

The official part is the end: a request token, which the broker hands to the registered address, is
changed into the access token of the day. The steps before it are the site's own pages, which may
change any day, so whatever looks different is an error and never a guess. Nothing here tries a
password twice: an account that is locked cannot be traded by hand either.
"""

from __future__ import annotations

import re
from time import sleep
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import requests

from markets.venues import lean_import, own_simulator
from markets.venues.kite.token import KiteConfig
from tradingsite import clock
from tradingsite.errors import Degraded, Retry

# kiteconnect brings Twisted along and pyotp is needed once a day: both are imported where used.

TIMEOUT_SECONDS = 10.0
TOTP_SECONDS = 30.0
HOPS = 6
API_VERSION = 3
_TOKEN = re.compile(r"[A-Za-z0-9_-]{6,128}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BAD_GATEWAY = 500


class LoginUnavailable(Retry):
    """The broker did not answer, or answered with an error of its own: try again later."""


class LoginRefused(Degraded):
    """The broker said no, or wants what only a person can give: trying again would not help."""


def client(config: KiteConfig, token: str = "") -> Any:
    """Return a KiteConnect for one thread.

    Its debug mode, which logs tokens, stays off, and an order that is redirected is not sent again.
    `answered_with` is the HTTP status of its last answer, which its own errors lose.
    """
    KiteConnect = lean_import.module("kiteconnect.connect").KiteConnect

    own_simulator.ensure(config.root, config.desk)
    kite = KiteConnect(config.api_key, token or None, root=config.root)
    kite.reqsession.max_redirects = 0
    own_simulator.guard(kite.reqsession, config.root, config.desk)
    kite.answered_with = 0

    def note(response: Any, **_: Any) -> None:
        kite.answered_with = response.status_code

    kite.reqsession.hooks["response"].append(note)
    return kite


def login_url(config: KiteConfig) -> str:
    """Return the link at which a person signs in, as the client makes it, but without the client.

    A page that only shows the link need not load Twisted.
    """
    return f"{config.login_page}?{urlencode({'api_key': config.api_key, 'v': API_VERSION})}"


def request_token_in(pasted: str) -> str:
    """Return the request token in what a person pasted: itself, or the address they came back to.

    Raises LoginRefused with the reason where there is none.
    """
    text = pasted.strip()
    if "request_token" in text:
        query = parse_qs(urlsplit(text).query)
        if query.get("status", ["success"]) != ["success"]:
            raise LoginRefused(f"the broker says that the login ended as {query['status'][0]!r}")
        text = query.get("request_token", [""])[0]
    if not _TOKEN.fullmatch(text):
        raise LoginRefused(
            "that is no request token; paste the whole address that the browser ended at"
        )
    return text


def exchange_request_token(config: KiteConfig, request_token: str) -> tuple[str, str]:
    """Return the access token and the user for a request token, which is used up by this."""
    known = lean_import.module("kiteconnect.exceptions")

    try:
        session = client(config).generate_session(request_token, config.api_secret)
    except (known.TokenException, known.InputException) as error:
        raise LoginRefused(
            f"the broker does not take the request token: {error}. It serves once and for a few "
            f"minutes; open the login link again"
        ) from None
    except (requests.RequestException, known.KiteException, KeyError) as error:
        raise LoginUnavailable(_trouble(error)) from None
    return str(session["access_token"]), str(session["user_id"])


def login_headless(config: KiteConfig) -> tuple[str, str]:
    """Sign in with the stored password and TOTP secret; return the access token and the user.

    One password is sent, at most two codes (the second in the next window, up to 30 s later, as a
    code serves once), and at most six redirects are followed.
    """
    missing = [
        name
        for name in ("api_key", "api_secret", "user_id", "password", "totp_secret")
        if not getattr(config, name)
    ]
    if missing:
        names = ", ".join(f"KITE_{name.upper()}" for name in missing)
        raise LoginRefused(f"the headless login needs {names}")
    own_simulator.ensure(config.login_root, config.desk)
    with requests.Session() as session:
        own_simulator.guard(session, config.login_root, config.desk)
        first = _post(
            session,
            config,
            "/api/login",
            {"user_id": config.user_id, "password": config.password},
        )
        _second_factor(session, config, first)
        token = _follow(session, config)
    return exchange_request_token(config, token)


def _second_factor(session: requests.Session, config: KiteConfig, first: dict[str, Any]) -> None:
    form = {
        "user_id": config.user_id,
        "request_id": str(first.get("request_id", "")),
        "twofa_type": str(first.get("twofa_type", "")),  # accounts differ, so it is sent back
    }
    if not form["request_id"]:
        raise LoginRefused("the login's first step answered without a request_id: the site changed")
    window = _window()
    try:
        _post(session, config, "/api/twofa", {**form, "twofa_value": _code(config, window)})
    except LoginRefused:
        _wait_for(window + 1)
        _post(session, config, "/api/twofa", {**form, "twofa_value": _code(config, window + 1)})


def _follow(session: requests.Session, config: KiteConfig) -> str:
    """Return the request token from the redirects; the address they end at is never called.

    Often nothing listens there, and whatever does must not use the token up.
    """
    address = login_url(config)
    home = urlsplit(address).netloc
    for _ in range(HOPS):
        try:
            answer = session.get(address, allow_redirects=False, timeout=TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise LoginUnavailable(_trouble(error)) from None
        if answer.status_code not in _REDIRECTS:
            break
        address = urljoin(address, answer.headers.get("Location", ""))
        if "request_token=" in urlsplit(address).query:
            return request_token_in(address)
        if urlsplit(address).netloc != home:
            break
    else:
        raise LoginRefused(f"the login's redirects did not end after {HOPS}: the site changed")
    if answer.status_code >= _BAD_GATEWAY:
        raise LoginUnavailable(f"the login's redirects ended in HTTP {answer.status_code}")
    raise LoginRefused(
        "the login's redirects ended without a request token. The site may have changed, or wants "
        "the app authorised once: sign in by hand at the login link"
    )


def _post(
    session: requests.Session, config: KiteConfig, path: str, form: dict[str, str]
) -> dict[str, Any]:
    address = urljoin(config.login_root, path)
    try:
        answer = session.post(address, data=form, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise LoginUnavailable(_trouble(error)) from None
    if answer.status_code >= _BAD_GATEWAY:
        raise LoginUnavailable(f"{path} answered HTTP {answer.status_code}")
    try:
        body = answer.json()
        if body["status"] == "success":
            return dict(body.get("data") or {})
        message = str(body.get("message") or body.get("error_type") or "no reason given")
    except (ValueError, KeyError, TypeError):
        raise LoginUnavailable(
            f"{path} answered HTTP {answer.status_code} with a page instead of data: maintenance, "
            f"or the site changed"
        ) from None
    raise LoginRefused(f"the broker refused {path}: {message}")


def _code(config: KiteConfig, window: int) -> str:
    import pyotp

    try:
        return pyotp.TOTP(config.totp_secret).at(int(window * TOTP_SECONDS))
    except ValueError:
        # The library's message may quote what it could not decode.
        raise LoginRefused("KITE_TOTP_SECRET is not the base32 text the broker showed") from None


def _window() -> int:
    return int(clock.real().timestamp() // TOTP_SECONDS)


def _wait_for(window: int) -> None:
    wait = window * TOTP_SECONDS - clock.real().timestamp()
    sleep(max(0.0, wait))


def _trouble(error: Exception) -> str:
    """Say what kind of trouble it was, without the address: its query may hold a token."""
    where = ""
    request = getattr(error, "request", None)
    if request is not None:
        where = f" of {urlsplit(request.url).hostname}"
    return f"no answer{where}: {type(error).__name__}"
