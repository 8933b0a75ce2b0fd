"""The simulated ticker, through the unmodified KiteTicker."""

import datetime as dt
import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.markets.simulator.kite_client import ELEVEN, Client, Server, serving, world_from
from tests.waiting import wait_for

NIFTY, SENSEX, RELIANCE = 256265, 265, 738561


@pytest.fixture(scope="module")
def served_ticker() -> Iterator[tuple[Server, str]]:
    """Serve one ticker to all tests of this module."""
    with serving() as found:
        yield found


@pytest.fixture
def server(served_ticker: tuple[Server, str]) -> Iterator[Server]:
    """Return the server, without faults before and after, and with its clients gone."""
    server = served_ticker[0]
    assert wait_for(lambda: not server.ticker._connections)
    yield server
    server.faults.clear()


@pytest.fixture
def url(served_ticker: tuple[Server, str]) -> str:
    """Return the server's address."""
    return served_ticker[1]


def modes(client: Client) -> dict[int, str]:
    """Return the modes of the newest frame, by instrument."""
    return {each["instrument_token"]: each["mode"] for each in client.frames[-1]}


def has_modes(client: Client, expected: dict[int, str]) -> bool:
    """Return whether frames come to carry just these modes."""
    return wait_for(lambda: client.frames and modes(client) == expected)


