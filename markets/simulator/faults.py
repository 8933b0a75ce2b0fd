"""Faults on demand: what a simulated service does wrong, how often, and to whom.

Each service of the simulator has one switchboard. A test or a person puts a fault by
`POST /_sim/fault {"kind": "...", "times": 1, "seconds": 5, "match": "..."}`; the service takes it
where it applies. `GET /_sim/fault` lists what waits and what there is, `DELETE /_sim/fault` ends
all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATH = "/_sim/fault"
FOR_EVER = 1_000_000
# What any service that answers by HTTP can do wrong, before its own code sees the request.
HTTP_FAULTS = {
    "server_error": "answers 502 with an HTML page, and does nothing",
    "unavailable": "answers 503 with an HTML page, and does nothing",
    "busy": "answers 429 with an HTML page, and does nothing",
    "not_json": "answers 200 with an HTML page, and does nothing",
    "timeout": "reads the request, does nothing and says nothing for `seconds`",
    "reset": "closes the connection without an answer, and does nothing",
    "slow": "answers rightly, `seconds` late",
}
HTML = "<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


class UnknownFault(ValueError):
    """There is no fault of that kind; the message lists those there are."""


@dataclass(slots=True)
class Fault:
    """One fault that waits: it happens `times` times to whatever contains `match`."""

    kind: str
    times: int = 1
    seconds: float = 5.0
    match: str = ""
    """Part of "METHOD /path" for faults of HTTP, of a symbol for those of prices and orders."""
    quantity: int = 0
    """Of a partial fill, how much is filled before the rest waits."""


class Faults:
    """Keep the faults that wait in one service."""

    def __init__(self, own: Mapping[str, str]) -> None:
        """Take the service's own kinds, each with what it does."""
        self.kinds = {**HTTP_FAULTS, **own}
        self._waiting: list[Fault] = []

    def put(self, kind: str, **how: Any) -> Fault:
        """Let a fault wait for its occasion; raise UnknownFault or TypeError for a wrong one."""
        if kind not in self.kinds:
            raise UnknownFault(f"no fault {kind!r}; there are {', '.join(sorted(self.kinds))}")
        fault = Fault(kind, **how)
        self._waiting.append(fault)
        return fault

    def take(self, kind: str, what: str = "") -> Fault | None:
        """Return the fault that happens now, one time less from now on; None where none does."""
        for fault in self._waiting:
            if fault.kind == kind and fault.match in what:
                fault.times -= 1
                if fault.times < 1:
                    self._waiting.remove(fault)
                return fault
        return None

    def clear(self, kind: str | None = None) -> int:
        """End the faults of a kind, or all; return how many waited."""
        before = len(self._waiting)
        self._waiting = [each for each in self._waiting if kind and each.kind != kind]
        return before - len(self._waiting)

    def waiting(self) -> list[Fault]:
        """Return the faults that wait, oldest first."""
        return list(self._waiting)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes by which faults are put, listed and ended."""
        return [
            web.post(PATH, self._on_post),
            web.get(PATH, self._on_get),
            web.delete(PATH, self._on_delete),
        ]

    def middleware(self) -> Any:
        """Return the middleware that makes the faults of HTTP happen."""

        @web.middleware
        async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/_sim/"):
                return await handler(request)
            return await self._answer(request, handler)

        return misbehave

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        what = f"{request.method} {request.path}"
        if self.take("server_error", what):
            return _page(502, "502 Bad Gateway")
        if self.take("unavailable", what):
            return _page(503, "503 Service Temporarily Unavailable")
        if self.take("busy", what):
            return _page(429, "429 Too Many Requests")
        if self.take("not_json", what):
            return _page(200, "Scheduled maintenance")
        if fault := self.take("timeout", what):
            await request.read()
            await asyncio.sleep(fault.seconds)
            return _page(504, "504 Gateway Time-out")
        if self.take("reset", what):
            return cut(request)
        if fault := self.take("slow", what):
            await asyncio.sleep(fault.seconds)
        return await handler(request)

    async def _on_post(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            fault = self.put(**body)
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error), "kinds": self.kinds}, status=400)
        return web.json_response(asdict(fault))

    async def _on_get(self, request: web.Request) -> web.Response:
        waiting = [asdict(each) for each in self._waiting]
        return web.json_response({"waiting": waiting, "kinds": self.kinds})

    async def _on_delete(self, request: web.Request) -> web.Response:
        return web.json_response({"ended": self.clear(request.query.get("kind"))})


def cut(request: web.Request) -> web.Response:
    """Close the connection under a request, so that its sender gets no answer at all."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _page(status: int, title: str) -> web.Response:
    return web.Response(status=status, text=HTML.format(title=title), content_type="text/html")
