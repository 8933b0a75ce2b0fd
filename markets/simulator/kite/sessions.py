"""How one signs in at the simulated broker: its pages, its request tokens, its access tokens.

The order of things is the real site's. `POST /api/login` takes the password, `POST /api/twofa` the
TOTP, and both answer with cookies. With those, `GET /connect/login` redirects step by step to the
registered address with a request token, and `POST /session/token` changes that, with a checksum
of the API secret, into the day's access token. People get a form at the same address instead.

Codes and request tokens live by real time; an access token dies at 06:00 IST of the market's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlencode

import pyotp
from aiohttp import web

from markets.simulator import credentials
from markets.simulator.faults import Faults
from markets.simulator.kite import login_page
from markets.simulator.kite.envelope import KiteError, answer, bad_input
from markets.simulator.world import World
from tradingsite import clock

LOGIN_FAULTS = {
    "changed_page": "the login answers with the HTML of a page that was redesigned",
    "captcha": "the login wants a captcha solved",
    "token_expired": "every access token dies at once",
}
REQUEST_TOKEN_SECONDS = 180.0
TOTP_SECONDS = 30
TOKENS_DIE_AT = dt.time(6)
# The real site locks an account after some wrong passwords; a client that loops must notice.
WRONG_PASSWORDS_ALLOWED = 5
SIGNED_IN, SITE_SESSION = "enctoken", "kf_session"

_FORBIDDEN = 403
_TOKEN_INCORRECT = "Incorrect `api_key` or `access_token`."  # noqa: S105 - a message


@dataclass(slots=True)
class _Attempt:
    """One login between its password and its TOTP."""

    site_session: str
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class _Access:
    """The account's one living access token."""

    token: str
    dies_at: float
    """Epoch seconds of the market's clock."""


