"""The desk's stream of ticks against the simulated broker, when all is well and when it is not."""

import contextlib
import datetime as dt
import importlib
import io
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markets.venues.base import Tick, TickStream
from markets.venues.kite import ticker as kite_ticker
from markets.venues.kite.ticker import KiteStream, State
from tests.markets.simulator.kite_client import API_KEY, ELEVEN, TOKEN, Server, serving
from tests.test_architecture import load
from tests.waiting import wait_for

NIFTY, SENSEX, RELIANCE = 256265, 265, 738561
NAMES = {NIFTY: "NIFTY", RELIANCE: "RELIANCE"}


class Desk:
    """Streams to one server, and what they handed over."""

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self.token = TOKEN
        self.asked = 0
        self.ticks: list[Tick] = []
        self.streams: list[KiteStream] = []

    def stream(self, names: dict[int, str] = NAMES, **how: Any) -> KiteStream:
        """Start a stream; it is closed after the test."""
        stream = KiteStream(API_KEY, self.ask, names, self.ticks.extend, self.url, **how)
        self.streams.append(stream)
        return stream.start()

    def ask(self) -> str:
        """Return the token of the day."""
        self.asked += 1
        return self.token

    def names(self) -> set[str]:
        """Return the instruments of the ticks to come."""
        self.ticks.clear()
        wait_for(lambda: len(self.ticks) > 2)
        return {tick.instrument for tick in list(self.ticks)}


@pytest.fixture(scope="module")
def served_ticker() -> Iterator[tuple[Server, str]]:
    """Serve one ticker to all tests of this module."""
    with serving() as found:
        yield found


