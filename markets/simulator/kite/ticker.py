"""The simulated broker's ticker: a WebSocket at `/` that streams binary ticks and order updates.

Ticks come a few times a real second, however fast market time runs, and only while the exchange's
session is open; outside it a subscription is answered once, then there are heartbeats alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from markets.simulator.faults import Faults
from markets.simulator.kite.envelope import KiteError, refusal
from markets.simulator.kite.packets import HEARTBEAT
from markets.simulator.kite.ticker_faults import TICKER_FAULTS, PacketFaults, UpdateFaults
from markets.simulator.world import World
from markets.venues.kite.packets import FULL, LTP, QUOTE

__all__ = ["TICKER_FAULTS", "Ticker"]

CONNECTIONS_PER_KEY = 3
INSTRUMENTS_PER_CONNECTION = 3000
HEARTBEAT_SECONDS = 1.0
# A client that lets so many messages wait does not read any more.
LONGEST_QUEUE = 128

log = logging.getLogger(__name__)


class Ticker:
    """Serve the ticker's connections from one market."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        is_valid: Callable[[str, str], bool],
        ticks_per_second: float = 2.0,
    ) -> None:
        """Take what answers whether an API key and an access token are valid together."""
        if not 1.0 <= ticks_per_second <= 5.0:
            raise ValueError(f"ticks come 1 to 5 times a second, not {ticks_per_second}")
        self._world = world
        self._faults = faults
        self._is_valid = is_valid
        self._tick_seconds = 1.0 / ticks_per_second
        self._packet_faults = PacketFaults(faults)
        self._updates = UpdateFaults(faults)
        self._connections: list[_Connection] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client until it leaves; refuse a bad token and a connection too many."""
        api_key = request.query.get("api_key", "")
        if not self._is_valid(api_key, request.query.get("access_token", "")):
            message = "Incorrect `api_key` or `access_token`."
            return refusal(KiteError(403, "TokenException", message))
        others = [each for each in self._connections if each.api_key == api_key]
        if len(others) >= CONNECTIONS_PER_KEY:
            return refusal(KiteError(429, "NetworkException", "Too many requests"))
        socket = web.WebSocketResponse()
        connection = _Connection(request, socket, api_key)
        self._connections.append(connection)
        try:
            await socket.prepare(request)
            if self._faults.take("token_refused_later", api_key):
                await socket.send_str(_error("Invalid `access_token`."))
                await socket.close()
            else:
                await connection.serve()
        finally:
            self._connections.remove(connection)
        return socket

    async def run(self) -> None:
        """Send ticks and heartbeats for ever."""
        await asyncio.gather(
            _every(self._tick_seconds, self._send_ticks),
            _every(HEARTBEAT_SECONDS, self._send_heartbeats),
        )

    def order_update(self, data: Mapping[str, Any]) -> None:
        """Tell every client of an order's new state; to be called in the server's loop."""
        key = f"{data.get('exchange')}:{data.get('tradingsymbol')}"
        self._offer(self._updates.muddle(json.dumps({"type": "order", "data": data}), key))

    def _offer(self, messages: Sequence[str | bytes]) -> None:
        for message in messages:
            for connection in self._connections:
                connection.offer(message)

    def _send_heartbeats(self) -> None:
        self._offer([*self._updates.left(), HEARTBEAT])

    def _send_ticks(self) -> None:
        self._break_sockets()
        board = self._world.board()
        due = {each: each.due(is_open=board.is_open) for each in self._connections}
        place_of = board.listing.by_token
        tokens = {token for wanted in due.values() for token in wanted if token in place_of}
        if not tokens:
            return
        now = asyncio.get_running_loop().time()
        places, sheet = self._packet_faults.spoil(board, [place_of[each] for each in tokens], now)
        rows = {board.listing.rows[place].token: row for row, place in enumerate(places)}
        for connection, wanted in due.items():
            by_mode: dict[str, list[int]] = {}
            for token, mode in wanted.items():
                if token in rows:
                    by_mode.setdefault(mode, []).append(rows[token])
            if by_mode:
                connection.offer(sheet.frame({k: np.array(v) for k, v in by_mode.items()}))

    def _break_sockets(self) -> None:
        for connection in list(self._connections):
            if connection.is_frozen():
                continue
            if fault := self._faults.take("frozen_socket", connection.api_key):
                connection.freeze(fault.seconds)
            elif self._faults.take("dropped_socket", connection.api_key):
                connection.drop()


class _Connection:
    """One client: what it subscribed, and what waits to be sent to it."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, api_key: str) -> None:
        self.api_key = api_key
        self._request = request
        self._socket = socket
        self._modes: dict[int, str] = {}
        self._unanswered: set[int] = set()
        """Tokens of which the client has seen nothing since it asked for them."""
        self._queue: asyncio.Queue[str | bytes] = asyncio.Queue(LONGEST_QUEUE)
        self._frozen_until = float("-inf")

    async def serve(self) -> None:
        """Send and listen until either side leaves."""
        sender = asyncio.create_task(self._send())
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    self._hear(message.data)
        finally:
            sender.cancel()

    def due(self, *, is_open: bool) -> dict[int, str]:
        """Return the mode of each instrument to send now: all in a session, else the new ones."""
        new, self._unanswered = self._unanswered, set()
        if is_open:
            return self._modes
        return {token: mode for token, mode in self._modes.items() if token in new}

    def offer(self, message: str | bytes) -> None:
        """Let a message wait to be sent; leave a client that does not read."""
        if self.is_frozen():
            return
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.drop()

    def freeze(self, seconds: float) -> None:
        """Send nothing from now on, for so long."""
        self._frozen_until = asyncio.get_running_loop().time() + seconds

    def is_frozen(self) -> bool:
        """Return whether nothing is sent just now."""
        return asyncio.get_running_loop().time() < self._frozen_until

    def drop(self) -> None:
        """Cut the connection."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _send(self) -> None:
        while True:
            message = await self._queue.get()
            try:
                if isinstance(message, str):
                    await self._socket.send_str(message)
                else:
                    await self._socket.send_bytes(message)
            except ConnectionError:
                return

    def _hear(self, text: str) -> None:
        """Do what a client says; whatever is no request is passed over, as the service does."""
        try:
            asked = json.loads(text)
            action, value = asked["a"], asked["v"]
            if action == "mode":
                mode, value = value
                if mode in (LTP, QUOTE, FULL):
                    self._set_mode(mode, self._modes.keys() & _tokens(value))
            elif action == "subscribe":
                self._subscribe(_tokens(value))
            elif action == "unsubscribe":
                for token in _tokens(value):
                    self._modes.pop(token, None)
        except (ValueError, TypeError, KeyError):
            self.offer(_error("Invalid message."))

    def _subscribe(self, tokens: set[int]) -> None:
        if len(self._modes.keys() | tokens) > INSTRUMENTS_PER_CONNECTION:
            self.offer(_error(f"More than {INSTRUMENTS_PER_CONNECTION} instruments."))
            return
        self._set_mode(QUOTE, tokens)

    def _set_mode(self, mode: str, tokens: set[int]) -> None:
        self._modes |= dict.fromkeys(tokens, mode)
        self._unanswered |= tokens


def _tokens(value: Any) -> set[int]:
    if not (isinstance(value, list) and all(type(each) is int for each in value)):
        raise ValueError("tokens are a list of whole numbers")
    return set(value)


def _error(message: str) -> str:
    return json.dumps({"type": "error", "data": message})


async def _every(seconds: float, act: Callable[[], None]) -> None:
    """Act at a steady pace; an error is logged, and the next turn comes all the same."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        try:
            act()
        except Exception:
            log.exception("the simulated ticker misses a turn")
        # After a pause the turns that were missed are not made up for.
        due = max(due + seconds, loop.time())
        await asyncio.sleep(due - loop.time())
