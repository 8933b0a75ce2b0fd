"""The broker's stream of ticks, kept alive: kiteconnect's ticker under a watchdog of our own.

Left alone, the library never notices a server that froze, offers a refused token for ever, and
cannot be started twice in a process, because Twisted's reactor cannot. So the reactor runs in one
daemon thread and is never stopped, every connection is a new ticker with the token of its day that
the library does not retry, and a thread for each stream decides when the next one is due.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

from markets.venues import lean_import
from markets.venues.base import Tick
from markets.venues.kite.packets import FULL, LTP, QUOTE, BadFrame, parse
from tradingsite import clock

# kiteconnect and Twisted are imported where they are used: most processes of the desk never do.

ROOT = "wss://ws.kite.trade"
MOST_INSTRUMENTS = 3000
# The server sends a heartbeat every second.
SILENCE_SECONDS = 5.0
# A connection that held so long owes nothing to the failures before it.
STEADY_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 30.0
# A refusal can be the server's mistake (a firewall answers 403 too): try the same token again then.
REFUSED_SECONDS = 300.0
# An end so soon after an error is that error's doing.
COMPLAINT_SECONDS = 2.0
_WATCH_SECONDS = 0.2

log = logging.getLogger(__name__)


class State(StrEnum):
    """How a stream stands, in words for people."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    WAITING = "waiting for a new token"
    CLOSED = "closed"


class KiteStream:
    """Hand over the ticks of some instruments from `start` to `close`, whatever happens between."""

    def __init__(
        self,
        api_key: str,
        token_source: Callable[[], str],
        tokens: Mapping[int, str],
        on_ticks: Callable[[list[Tick]], None],
        root: str = ROOT,
        mode: str = FULL,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the desk's name of each instrument token, and where to ask for an access token.

        `token_source` is asked before every connection, in this stream's thread, and may answer ""
        while there is none; `on_ticks` is called in the reactor's thread and must be quick.
        """
        address = urlsplit(root)
        if address.scheme not in ("ws", "wss") or not address.hostname:
            raise ValueError(f"the ticker's root {root!r} is no ws:// or wss:// address")
        if mode not in (LTP, QUOTE, FULL):
            raise ValueError(f"the ticker has no mode {mode!r}")
        self.mode = mode
        self.names = _checked(tokens)
        """The desk's names of what is subscribed, by instrument token."""
        self.headers = dict(headers or {})
        """What is sent besides the library's own."""
        self._root = root
        self._api_key = api_key
        self._token_source = token_source
        self._on_ticks = on_ticks
        self._state = State.CONNECTING
        self._connection: _Connection | None = None
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="kite-stream", daemon=True)

    @property
    def state(self) -> State:
        """Return how the stream stands."""
        return State.CLOSED if self._closing.is_set() else self._state

    def start(self) -> KiteStream:
        """Connect, in threads of the stream's own; return the stream."""
        self._keeper.start()
        return self

    def is_alive(self) -> bool:
        """Return whether a message of any kind came in the last seconds."""
        connection = self._connection
        return self.state is State.CONNECTED and connection is not None and not connection.is_silent

    def resubscribe(self, tokens: Mapping[int, str]) -> None:
        """Change what is subscribed, on the running connection."""
        self.names = _checked(tokens)
        if connection := self._connection:
            connection.subscribe()

    def close(self) -> None:
        """End the stream; no ticks are handed over after those of this moment."""
        self._closing.set()
        if connection := self._connection:
            connection.end()

    def parse(self, payload: bytes) -> list[Tick]:
        """Return the ticks of one binary message, none of a bad one."""
        try:
            return parse(payload, self.names, clock.market())
        except BadFrame as error:
            log.warning("the ticker sent a bad frame: %s", error)
            return []

    def hand_over(self, ticks: list[Tick]) -> None:
        """Give ticks to whoever takes them; if that fails, the stream goes on."""
        if not ticks or self._closing.is_set():
            return
        try:
            self._on_ticks(ticks)
        except Exception:
            log.exception("whoever takes the ticks failed; the stream goes on")

    def _keep(self) -> None:
        pauses = _pauses()
        refused, refused_at = "", 0.0
        while not self._closing.is_set():
            token = self._ask_for_token()
            is_refused = token == refused and time.monotonic() - refused_at < REFUSED_SECONDS
            if not token or is_refused:
                self._state = State.WAITING
            else:
                self._state = State.CONNECTING
                connection = _Connection(self, self._root, self._api_key, token)
                self._watch(connection)
                self._state = State.RECONNECTING
                refused, refused_at = "", time.monotonic()
                if connection.was_refused:
                    refused, self._state = token, State.WAITING
                if connection.lived_seconds >= STEADY_SECONDS:
                    pauses = _pauses()
            self._closing.wait(next(pauses))

    def _ask_for_token(self) -> str:
        try:
            return self._token_source()
        except Exception as error:  # noqa: BLE001 - whatever it is, we ask again later
            # No more than its name: messages about tokens tend to quote them.
            log.warning("no access token for the ticker: %s", type(error).__name__)
            return ""

    def _watch(self, connection: _Connection) -> None:
        """Return when a connection is over, silent or no longer wanted; then it is ended."""
        self._connection = connection
        connection.open()
        while not self._closing.wait(_WATCH_SECONDS) and not connection.is_over:
            if connection.is_open:
                self._state = State.CONNECTED
            if connection.is_silent:
                connection.reason = f"it said nothing for {SILENCE_SECONDS:.0f} s"
                break
        connection.end()
        if not self._closing.is_set():
            log.warning("the ticker's connection ended: %s", connection.reason)