@pytest.fixture
def desk(served_ticker: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Return a desk on a server without faults, in a hurry; the streams end with the test."""
    pauses = kite_ticker._pauses
    monkeypatch.setattr(kite_ticker, "_pauses", lambda: (each / 10 for each in pauses()))
    monkeypatch.setattr(kite_ticker, "_WATCH_SECONDS", 0.02)
    desk = Desk(*served_ticker)
    desk.server.tokens = {TOKEN}
    yield desk
    for stream in desk.streams:
        stream.close()
    desk.server.faults.clear()
    assert wait_for(lambda: not desk.server.ticker._connections)


def connected(stream: KiteStream, seconds: float = 5.0) -> bool:
    """Return whether a stream comes to be alive."""
    return wait_for(stream.is_alive, seconds)


def test_ticks_have_the_desks_names_and_aware_times(desk: Desk) -> None:
    stream = desk.stream()
    satisfied: TickStream = stream
    assert not satisfied.is_alive()
    assert connected(stream)
    assert stream.state == "connected"
    assert desk.names() == {"NIFTY", "RELIANCE"}
    assert wait_for(lambda: [tick for tick in desk.ticks if tick.bid > 0])
    tick = next(tick for tick in desk.ticks if tick.bid > 0)
    assert tick.instrument == "RELIANCE"
    assert tick.bid < tick.last < tick.ask
    assert tick.volume > 0
    assert tick.at.tzinfo is dt.UTC
    assert 0 <= tick.at.timestamp() - ELEVEN < 4 * 3_600


def test_a_lesser_mode_has_no_depth(desk: Desk) -> None:
    stream = desk.stream(mode="quote")
    assert connected(stream)
    assert desk.names() == {"NIFTY", "RELIANCE"}
    assert {tick.bid for tick in desk.ticks} == {0.0}
    # Its packets carry no time: they are of the moment they came.
    assert abs(time.time() - desk.ticks[-1].at.timestamp()) < 5


def test_subscriptions_change_on_the_running_connection(desk: Desk) -> None:
    stream = desk.stream()
    assert connected(stream)
    handshakes = desk.server.handshakes
    stream.resubscribe({SENSEX: "SENSEX", RELIANCE: "Reliance"})
    assert wait_for(lambda: desk.names() == {"SENSEX", "Reliance"})
    stream.resubscribe({SENSEX: "SENSEX"})
    assert wait_for(lambda: desk.names() == {"SENSEX"})
    assert desk.server.handshakes == handshakes


def test_a_closed_stream_is_silent_for_good(desk: Desk) -> None:
    stream = desk.stream()
    assert connected(stream)
    stream.close()
    assert not stream.is_alive()
    assert stream.state == "closed"
    assert wait_for(lambda: not desk.server.ticker._connections)
    for _ in range(10):  # also one that was closed before it began
        desk.stream().close()
    # Another one starts in the same process: the reactor was not stopped.
    assert connected(desk.stream())


def test_a_dropped_connection_is_made_anew(desk: Desk) -> None:
    stream = desk.stream()
    assert connected(stream)
    desk.server.faults.put("dropped_socket")
    assert wait_for(lambda: not stream.is_alive())
    assert connected(stream)
    assert desk.names() == {"NIFTY", "RELIANCE"}


def test_a_frozen_server_is_noticed_and_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kite_ticker.SILENCE_SECONDS == 5.0
    monkeypatch.setattr(kite_ticker, "SILENCE_SECONDS", 1.2)
    stream = desk.stream()
    assert connected(stream)
    handshakes = desk.server.handshakes
    desk.server.faults.put("frozen_socket", seconds=60)
    assert wait_for(lambda: not desk.server.faults.waiting())
    began = time.monotonic()
    assert wait_for(lambda: desk.server.handshakes > handshakes)
    assert 0.8 < time.monotonic() - began < 2.2
    assert connected(stream)
    assert desk.names() == {"NIFTY", "RELIANCE"}


def test_a_refused_token_is_not_offered_again(desk: Desk) -> None:
    desk.token = "yesterdays"
    stream = desk.stream()
    assert wait_for(lambda: stream.state == "waiting for a new token")
    handshakes = desk.server.handshakes
    assert wait_for(lambda: desk.asked >= 2)
    assert desk.server.handshakes == handshakes
    assert not stream.is_alive()
    desk.token = TOKEN
    assert connected(stream)


def test_a_refusal_may_be_a_mistake(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kite_ticker, "REFUSED_SECONDS", 0.5)
    desk.server.tokens = set()
    stream = desk.stream()
    assert wait_for(lambda: stream.state == "waiting for a new token")
    desk.server.tokens = {TOKEN}
    assert connected(stream)


def test_a_token_refused_after_the_handshake_is_refused_all_the_same(desk: Desk) -> None:
    desk.server.faults.put("token_refused_later")
    stream = desk.stream()
    assert wait_for(lambda: stream.state == "waiting for a new token")
    handshakes = desk.server.handshakes
    assert wait_for(lambda: desk.asked >= 2)
    assert desk.server.handshakes == handshakes
    desk.server.tokens = {"todays"}
    desk.token = "todays"
    assert connected(stream)


def test_without_a_token_the_stream_waits(desk: Desk) -> None:
    desk.token = ""
    stream = desk.stream()
    assert wait_for(lambda: stream.state == "waiting for a new token")

    def fails() -> str:
        raise OSError(f"no {TOKEN}")

    stream._token_source = fails
    assert wait_for(lambda: desk.asked >= 1)
    stream._token_source = lambda: TOKEN
    assert connected(stream)


def test_a_server_that_is_not_there_is_tried_again(desk: Desk) -> None:
    desk.url = "ws://127.0.0.1:9"
    stream = desk.stream()
    assert wait_for(lambda: desk.asked >= 2)
    assert wait_for(lambda: stream.state == "reconnecting")
    assert not stream.is_alive()


def test_a_consumer_that_fails_does_not_end_the_stream(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(ticks: list[Tick]) -> None:
        raise RuntimeError("disk full")

    stream = KiteStream(API_KEY, desk.ask, NAMES, fail, desk.url).start()
    desk.streams.append(stream)
    assert wait_for(lambda: len([each for each in caplog.records if each.exc_info]) > 1)
    assert connected(stream)


def test_bad_frames_are_counted_out(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    stream = KiteStream(API_KEY, desk.ask, NAMES, desk.ticks.extend, desk.url)
    assert stream.parse(b"\0\7\0\10abc") == []
    assert "bad frame" in caplog.text


def test_absurd_prices_and_missing_instruments_are_handed_over_as_they_are(desk: Desk) -> None:
    stream = desk.stream()
    assert connected(stream)
    desk.server.faults.put("absurd_price", match="NIFTY 50")
    assert wait_for(lambda: [t for t in desk.ticks if t.instrument == "NIFTY" and t.last > 1e5])
    desk.server.faults.put("missing_instrument", match="NIFTY 50", seconds=1.2)
    assert wait_for(lambda: desk.names() == {"RELIANCE"})
    assert stream.is_alive()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"root": "https://ws.kite.trade"}, "no ws:// or wss:// address"),
        ({"mode": "loud"}, "no mode 'loud'"),
        ({"tokens": dict.fromkeys(range(3001), "")}, "takes 3000"),
    ],
)
def test_a_wrong_stream_is_refused(how: dict[str, Any], says: str) -> None:
    arguments = {"api_key": "", "token_source": str, "tokens": {}, "on_ticks": print, **how}
    with pytest.raises(ValueError, match=says):
        KiteStream(**arguments)


def test_pauses_double_up_to_half_a_minute() -> None:
    pauses = kite_ticker._pauses()
    assert [next(pauses) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_nothing_is_imported_before_the_first_stream() -> None:
    unwanted = ("kiteconnect", "twisted", "autobahn", "django")
    assert load(["markets.venues.kite.ticker"], unwanted) == ""


LEAVES = """
import sys, time
from markets.venues.kite.ticker import KiteStream
stream = KiteStream("simulatedkey", lambda: sys.argv[2], {256265: "NIFTY"}, print, sys.argv[1])
stream.start()
while not stream.is_alive():
    time.sleep(0.05)
"""


def test_a_process_with_a_running_stream_can_leave(desk: Desk) -> None:
    root = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        [sys.executable, "-c", LEAVES, desk.url, TOKEN],
        cwd=root,
        timeout=20,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_no_log_line_holds_the_access_token(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Let every library log all it can, while everything that is logged happens."""
    from twisted import logger

    txaio: Any = importlib.import_module("txaio")  # autobahn's, without types
    publisher: Any = logger.globalLogPublisher
    caplog.set_level(logging.DEBUG)
    observer = logger.STDLibLogObserver()
    publisher.addObserver(observer)
    printed = io.StringIO()
    try:
        txaio.set_global_log_level("trace")
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            stream = desk.stream()
            assert connected(stream)
            desk.server.tokens = set()
            desk.server.faults.put("dropped_socket")
            assert wait_for(lambda: stream.state == "waiting for a new token")
            strange = "strange#token and more"
            desk.server.tokens, desk.token = {strange}, strange
            assert connected(stream)
    finally:
        txaio.set_global_log_level("info")
        publisher.removeObserver(observer)
    said = caplog.text + printed.getvalue()
    assert "twisted" in said
    assert "403" in said
    assert TOKEN not in said
    assert "strange" not in said


def test_streams_share_one_reactor(desk: Desk) -> None:
    first, second = desk.stream(), desk.stream({SENSEX: "SENSEX"})
    assert connected(first)
    assert connected(second)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("twisted-reactor") <= 1
    assert State.CONNECTED == first.state == second.state
