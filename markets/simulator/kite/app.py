"""The simulated broker: REST, login pages and the ticker's socket on one port.

It has its port to itself, because the clients join their routes to the root of the address.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from markets.simulator import credentials, owner
from markets.simulator.faults import Faults
from markets.simulator.kite import forms, mutual_funds, refusals, statements
from markets.simulator.kite.account import ACCOUNT_FAULTS, Account
from markets.simulator.kite.book import Book
from markets.simulator.kite.data import DATA_FAULTS, Data
from markets.simulator.kite.envelope import enveloped
from markets.simulator.kite.gtt import Triggers
from markets.simulator.kite.limits import Limits
from markets.simulator.kite.odd_rows import ROW_FAULTS
from markets.simulator.kite.orders import Order
from markets.simulator.kite.sessions import LOGIN_FAULTS, Sessions
from markets.simulator.kite.ticker import TICKER_FAULTS, Ticker
from markets.simulator.kite.trading import ORDER_FAULTS, Trading
from markets.simulator.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STEP_SECONDS = 0.05
KEPT_REQUESTS = 2_000


class Kite:
    """Serve one account at the simulated broker."""

    def __init__(
        self,
        world: World,
        home: Path | None = None,
        redirect_url: str = credentials.KITE_REDIRECT_URL,
        *,
        needs_protection: bool = True,
        older_spans: bool = False,
        has_limits: bool = True,
        owner_trades: bool = True,
        paced_by: Callable[[], float] = time.time,
    ) -> None:
        """Take the market, and a folder where the account is kept over restarts.

        The switches serve other clients' own tests: market orders without protection, the history
        spans of earlier years, and requests as fast as one likes. `paced_by` is the clock whose
        seconds the limits of requests are counted by.
        """
        self.world = world
        kinds = ORDER_FAULTS | ACCOUNT_FAULTS | ROW_FAULTS | DATA_FAULTS | LOGIN_FAULTS
        self.faults = Faults(kinds | TICKER_FAULTS)
        self.limits = Limits(paced_by)
        self.requests: list[str] = []
        """The newest requests that arrived, as "METHOD /path", oldest first."""
        self._has_limits = has_limits
        self.sessions = Sessions(world, self.faults, redirect_url, home)
        self.ticker = Ticker(world, self.faults, self.sessions.is_valid)
        book = Book(home / "kite.sqlite3" if home else None)
        is_new = book.began_at is None
        who = credentials.KITE_USER_ID
        self.account = Account(
            world, self.faults, who, book, self._publish, needs_protection=needs_protection
        )
        self.trading = Trading(self.account, self.faults)
        self.data = Data(world, self.faults, self.account, older_spans=older_spans)
        self.triggers = Triggers(self.account)
        self.owner = owner.Owner(world, self.account) if owner_trades else None
        if self.owner is not None and is_new:
            self.owner.bring()

    def app(self) -> web.Application:
        """Return the application, whose account lives while it is served."""
        app = web.Application(middlewares=[self._seen(), self.faults.middleware(), enveloped])
        app.add_routes(
            [
                *self.faults.routes(),
                web.get("/_sim/kite", self._truth),
                web.get("/_sim/tradebook", self._tradebook),
                web.post("/_sim/token", self._token),
                web.get("/", self.ticker.handle),
                *self.sessions.routes(),
                *self.data.routes(self._limited),
                *self.triggers.routes(self._limited),
                *self.trading.routes(self._limited),
                *mutual_funds.routes(self._limited),
            ]
        )
        app.cleanup_ctx.append(self._living)
        return app

    def step(self) -> None:
        """Move the account on by one step of the market."""
        if self.owner is not None:
            self.owner.step()
        self.account.step()
        self.triggers.step()

    async def _living(self, app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._step_forever()), asyncio.create_task(self.ticker.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _step_forever(self) -> None:
        while True:
            self.step()
            await asyncio.sleep(STEP_SECONDS)

    def _limited(self, kind: str, handler: Handler) -> Handler:
        async def admitted(request: web.Request) -> web.StreamResponse:
            self.sessions.check(request)
            if self.faults.take("rate_limit", f"{request.method} {request.path}"):
                raise refusals.too_many_requests()
            if self._has_limits:
                self.limits.admit(kind)
            return await handler(request)

        return admitted

    def _seen(self) -> Any:
        @web.middleware
        async def seen(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith("/_sim/"):
                self.requests.append(f"{request.method} {request.path}")
                del self.requests[:-KEPT_REQUESTS]
            return await handler(request)

        return seen

    def _publish(self, order: Order) -> None:
        body = forms.order(order)
        self.ticker.order_update({"user_id": self.account.user_id, **body})

    async def _truth(self, request: web.Request) -> web.Response:
        """Show what the broker knows, whatever faults make it say."""
        book = self.account.book
        return web.json_response(
            {
                "market": forms.stamp(self.world.now()),
                "is_open": self.world.is_open(),
                "orders": [forms.order(each) for each in book.orders.values()],
                "trades": [forms.trade(each) for each in book.trades],
                "positions": statements.positions(book.portfolio, self.account.worth),
                "placements": self.trading.placements,
                "requests": self.requests[-100:],
                "most_requests_in_a_second": self.limits.most_in_a_second,
                "refused_for_rate": self.limits.refused,
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        """Sign in without the pages, for a client that only wants to try the rest."""
        token = self.sessions.issue()
        return web.json_response({"api_key": credentials.KITE_API_KEY, "access_token": token})

    async def _tradebook(self, request: web.Request) -> web.Response:
        """Return the owner's trades by hand as the broker's back office exports them."""
        years = float(request.query.get("years", owner.HISTORY_YEARS))
        text = owner.tradebook(self.world, years, self.account.book)
        return web.Response(text=text, content_type="text/csv")