class _Connection:
    """One ticker of the library's, from its making to its end; it acts in the reactor's thread."""

    def __init__(self, stream: KiteStream, root: str, api_key: str, token: str) -> None:
        self.is_open = False
        self.is_over = False
        self.was_refused = False
        self.reason = "there was no connection"
        self._stream = stream
        self._reactor = running_reactor()
        self._made_at = self._heard_at = time.monotonic()
        self._complained_at = float("-inf")
        self._ticker: Any = _ticker_class()(
            # Quoted, as a bad character would make autobahn print the whole address.
            quote(api_key, safe=""),
            quote(token, safe=""),
            root=root,
            # The library tells us of a connection's end as of the end of its tries.
            reconnect_max_tries=0,
            connect_timeout=SILENCE_SECONDS,
        )
        self._ticker.parse = stream.parse
        self._ticker.more_headers = stream.headers
        self._ticker.on_ticks = self._on_ticks
        self._ticker.on_open = self._on_open
        self._ticker.on_message = self._on_message
        self._ticker.on_error = self._on_error
        self._ticker.on_noreconnect = self._on_end

    @property
    def is_silent(self) -> bool:
        """Return whether nothing came for longer than a living server is ever silent."""
        return time.monotonic() - self._heard_at > SILENCE_SECONDS

    @property
    def lived_seconds(self) -> float:
        """Return how long it held, until the last message."""
        return self._heard_at - self._made_at

    def open(self) -> None:
        """Connect."""
        self._reactor.callFromThread(self._open)

    def subscribe(self) -> None:
        """Bring what the server sends in line with what the stream wants."""
        self._reactor.callFromThread(self._subscribe)

    def end(self) -> None:
        """Leave, if the server has not left already."""
        self._reactor.callFromThread(self._end)

    def _open(self) -> None:
        # A stream may be closed before its connection was begun.
        if not self.is_over:
            self._ticker.dial()

    def _on_open(self, _: object) -> None:
        self.is_open = True
        self._subscribe()

    def _on_message(self, *_: object) -> None:
        self._heard_at = time.monotonic()

    def _on_ticks(self, _: object, ticks: list[Tick]) -> None:
        if not self.is_over:
            self._stream.hand_over(ticks)

    def _on_error(self, _: object, code: int, reason: object) -> None:
        """Note why the connection may be about to end: an error text (code 0), or its end."""
        self.reason = str(reason)
        said = self.reason.lower()
        if code == 0 and ("token" in said or "api_key" in said):
            self._complained_at = time.monotonic()
        elif "upgrade failed (403" in said:
            self.was_refused = True

    def _on_end(self, _: object) -> None:
        if time.monotonic() - self._complained_at < COMPLAINT_SECONDS:
            self.was_refused = True
        self.is_over = True

    def _subscribe(self) -> None:
        if self.is_over or not self.is_open:
            return
        wanted, has = self._stream.names.keys(), self._ticker.subscribed_tokens.keys()
        if gone := sorted(has - wanted):
            self._ticker.unsubscribe(gone)
        if new := sorted(wanted - has):
            self._ticker.subscribe(new)
            self._ticker.set_mode(self._stream.mode, new)

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._ticker.hang_up()


def running_reactor() -> Any:
    """Return the process's only reactor, which runs in a daemon thread and is never stopped."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    with _starting:
        if not reactor.running:
            is_running = threading.Event()
            reactor.callWhenRunning(is_running.set)
            threading.Thread(
                target=reactor.run,
                kwargs={"installSignalHandlers": False},
                name="twisted-reactor",
                daemon=True,
            ).start()
            is_running.wait()
    return reactor


_starting = threading.Lock()


@functools.cache
def _ticker_class() -> Any:
    """Return the library's ticker, made to verify certificates and to parse our way."""
    ticker: Any = lean_import.module("kiteconnect.ticker")
    from autobahn.twisted import websocket  # type: ignore[import-untyped]
    from twisted.internet import ssl

    # One level below autobahn writes out the request, whose address holds the access token.
    websocket.WebSocketClientProtocol.log.set_log_level("info", keep=True)

    class Ticker(ticker.KiteTicker):
        parse: Callable[[bytes], list[Tick]]
        connector: Any = None
        more_headers: Mapping[str, str] = {}

        def dial(self) -> None:
            """Do what `connect` does, but verify the server, which `connect` does not."""
            self._create_connection(
                self.socket_url,
                useragent=self._user_agent(),
                headers={"X-Kite-Version": "3", **self.more_headers},
            )
            host = self.factory.host
            context = ssl.optionsForClientTLS(host) if self.factory.isSecure else None
            self.connector = websocket.connectWS(
                self.factory, contextFactory=context, timeout=self.connect_timeout
            )

        def hang_up(self) -> None:
            """Leave with a word where there is a connection, without one where it is being made."""
            if self.ws:
                self.close()
            elif self.connector:
                self.connector.disconnect()

        def _parse_binary(self, payload: bytes) -> list[Tick]:
            return self.parse(payload)

    return Ticker


def _checked(tokens: Mapping[int, str]) -> dict[int, str]:
    if len(tokens) > MOST_INSTRUMENTS:
        raise ValueError(f"{len(tokens)} instruments: the ticker takes {MOST_INSTRUMENTS}")
    return {int(token): name for token, name in tokens.items()}


def _pauses() -> Iterator[float]:
    """Give the seconds between one connection and the next: 0, 1, 2, 4 and so on."""
    yield 0.0
    pause = 1.0
    while True:
        yield pause
        pause = min(pause * 2.0, LONGEST_PAUSE_SECONDS)
