"""The simulated broker's doors alone: its login and sessions, and one page behind them."""

import datetime as dt
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyotp
from aiohttp import web

from markets.simulator import credentials
from markets.simulator.faults import Faults
from markets.simulator.kite import envelope
from markets.simulator.kite.sessions import LOGIN_FAULTS, REQUEST_TOKEN_SECONDS, Sessions
from markets.simulator.world import World
from tests.markets.simulator.served import served
from tradingsite import clock

MORNING = dt.datetime(2026, 6, 1, 9, 0, tzinfo=clock.IST)
# Nobody listens there, as nobody does behind the redirect address of a script's own login.
UNREACHABLE = "http://127.0.0.1:1/kite/redirect"


class Doors:
    """Hold the sessions, the faults, and the hand on the market's clock."""

    def __init__(self, redirect_url: str = UNREACHABLE, home: Path | None = None) -> None:
        self.at = MORNING
        self.url = ""
        self.faults = Faults(LOGIN_FAULTS)
        world = cast(World, SimpleNamespace(now=lambda: self.at.timestamp()))
        self.sessions = Sessions(world, self.faults, redirect_url, home)
        self.seen: list[str] = []

    def app(self) -> web.Application:
        """Return the application: the sessions' routes, and the profile they guard."""

        @web.middleware
        async def seen(request: web.Request, handler: envelope.Handler) -> web.StreamResponse:
            self.seen.append(f"{request.method} {request.path}")
            return await handler(request)

        async def profile(request: web.Request) -> web.Response:
            return envelope.answer({"user_id": self.sessions.check(request)})

        app = web.Application(middlewares=[seen, self.faults.middleware(), envelope.enveloped])
        app.add_routes([*self.sessions.routes(), web.get("/user/profile", profile)])
        return app

    @contextmanager
    def open(self) -> Iterator["Doors"]:
        """Serve them for as long as the block runs."""
        with served(self.app()) as self.url:
            yield self

    def request_token(self) -> str:
        """Return a request token as a browser brings one back."""
        token = secrets.token_hex(16)
        self.sessions._request_tokens[token] = clock.real().timestamp() + REQUEST_TOKEN_SECONDS
        return token

    @property
    def codes_sent(self) -> int:
        """Return how many codes were sent."""
        return self.seen.count("POST /api/twofa")


def code(at_seconds: float | None = None) -> str:
    """Return the account's code of an instant, or of now."""
    seconds = clock.real().timestamp() if at_seconds is None else at_seconds
    return pyotp.TOTP(credentials.KITE_TOTP_SECRET).at(int(seconds))
