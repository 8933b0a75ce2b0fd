"""The wire of the simulated exchange: two routes, as Hyperliquid has them, and the tests' own.

A client is pointed here by its URLs alone: `ccxt.hyperliquid({"urls": {"api": {"public": URL,
"private": URL}}})`. Prices, candles, orders, fills and funding carry market time; nonces, limits
and time-outs are of the real one. A person or a test reads the truth of the book:
`GET /_sim/exchange`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from markets.simulator.credentials import EXCHANGE_WALLET
from markets.simulator.faults import HTML, Fault, Faults, Handler
from markets.simulator.hyperliquid.account import Account
from markets.simulator.hyperliquid.exchange import Exchange, Refused
from markets.simulator.hyperliquid.info import BadQuestion, Info
from markets.simulator.hyperliquid.limits import (
    WEIGHT_PER_MINUTE,
    Bucket,
    weight_of,
    weight_of_answer,
)
from markets.simulator.hyperliquid.market import PerpMarket
from markets.simulator.hyperliquid.matching import Engine
from markets.simulator.hyperliquid.store import Store
from markets.simulator.world import World

PATH = "/_sim/exchange"
FILE = "hyperliquid.sqlite3"
DEPOSIT = Decimal(10_000)
STEP_SECONDS = 0.3
UNREADABLE = "Failed to deserialize the JSON body into the target type"
FAULTS = {
    "timeout_after_acceptance": "takes the order, and says nothing for `seconds`",
    "late_acceptance": "answers 502 with an HTML page, and takes the order `seconds` later",
    "rate_limit": "answers 429, and does nothing",
    "partial_fill": "fills `quantity` steps of size (0: half) of the next order; what is left of "
    "an immediate order is cancelled, of another waits for `seconds`",
    "reject": "refuses the next order for want of margin",
    "stale_prices": "shows the prices of now for `seconds`, while the market goes on",
    "absurd_price": "shows ten times the price, once",
}


class Hyperliquid:
    """Serve a perpetual exchange with one account, the one of `credentials.EXCHANGE_WALLET`."""

    def __init__(
        self,
        world: World,
        home: Path | None = None,
        *,
        deposit: Decimal = DEPOSIT,
        weight_per_minute: float = WEIGHT_PER_MINUTE,
    ) -> None:
        """Take the market, and a folder that the account is kept in over a restart."""
        self.faults = Faults(FAULTS)
        self.received: Counter[str] = Counter()
        """Requests by what they asked, those that a fault swallowed among them."""
        self._world = world
        self._store = Store(home / FILE) if home else None
        accounts, lived_to = self._store.load() if self._store else ({}, None)
        accounts.setdefault(EXCHANGE_WALLET, Account(EXCHANGE_WALLET, deposit))
        start = world.now() if lived_to is None else lived_to
        self.engine = Engine(PerpMarket(world.prices), accounts, start)
        self._info = Info(self.engine, self.faults)
        self._exchange = Exchange(self.engine, self.faults)
        self._bucket = Bucket(weight_per_minute, time.monotonic)
        self._late: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """Return the application that answers clients, tests and people."""
        app = web.Application(middlewares=[self._count(), self.faults.middleware()])
        app.add_routes(
            [
                web.post("/info", self._on_info),
                web.post("/exchange", self._on_exchange),
                web.get(PATH, self._on_dump),
                *self.faults.routes(),
            ]
        )
        app.cleanup_ctx.append(self._living)
        return app

    async def run(self) -> None:
        """Let the market pass over the accounts for ever, a few times a real second."""
        while True:
            self.step()
            await asyncio.sleep(STEP_SECONDS)

    def step(self) -> None:
        """Bring the accounts to the market's now, and keep what changed."""
        self.engine.step(self._world.now(), time.time())
        for account in self.engine.accounts.values():
            if self._store and self._store.is_behind(account):
                self._save(account)

    def dump(self) -> dict[str, Any]:
        """Return the truth: accounts with their orders, fills and payments, and what was asked."""
        marks = self.engine.marks()
        return {
            "at": self.engine.at,
            "received": dict(self.received),
            "accounts": {
                wallet: {
                    "cash": str(account.cash),
                    "equity": str(account.equity(marks)),
                    "leverage": account.leverage,
                    "positions": {coin: asdict(each) for coin, each in account.positions.items()},
                    "orders": [asdict(each) for each in account.orders.values()],
                    "fills": [asdict(each) for each in account.fills],
                    "payments": [asdict(each) for each in account.payments],
                }
                for wallet, account in self.engine.accounts.items()
            },
        }

    async def _on_info(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if refusal := self._limited(request, body):
            return refusal
        self.step()
        try:
            answer = self._info.answer(body)
        except BadQuestion:
            return web.Response(status=422, text=UNREADABLE)
        self._bucket.add(weight_of_answer(str(body.get("type")), answer))
        return web.json_response(answer)

    async def _on_exchange(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        if refusal := self._limited(request, body):
            return refusal
        action = body.get("action")
        if not isinstance(action, Mapping) or action.get("type") not in self._exchange.actions:
            return web.Response(status=422, text=UNREADABLE)
        self.step()
        if action["type"] == "order" and (fault := self.faults.take("late_acceptance")):
            task = asyncio.create_task(self._act_late(body, fault))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return _bad_gateway()
        answer = self._act(body)
        if action["type"] == "order" and (fault := self.faults.take("timeout_after_acceptance")):
            await asyncio.sleep(fault.seconds)
            return _bad_gateway()
        return answer

    def _act(self, body: Mapping[str, Any]) -> web.Response:
        try:
            account = self._exchange.admit(body)
            try:
                answer = self._exchange.act(account, body["action"])
            finally:
                self._save(account)
        except Refused as refusal:
            answer = {"status": "err", "response": str(refusal)}
        except (KeyError, TypeError, ValueError):
            return web.Response(status=422, text=UNREADABLE)
        return web.json_response(answer)

    async def _act_late(self, body: Mapping[str, Any], fault: Fault) -> None:
        await asyncio.sleep(fault.seconds)
        self.step()
        self._act(body)

    def _limited(self, request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        is_fault = self.faults.take("rate_limit", f"{request.method} {request.path}")
        if is_fault or not self._bucket.take(weight_of(request.path, body)):
            return web.json_response(None, status=429)
        return None

    def _save(self, account: Account) -> None:
        if self._store:
            self._store.save(account, self.engine.at)

    def _count(self) -> Any:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.method == "POST" and not request.path.startswith("/_sim/"):
                body = await _body(request)
                asked = body.get("action") if request.path == "/exchange" else body
                kind = asked.get("type") if isinstance(asked, Mapping) else None
                self.received[f"{request.path.strip('/')}/{kind}"] += 1
            return await handler(request)

        return count

    async def _on_dump(self, request: web.Request) -> web.Response:
        self.step()
        return web.json_response(self.dump(), dumps=_dumped)

    async def _living(self, app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        yield
        for each in (task, *self._late):
            each.cancel()
        await asyncio.gather(task, *self._late, return_exceptions=True)
        if self._store:
            self._store.close()


async def _body(request: web.Request) -> Mapping[str, Any]:
    """Return a request's JSON object, an empty one where it is none."""
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}


def _dumped(value: Any) -> str:

    return json.dumps(value, default=str)


def _bad_gateway() -> web.Response:
    title = "502 Bad Gateway"
    return web.Response(status=502, text=HTML.format(title=title), content_type="text/html")