class Sessions:
    """Sign the simulated account in and out, and say whose a request is."""

    def __init__(
        self, world: World, faults: Faults, redirect_url: str, home: Path | None = None
    ) -> None:
        """Take the market, the faults and the registered address.

        With a home, the access token outlives the process, as it outlives ours at the broker's.
        """
        self.world = world
        self.faults = faults
        self.redirect_url = redirect_url
        self.twofa_type = "totp"
        """What the account's second factor is called: clients have to send back what they got."""
        self.logins = 0
        """How many times a password was sent."""
        self._wrong_passwords = 0
        self._attempts: dict[str, _Attempt] = {}
        self._signed_in: set[str] = set()
        self._connects: set[str] = set()
        self._request_tokens: dict[str, float] = {}
        self._used_codes: set[int] = set()
        self._kept = home / "session.json" if home else None
        self._access = _restored(self._kept)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the login pages and of the session's API."""
        return [
            web.post("/api/login", self._on_password),
            web.post("/api/twofa", self._on_totp),
            web.get("/connect/login", self._on_connect),
            web.post("/connect/login", self._on_form),
            web.get("/connect/finish", self._on_finish),
            web.post("/session/token", self._on_exchange),
            web.delete("/session/token", self._on_logout),
        ]

    # --- For the other services of the simulator -------------------------------------------------

    def check(self, request: web.Request) -> str:
        """Return whose request it is; raise KiteError for one without a valid token."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        api_key, _, token = value.partition(":")
        if scheme != "token" or not self.is_valid(api_key, token):
            raise KiteError(_FORBIDDEN, "TokenException", _TOKEN_INCORRECT)
        return credentials.KITE_USER_ID

    def is_valid(self, api_key: str, access_token: str) -> bool:
        """Return whether a token opens the account now."""
        if self.faults.take("token_expired"):
            self.expire()
        access = self._access
        return (
            access is not None
            and api_key == credentials.KITE_API_KEY
            and access_token == access.token
            and self.world.now() < access.dies_at
        )

    def expire(self) -> None:
        """Let every access token die."""
        self._access = None
        if self._kept:
            self._kept.unlink(missing_ok=True)

    def issue(self) -> str:
        """Return a new access token without the pages; the one before it dies."""
        token = secrets.token_hex(16)
        self._access = _Access(token, _next_death(self.world.now()))
        if self._kept:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            self._kept.write_text(json.dumps(asdict(self._access)))
        return token

    # --- The site --------------------------------------------------------------------------------

    async def _on_password(self, request: web.Request) -> web.Response:
        if self.faults.take("changed_page"):
            return login_page.redesigned()
        if self.faults.take("captcha"):
            raise _refused("UserException", "Please solve the captcha to continue.")
        form = await request.post()
        self._check_password(str(form.get("user_id", "")), str(form.get("password", "")))
        request_id, site_session = secrets.token_hex(20), secrets.token_hex(16)
        self._attempts[request_id] = _Attempt(site_session)
        response = answer(
            {
                "user_id": credentials.KITE_USER_ID,
                "request_id": request_id,
                "twofa_type": self.twofa_type,
                "twofa_types": ["totp", "app_code"],
                "twofa_status": "active",
                "profile": {"user_name": "Simulated Owner", "user_shortname": "Simulated"},
            }
        )
        response.set_cookie(SITE_SESSION, site_session, httponly=True)
        return response

    async def _on_totp(self, request: web.Request) -> web.Response:
        form = await request.post()
        attempt = self._attempts.get(str(form.get("request_id", "")))
        if (
            attempt is None
            or attempt.is_done
            or request.cookies.get(SITE_SESSION) != attempt.site_session
            or form.get("user_id") != credentials.KITE_USER_ID
        ):
            raise _refused("TwoFAException", "Invalid `request_id`. Please try logging in again.")
        if form.get("twofa_type") != self.twofa_type:
            raise bad_input("Invalid `twofa_type`.")
        self._check_code(str(form.get("twofa_value", "")))
        attempt.is_done = True
        response = answer({})
        self._sign_in(response)
        return response

    async def _on_connect(self, request: web.Request) -> web.Response:
        """Give the visit a number first, as the real site does, then ask for a login or go on."""
        if request.query.get("api_key") != credentials.KITE_API_KEY:
            raise bad_input("Invalid `api_key`.")
        sess_id = request.query.get("sess_id", "")
        if sess_id not in self._connects:
            sess_id = secrets.token_hex(8)
            self._connects.add(sess_id)
            return _found("/connect/login", api_key=credentials.KITE_API_KEY, sess_id=sess_id)
        if request.cookies.get(SIGNED_IN) not in self._signed_in:
            return self._form(sess_id)
        return self._to_finish(sess_id)

    async def _on_form(self, request: web.Request) -> web.Response:
        form = await request.post()
        sess_id = str(form.get("sess_id", ""))
        try:
            self._check_password(str(form.get("user_id", "")), str(form.get("password", "")))
            self._check_code(str(form.get("totp", "")))
        except KiteError as error:
            return self._form(sess_id, error.message)
        response = self._to_finish(sess_id)
        self._sign_in(response)
        return response

    async def _on_finish(self, request: web.Request) -> web.Response:
        sess_id = request.query.get("sess_id", "")
        if request.cookies.get(SIGNED_IN) not in self._signed_in or sess_id not in self._connects:
            raise _refused("TokenException", "Your session has expired. Please log in again.")
        self._connects.remove(sess_id)
        token = secrets.token_hex(16)
        self._request_tokens[token] = _real() + REQUEST_TOKEN_SECONDS
        return _found(
            self.redirect_url, action="login", type="login", status="success", request_token=token
        )

    # --- The API ---------------------------------------------------------------------------------

    async def _on_exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        api_key, token = str(form.get("api_key", "")), str(form.get("request_token", ""))
        if api_key != credentials.KITE_API_KEY:
            raise bad_input("Invalid `api_key`.")
        wanted = hashlib.sha256(f"{api_key}{token}{credentials.KITE_API_SECRET}".encode())
        if not secrets.compare_digest(str(form.get("checksum", "")), wanted.hexdigest()):
            raise _refused("TokenException", "Invalid `checksum`.")
        if self._request_tokens.pop(token, 0.0) < _real():
            raise _refused("TokenException", "Token is invalid or has expired.")
        return answer(self._account(self.issue()))

    async def _on_logout(self, request: web.Request) -> web.Response:
        token = request.query.get("access_token", "")
        if not self.is_valid(request.query.get("api_key", ""), token):
            raise KiteError(_FORBIDDEN, "TokenException", _TOKEN_INCORRECT)
        self.expire()
        return answer(True)

    # --- What they have in common ----------------------------------------------------------------

    def _check_password(self, user_id: str, password: str) -> None:
        self.logins += 1
        if self._wrong_passwords >= WRONG_PASSWORDS_ALLOWED:
            raise _refused("UserException", "Your account has been locked. Please reset it.")
        if (user_id, password) != (credentials.KITE_USER_ID, credentials.KITE_PASSWORD):
            self._wrong_passwords += 1
            raise _refused("UserException", "Invalid username or password.")
        self._wrong_passwords = 0

    def _check_code(self, code: str) -> None:
        """Take a code of this window or the one before it, each once."""
        now = int(_real()) // TOTP_SECONDS
        for window in (now, now - 1):
            if code == _code(window) and window not in self._used_codes:
                self._used_codes = {window, *(each for each in self._used_codes if each >= now - 1)}
                return
        raise _refused("TwoFAException", "Invalid TOTP.")

    def _sign_in(self, response: web.Response) -> None:
        enctoken = secrets.token_hex(32)
        self._signed_in.add(enctoken)
        response.set_cookie(SIGNED_IN, enctoken, httponly=True)
        response.set_cookie("public_token", secrets.token_hex(16))
        response.set_cookie("user_id", credentials.KITE_USER_ID)

    def _form(self, sess_id: str, wrong: str = "") -> web.Response:
        return login_page.form(
            sess_id=sess_id,
            user=credentials.KITE_USER_ID,
            password=credentials.KITE_PASSWORD,
            code=_code(int(_real()) // TOTP_SECONDS),
            wrong=wrong,
        )

    def _to_finish(self, sess_id: str) -> web.Response:
        return _found("/connect/finish", api_key=credentials.KITE_API_KEY, sess_id=sess_id)

    def _account(self, access_token: str) -> dict[str, object]:
        login_time = dt.datetime.fromtimestamp(self.world.now(), clock.IST)
        return {
            "user_type": "individual/ind_with_nom",
            "email": "owner@example.invalid",
            "user_name": "Simulated Owner",
            "user_shortname": "Simulated",
            "broker": "SIMULATED",
            "exchanges": ["NSE", "NFO", "BSE", "BFO"],
            "products": ["CNC", "NRML", "MIS"],
            "order_types": ["MARKET", "LIMIT", "SL", "SL-M"],
            "avatar_url": None,
            "user_id": credentials.KITE_USER_ID,
            "api_key": credentials.KITE_API_KEY,
            "access_token": access_token,
            "public_token": secrets.token_hex(16),
            "enctoken": secrets.token_hex(32),
            "refresh_token": "",
            "silo": "",
            "login_time": f"{login_time:%Y-%m-%d %H:%M:%S}",
            "meta": {"demat_consent": "physical"},
        }


def _restored(kept: Path | None) -> _Access | None:
    """Return the token that an earlier process left, None where it left none that can be read."""
    try:
        return _Access(**json.loads(kept.read_text())) if kept else None
    except (OSError, ValueError, TypeError):
        return None


def _next_death(market_seconds: float) -> float:
    """Return the next 06:00 IST after an instant, in epoch seconds."""
    at = dt.datetime.fromtimestamp(market_seconds, clock.IST)
    dies = dt.datetime.combine(at.date(), TOKENS_DIE_AT, clock.IST)
    if dies <= at:
        dies += dt.timedelta(days=1)
    return dies.timestamp()


def _code(window: int) -> str:
    return pyotp.TOTP(credentials.KITE_TOTP_SECRET).at(window * TOTP_SECONDS)


def _real() -> float:
    return clock.real().timestamp()


def _refused(error_type: str, message: str) -> KiteError:
    return KiteError(_FORBIDDEN, error_type, message)


def _found(address: str, **query: str) -> web.Response:
    joint = "&" if "?" in address else "?"
    return web.Response(status=302, headers={"Location": f"{address}{joint}{urlencode(query)}"})
