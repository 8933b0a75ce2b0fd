"""The simulator's services on their ports, in a thread of their own beside the market's loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import web

from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.kite.app import Kite
from markets.simulator.news import News
from markets.simulator.telegram import Telegram
from markets.simulator.world import World
from tradingsite import simulator_ports
from tradingsite.simulator_ports import HEADER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ADDRESS = "127.0.0.1"
# A quote of 500 instruments is a request line of 13 kB; the server's own limit is 8.
LONGEST_LINE_BYTES = 131_072
# A long poll or a socket that waits must not hold up the end.
SHUTDOWN_SECONDS = 0.2


class PortTaken(Exception):
    """Another process listens on a service's port; the message says which and what to do."""


class Service(Protocol):
    """One simulated service."""

    def app(self) -> web.Application:
        """Return the application that serves it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Say where the services listen; 0 takes a free port."""

    kite: int = 8801
    exchange: int = 8802
    telegram: int = 8803
    news: int = 8804


@dataclass(frozen=True, slots=True)
class Leniency:
    """Switch off what other clients' own tests do not know of."""

    needs_protection: bool = True
    older_spans: bool = False
    has_limits: bool = True
    owner_trades: bool = True


def services_of(
    world: World,
    home: Path | None,
    leniency: Leniency | None = None,
    paced_by: Callable[[], float] = time.time,
) -> dict[str, Service]:
    """Return the services on one market, by name; with a home their accounts are kept there.

    `paced_by` is the clock by whose seconds the broker counts requests: where the desk lives by a
    quicker market, its broker does too.
    """
    leniency = leniency or Leniency()
    return {
        "kite": Kite(
            world,
            home,
            needs_protection=leniency.needs_protection,
            older_spans=leniency.older_spans,
            has_limits=leniency.has_limits,
            owner_trades=leniency.owner_trades,
            paced_by=paced_by,
        ),
        "exchange": Hyperliquid(world, home),
        "telegram": Telegram(),
        "news": News(world.now),
    }


class Servers:
    """Serve the services until they are stopped."""

    def __init__(self, services: Mapping[str, Service], ports: Ports, desk: str = "") -> None:
        """Take the services, where they listen, and whose they are: "" serves any client."""
        self.services = dict(services)
        self._desk = desk
        self.addresses: dict[str, str] = {}
        """Where each service listens, once started."""
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._runners: list[web.AppRunner] = []
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    def start(self) -> None:
        """Open every port; raise PortTaken, with none left open, where one is in use."""
        self._thread.start()
        started: Future[None] = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        try:
            started.result()
        except PortTaken:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the ports and end the services."""
        stopped: Future[None] = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        stopped.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _start(self) -> None:
        for name, service in self.services.items():
            port = getattr(self._ports, name)
            runner = web.AppRunner(
                self._only_this_desk(service.app()),
                access_log=None,
                shutdown_timeout=SHUTDOWN_SECONDS,
                max_line_size=LONGEST_LINE_BYTES,
                max_field_size=LONGEST_LINE_BYTES,
            )
            await runner.setup()
            self._runners.append(runner)
            try:
                await web.TCPSite(runner, ADDRESS, port).start()
            except OSError as error:
                raise PortTaken(
                    f"the simulator's {name} service cannot have port {port} of {ADDRESS}: "
                    f"{error.strerror}, taken by {simulator_ports.holder(port)}. Stop that, or "
                    f"choose other ports by SIM_PORT or --{name}-port"
                ) from error
            host, found = runner.addresses[0][:2]
            self.addresses[name] = f"http://{host}:{found}"

    def _only_this_desk(self, app: web.Application) -> web.Application:
        """Have a service say whose it is, and refuse what was meant for another desk's."""
        if not self._desk:
            return app

        @web.middleware
        async def only_ours(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.headers.get(HEADER, self._desk) != self._desk:
                return web.Response(status=421, text="this simulator is another desk's\n")
            if request.path == "/_sim/desk":
                return web.json_response({"desk": self._desk})
            return await handler(request)

        async def say_whose(request: web.Request, response: web.StreamResponse) -> None:
            response.headers[HEADER] = self._desk

        app.middlewares.insert(0, only_ours)
        app.on_response_prepare.append(say_whose)
        return app

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