def post(url: str, path: str, body: object) -> None:
    """Send JSON to the server."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        url.replace("ws:", "http:") + path, json.dumps(body).encode(), method="POST"
    )
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310


def test_a_client_gets_what_it_subscribed_in_its_mode(server: Server, url: str) -> None:
    with Client(url) as client, Client(url) as other:
        client.do("subscribe", [NIFTY, RELIANCE, 1])  # 1 is listed nowhere
        other.do("subscribe", [SENSEX])
        assert has_modes(client, {NIFTY: "quote", RELIANCE: "quote"})
        assert has_modes(other, {SENSEX: "quote"})
        client.do("set_mode", "full", [RELIANCE])
        client.do("set_mode", "ltp", [NIFTY])
        assert has_modes(client, {NIFTY: "ltp", RELIANCE: "full"})
        client.do("unsubscribe", [NIFTY])
        assert has_modes(client, {RELIANCE: "full"})
        client.do("subscribe", [RELIANCE])
        assert has_modes(client, {RELIANCE: "quote"})
        assert not client.errors


def test_ticks_follow_the_market_and_heartbeats_the_second(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [RELIANCE])
        client.do("set_mode", "full", [RELIANCE])
        assert wait_for(lambda: len(client.heartbeats) > 1)
        at = [
            each["exchange_timestamp"].timestamp()
            for each in client.of(RELIANCE)
            if each["mode"] == "full"
        ]
        assert 0.8 < client.heartbeats[-1] - client.heartbeats[-2] < 1.5
        # Five a second, and the market runs 48 times as fast.
        assert len(at) > 2
        assert at == sorted(at)
        assert 0 < at[-1] - ELEVEN < 48 * 60
        assert at[-1] - at[0] > 10
        assert abs(at[-1] - server.world.now()) < 100


def test_order_updates_reach_every_client(server: Server, url: str) -> None:
    with Client(url) as client, Client(url) as other:
        assert wait_for(lambda: client.opened and other.opened)
        post(url, "/order", {"order_id": "1", "status": "COMPLETE"})
        assert wait_for(lambda: client.orders and other.orders)
        assert client.orders == other.orders == [{"order_id": "1", "status": "COMPLETE"}]


def test_what_is_no_request_is_passed_over(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY])
        for text in ('{"a":"shout","v":[1]}', '{"a":"mode","v":["loud",[256265]]}'):
            client._reactor.callFromThread(client.library.ws.sendMessage, text.encode())
        assert has_modes(client, {NIFTY: "quote"})
        assert not client.errors
        for text in ("no JSON", "[]", '{"a":"subscribe","v":["256265"]}', '{"a":"mode","v":[1]}'):
            client._reactor.callFromThread(client.library.ws.sendMessage, text.encode())
        assert wait_for(lambda: len(client.errors) == 4)
        assert client.errors[0] == (0, "Invalid message.")
        assert client.library.is_connected()


def test_there_are_limits(server: Server, url: str) -> None:
    with Client(url) as first, Client(url) as second, Client(url) as third:
        assert wait_for(lambda: first.opened and second.opened and third.opened)
        with Client(url) as fourth:
            assert wait_for(lambda: fourth.errors)
            assert "429" in fourth.errors[0][1]
        first.do("subscribe", list(range(1, 3001)))
        first.do("subscribe", [NIFTY])
        assert wait_for(lambda: first.errors)
        assert first.errors == [(0, "More than 3000 instruments.")]


def test_a_wrong_token_is_refused_at_the_handshake(server: Server, url: str) -> None:
    with Client(url, "wrong") as client:
        assert wait_for(lambda: client.errors)
        code, reason = client.errors[0]
        assert code == 1006
        assert "403" in reason
        assert not client.opened


def test_a_closed_market_answers_once_and_then_only_beats() -> None:
    night = dt.timedelta(hours=8).total_seconds()
    with serving(world_from(ELEVEN + night)) as (_, url), Client(url) as client:
        client.do("subscribe", [NIFTY])
        assert wait_for(lambda: client.frames)
        assert wait_for(lambda: client.heartbeats)
        time.sleep(0.6)
        assert len(client.frames) == 1


def test_a_token_refused_later_brings_an_error_and_the_end(server: Server, url: str) -> None:
    server.faults.put("token_refused_later")
    with Client(url) as client:
        assert wait_for(lambda: client.errors)
        assert client.opened == 1
        assert client.errors[0] == (0, "Invalid `access_token`.")
        assert wait_for(lambda: not client.library.is_connected())


def test_a_dropped_socket_comes_back_with_its_subscriptions(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY])
        assert wait_for(lambda: client.frames)
        server.faults.put("dropped_socket")
        assert wait_for(lambda: client.errors)
        assert client.errors[0][0] == 1006
        client.frames.clear()
        assert wait_for(lambda: client.frames, 6)
        assert modes(client) == {NIFTY: "quote"}


def test_a_frozen_socket_is_open_and_silent(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY])
        assert wait_for(lambda: client.frames)
        server.faults.put("frozen_socket", seconds=1.6)
        assert wait_for(lambda: not server.faults.waiting())
        time.sleep(0.1)
        heard = len(client.frames), len(client.heartbeats)
        time.sleep(1.2)
        assert (len(client.frames), len(client.heartbeats)) == heard
        assert client.library.is_connected()
        assert wait_for(lambda: len(client.frames) > heard[0])


def test_stale_prices_keep_their_times(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY, RELIANCE])
        client.do("set_mode", "full", [NIFTY, RELIANCE])
        assert has_modes(client, {NIFTY: "full", RELIANCE: "full"})
        server.faults.put("stale_prices", match="NSE:RELIANCE", seconds=1.6)
        assert wait_for(lambda: not server.faults.waiting())
        first, moving = client.last(RELIANCE), client.last(NIFTY)
        time.sleep(0.3)
        assert client.last(RELIANCE) == first
        assert client.last(NIFTY)["exchange_timestamp"] > moving["exchange_timestamp"]
        assert wait_for(
            lambda: client.of(RELIANCE)[-1]["exchange_timestamp"] > first["exchange_timestamp"]
        )


def test_an_absurd_price_comes_once(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY, RELIANCE])
        before = client.last(RELIANCE)["last_price"]
        server.faults.put("absurd_price", match="RELIANCE")

        def absurd(token: int) -> list[float]:
            prices = [each["last_price"] for each in client.of(token)]
            return [price for price in prices if price > 5 * prices[0]]

        assert wait_for(lambda: absurd(RELIANCE))
        time.sleep(0.5)
        assert len(absurd(RELIANCE)) == 1
        assert absurd(RELIANCE)[0] == pytest.approx(10 * before, rel=0.01)
        assert not absurd(NIFTY)
        assert client.last(RELIANCE)["last_price"] == pytest.approx(before, rel=0.01)


def test_a_missing_instrument_has_no_packets(server: Server, url: str) -> None:
    with Client(url) as client:
        client.do("subscribe", [NIFTY, RELIANCE])
        assert has_modes(client, {NIFTY: "quote", RELIANCE: "quote"})
        server.faults.put("missing_instrument", match="RELIANCE", seconds=1.0)
        assert has_modes(client, {NIFTY: "quote"})
        assert has_modes(client, {NIFTY: "quote", RELIANCE: "quote"})
