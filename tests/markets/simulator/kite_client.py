"""The simulated ticker on a port, the unmodified KiteTicker, and a market to stream."""

import asyncio
import datetime as dt
import functools
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from kiteconnect import KiteTicker

from markets.simulator.faults import Faults
from markets.simulator.kite.ticker import TICKER_FAULTS, Ticker
from markets.simulator.world import World
from markets.venues.kite.ticker import running_reactor
from tests.markets.simulator.served import served
from tests.waiting import wait_for
from tradingsite.clock import IST

API_KEY = "simulatedkey"
TOKEN = "accesstokenofthisverytest"
ELEVEN = dt.datetime(2026, 6, 1, 11, 0, tzinfo=IST).timestamp()
SPEED = 48.0


@functools.cache
def _built() -> World:
    return World.build(lambda: ELEVEN)


def world_from(start: float = ELEVEN, speed: float = SPEED) -> World:
    """Return the market of the tests, whose time runs from an instant on."""
    built, began = _built(), time.monotonic()

    def now() -> float:
        return start + (time.monotonic() - began) * speed

    return World(now, built.prices, built.exchange, built.quoter)


@dataclass
class Server:
    """A ticker on a port, with its faults and the tokens it takes."""

    world: World
    ticks_per_second: float = 5.0
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    handshakes: int = 0

    def __post_init__(self) -> None:
        """Make its parts."""
        self.faults = Faults(TICKER_FAULTS)
        self.ticker = Ticker(self.world, self.faults, self._is_valid, self.ticks_per_second)
        self.app = web.Application(middlewares=[self.faults.middleware()])
        self.app.router.add_get("/", self.ticker.handle)
        self.app.router.add_post("/order", self._on_order)
        self.app.cleanup_ctx.append(self._running)

    def _is_valid(self, api_key: str, token: str) -> bool:
        self.handshakes += 1
        return api_key == API_KEY and token in self.tokens

    async def _on_order(self, request: web.Request) -> web.Response:
        self.ticker.order_update(await request.json())
        return web.Response()

    async def _running(self, app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self.ticker.run())
        yield
        task.cancel()


@contextmanager
def serving(world: World | None = None) -> Iterator[tuple[Server, str]]:
    """Serve a ticker; yield it and its ws:// address."""
    server = Server(world or world_from())
    with served(server.app) as url:
        yield server, url.replace("http:", "ws:")


class Client:
    """An unmodified KiteTicker that keeps what it was told."""

    def __init__(self, url: str, token: str = TOKEN) -> None:
        logging.getLogger("kiteconnect").setLevel(logging.CRITICAL)
        self.ticks: list[dict[str, Any]] = []
        self.frames: list[list[dict[str, Any]]] = []
        self.orders: list[dict[str, Any]] = []
        self.errors: list[tuple[int, str]] = []
        self.heartbeats: list[float] = []
        self.opened = 0
        self._reactor = running_reactor()
        self.library = KiteTicker(API_KEY, token, root=url)
        self.library.on_open = self._on_open
        self.library.on_message = self._on_message
        self.library.on_ticks = self._on_ticks
        self.library.on_order_update = lambda _, data: self.orders.append(data)
        self.library.on_error = lambda _, code, reason: self.errors.append((code, str(reason)))

    def __enter__(self) -> "Client":
        """Connect."""
        self._reactor.callFromThread(self.library.connect, threaded=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave."""
        self._reactor.callFromThread(self.library.close)

    def do(self, method: str, *arguments: Any) -> None:
        """Call a method of the library's once connected, in the thread where it belongs."""
        assert wait_for(self.library.is_connected)
        self._reactor.callFromThread(getattr(self.library, method), *arguments)

    def of(self, token: int) -> list[dict[str, Any]]:
        """Return the ticks of an instrument, oldest first."""
        return [each for each in list(self.ticks) if each["instrument_token"] == token]

    def last(self, token: int) -> dict[str, Any]:
        """Return the next tick of an instrument."""
        self.ticks.clear()
        assert wait_for(lambda: self.of(token)), f"no tick of {token}"
        return self.of(token)[-1]

    def _on_open(self, _: KiteTicker) -> None:
        self.opened += 1

    def _on_message(self, _: KiteTicker, payload: bytes, is_binary: bool) -> None:
        if is_binary and len(payload) == 1:
            self.heartbeats.append(time.monotonic())

    def _on_ticks(self, _: KiteTicker, ticks: list[dict[str, Any]]) -> None:
        self.frames.append(ticks)
        self.ticks.extend(ticks)
