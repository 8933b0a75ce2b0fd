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
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from markets.simulator.credentials import EXCHANGE_WALLET
from markets.simulator.faults import HTML, Fault, Faults, Handler, cut
from markets.simulator.hyperliquid import events, exchange, refusals
from markets.simulator.hyperliquid.account import Account
from markets.simulator.hyperliquid.info import BadQuestion, Info
from markets.simulator.hyperliquid.limits import (
    WEIGHT_PER_MINUTE,
    Bucket,
    weight_of,
    weight_of_answer,
)
from markets.simulator.hyperliquid.market import PerpMarket
from markets.simulator.hyperliquid.matching import Engine
from markets.simulator.hyperliquid.rules import Rules
from markets.simulator.hyperliquid.store import Store
from markets.simulator.world import World

PATH = "/_sim/exchange"
FILE = "hyperliquid.sqlite3"
DEPOSIT = Decimal(10_000)
STEP_SECONDS = 0.3
# What a desk that trades by its own orders has reason to sign.
ASKED = frozenset({"order", "cancel", "cancelByCloid", "noop", "updateLeverage"})
FAULTS = {
    "timeout_after_acceptance": "takes the order, and says nothing for `seconds`",
    "late_acceptance": "answers 502 with an HTML page; the order arrives `seconds` later",
    "lost": "closes the connection after `seconds`; the action never arrives",
    "delivered_twice": "takes the order, and answers the same request that comes again",
    "rate_limit": "answers 429, and does nothing",
    "stale_prices": "shows the prices of now for `seconds`, while the market goes on",
    "absurd_price": "shows ten times the price, once",
    **exchange.FAULTS,
    **refusals.FAULTS,
    **events.FAULTS,
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
        rules: Rules | None = None,
        agents: Collection[str] = (),
    ) -> None:
        """Take the market, a folder that the account is kept in over a restart, and its agents."""
        self.faults = Faults(FAULTS)
        self.rules = rules or Rules()
        self.received: Counter[str] = Counter()
        """Requests by what they asked, those that a fault swallowed among them."""
        self.unasked: list[Mapping[str, Any]] = []
        """Actions that were signed though no desk has reason to, and orders that pay a builder."""
        self._world = world
        self._store = Store(home / FILE) if home else None
        accounts, lived_to = self._store.load() if self._store else ({}, None)
        account = accounts.setdefault(EXCHANGE_WALLET, Account(EXCHANGE_WALLET, deposit))
        for each in agents:
            account.agents.setdefault(each.lower(), [])
        start = world.now() if lived_to is None else lived_to
        self.engine = Engine(PerpMarket(world.prices), accounts, start, self.rules)
        self.events = events.Events(self.engine, account, self.faults)
        self._info = Info(self.engine, self.faults)
        self._exchange = exchange.Exchange(self.engine, self.faults)
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
                web.post(f"{PATH}/rules", self._on_rules),
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
        real = time.time()
        self.engine.step(self._world.now(), real)
        if self.events.happen(real):
            self._save(self.events.account)
        for account in self.engine.accounts.values():
            if self._store and self._store.is_behind(account):
                self._save(account)

    def dump(self) -> dict[str, Any]:
        """Return the truth: accounts with their orders, fills and payments, and what was asked."""
        marks = self.engine.marks()
        return {
            "at": self.engine.at,
            "received": dict(self.received),
            "unasked": self.unasked,
            "rules": asdict(self.rules),
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
            return web.Response(status=422, text=refusals.UNREADABLE)
        self._bucket.add(weight_of_answer(str(body.get("type")), answer))
        return web.json_response(answer)

    async def _on_exchange(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        if refusal := self._limited(request, body):
            return refusal
        action = body.get("action")
        if not isinstance(action, Mapping) or action.get("type") not in self._exchange.actions:
            return web.Response(status=422, text=refusals.UNREADABLE)
        self.step()
        if fault := self.faults.take("lost", _what(request, body)):
            await asyncio.sleep(fault.seconds)
            return cut(request)
        if action["type"] == "order" and (fault := self.faults.take("late_acceptance")):
            task = asyncio.create_task(self._act_late(body, fault))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return _bad_gateway()
        if action["type"] == "order" and self.faults.take("delivered_twice"):
            self._act(body)
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
        except refusals.Refused as refusal:
            answer = {"status": "err", "response": str(refusal)}
        except (KeyError, TypeError, ValueError):
            return web.Response(status=422, text=refusals.UNREADABLE)
        return web.json_response(answer)

    async def _act_late(self, body: Mapping[str, Any], fault: Fault) -> None:
        await asyncio.sleep(fault.seconds)
        self.step()
        self._act(body)

    def _limited(self, request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        is_fault = self.faults.take("rate_limit", f"{request.method} {request.path}")
        for name, (code, words) in refusals.STATUSES.items():
            if self.faults.take(name, _what(request, body)):
                return web.Response(status=code, text=words)
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
                kind = _kind(request.path, body)
                self.received[f"{request.path.strip('/')}/{kind}"] += 1
                action = body.get("action")
                if isinstance(action, Mapping) and (kind not in ASKED or "builder" in action):
                    self.unasked.append(action)
            return await handler(request)

        return count

    async def _on_dump(self, request: web.Request) -> web.Response:
        self.step()
        return web.json_response(self.dump(), dumps=_dumped)

    async def _on_rules(self, request: web.Request) -> web.Response:
        try:
            self.rules.set(await request.json())
        except (AttributeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(asdict(self.rules))

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


def _kind(path: str, body: Mapping[str, Any]) -> str | None:
    """Return what a request asks for."""
    asked = body.get("action") if path == "/exchange" else body
    return asked.get("type") if isinstance(asked, Mapping) else None


def _what(request: web.Request, body: Mapping[str, Any]) -> str:
    """Return what a fault is matched with, "POST /exchange order"."""
    return f"{request.method} {request.path} {_kind(request.path, body)}"


def _dumped(value: Any) -> str:
    return json.dumps(value, default=str)


def _bad_gateway() -> web.Response:
    title = "502 Bad Gateway"
    return web.Response(status=502, text=HTML.format(title=title), content_type="text/html")
