"""The simulated exchange's account: margin, funding, restarts, signatures, limits and faults."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import ccxt
import numpy as np
import pytest

from markets.simulator.credentials import EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.hyperliquid.keccak import keccak256
from markets.simulator.hyperliquid.signing import pack
from markets.simulator.world import World
from tests.markets.simulator.exchange_client import (
    CLOID,
    HOUR_MS,
    PLENTY,
    SYMBOL,
    HandClock,
    act,
    client_of,
    market_order,
    mid,
    truth,
)
from tests.markets.simulator.served import served

STRANGERS_KEY = "0x" + "11" * 32


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def world(clock: HandClock) -> World:
    return World.build(clock)


@pytest.fixture
def exchange(world: World, clock: HandClock) -> Hyperliquid:
    clock.reset()
    return Hyperliquid(world, weight_per_minute=PLENTY)


@pytest.fixture
def url(exchange: Hyperliquid) -> Iterator[str]:
    with served(exchange.app()) as address:
        yield address


@pytest.fixture
def client(url: str) -> ccxt.hyperliquid:
    return client_of(url)


# --- The account -----------------------------------------------------------------------------


def test_leverage_sets_the_margin(client: ccxt.hyperliquid) -> None:
    market_order(client, "buy", 0.02)
    client.set_leverage(5, SYMBOL)
    [position] = client.fetch_positions([SYMBOL])
    assert position["leverage"] == 5
    assert position["initialMargin"] == pytest.approx(position["notional"] / 5)
    with pytest.raises(ccxt.ExchangeError, match="Invalid leverage"):
        client.set_leverage(41, SYMBOL)


def test_funding_is_paid_each_hour_of_market_time(
    client: ccxt.hyperliquid, clock: HandClock, url: str
) -> None:
    market_order(client, "buy", 0.1)
    before, start = Decimal(truth(url)["cash"]), int(clock.at * 1000)
    clock.pass_by(3 * 3_600)
    paid = client.fetch_funding_history(SYMBOL, start)
    # From 04:30 UTC: at five, six and seven.
    assert [row["timestamp"] % HOUR_MS for row in paid] == [0, 0, 0]
    rates = client.fetch_funding_rate_history(SYMBOL, start)
    assert [row["rate"] for row in paid] == [row["fundingRate"] for row in rates]
    total = sum(Decimal(str(row["amount"])) for row in paid)
    assert total < 0
    assert Decimal(truth(url)["cash"]) - before == total
    assert paid[0]["amount"] == pytest.approx(-0.1 * mid(client) * paid[0]["rate"], rel=0.02)


def test_an_account_below_its_maintenance_margin_is_closed_out(
    world: World, clock: HandClock
) -> None:
    clock.reset()
    ahead = world.prices.spot("BTC", clock.at + np.arange(0.0, 5 * 86_400.0, 60.0))
    falls = ahead.min() < 0.985 * ahead[0]
    side = "buy" if falls else "sell"
    assert falls or ahead.max() > 1.015 * ahead[0]
    deposit = Decimal(repr(round(float(ahead[0]) * 0.1 / 36, 2)))
    with served(Hyperliquid(world, deposit=deposit, weight_per_minute=PLENTY).app()) as url:
        client = client_of(url)
        client.set_leverage(40, SYMBOL)
        market_order(client, side, 0.1)
        rests = mid(client) * (0.5 if falls else 1.5)
        resting = client.create_order(SYMBOL, "limit", side, 0.0004, round(rests))
        clock.pass_by(5 * 86_400)
        assert client.fetch_positions([SYMBOL]) == []
        assert client.fetch_order(resting["id"], SYMBOL)["status"] == "canceled"
        last = client.fetch_my_trades(SYMBOL)[-1]
        assert last["info"]["liquidation"]["liquidatedUser"] == EXCHANGE_WALLET
        assert 0.0 < float(truth(url)["equity"]) < float(deposit) / 2


def test_an_account_lives_on_over_a_restart(world: World, clock: HandClock, tmp_path: Path) -> None:
    clock.reset()
    with served(Hyperliquid(world, tmp_path, weight_per_minute=PLENTY).app()) as url:
        client = client_of(url)
        market_order(client, "buy", 0.05, clientOrderId=CLOID)
        client.create_order(SYMBOL, "limit", "sell", 0.01, round(mid(client) * 1.1))
        clock.pass_by(3_700)
        client.set_leverage(10, SYMBOL)
        used = client.incrementing_nonce()
        act(client, {"type": "setReferrer", "code": "X"}, used)
        before = truth(url)
    assert before["payments"]
    with served(Hyperliquid(world, tmp_path, weight_per_minute=PLENTY).app()) as url:
        assert truth(url) == before
        client = client_of(url)
        with pytest.raises(ccxt.ExchangeError, match="duplicate nonce"):
            act(client, {"type": "setReferrer", "code": "X"}, used)
        assert client.fetch_order(CLOID, SYMBOL)["status"] == "closed"
        market_order(client, "sell", 0.05)
        numbers = [row["oid"] for row in truth(url)["orders"]]
        assert len(set(numbers)) == 3
        assert client.fetch_positions([SYMBOL]) == []


# --- Who may ---------------------------------------------------------------------------------


def test_a_key_without_an_account_trades_nothing(url: str) -> None:
    client = client_of(url, STRANGERS_KEY)
    with pytest.raises(
        ccxt.InvalidOrder, match=r"User or API Wallet 0x[0-9a-f]{40} does not exist"
    ):
        market_order(client, "buy", 0.01)
    assert truth(url)["orders"] == []


def test_a_signature_holds_for_one_action_only(client: ccxt.hyperliquid, url: str) -> None:
    nonce = client.incrementing_nonce()
    signed = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 3}
    signature = client.sign_l1_action(signed, nonce)
    sent = {**signed, "leverage": 30}
    with pytest.raises(ccxt.ExchangeError, match="does not exist"):
        client.private_post_exchange({"action": sent, "nonce": nonce, "signature": signature})
    assert truth(url)["leverage"] == {}


def test_a_nonce_is_used_once_and_is_of_these_days(client: ccxt.hyperliquid) -> None:
    action = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 3}
    nonce = client.incrementing_nonce()
    act(client, action, nonce)
    with pytest.raises(ccxt.ExchangeError, match=f"duplicate nonce {nonce}"):
        act(client, action, nonce)
    for wrong in (nonce - 3 * 86_400_000, nonce + 2 * 86_400_000):
        with pytest.raises(ccxt.ExchangeError, match="Invalid nonce"):
            act(client, action, wrong)


def test_hashes_and_packing_are_those_of_other_hands(client: ccxt.hyperliquid) -> None:
    for length in (0, 1, 135, 136, 137, 500):
        message = bytes(range(256)) * 2
        assert keccak256(message[:length]).hex() == client.hash(message[:length], "keccak", "hex")
    numbers = [0, 127, 128, 255, 256, 65_536, 1 << 32, 1 << 40, -1, -32, -33, -129, -40_000]
    words = {"short": "a" * 31, "long": "a" * 32, "longer": "a" * 300}
    value = {"n": numbers, "w": words, "x": [None, True, False, 1.5], "l": list(range(20))}
    assert pack(value) == client.packb(value)


def test_a_builder_must_be_approved(client: ccxt.hyperliquid, url: str) -> None:
    builder = {"b": "0x" + "22" * 20, "f": 10}
    price = str(round(mid(client)))
    row = {"a": 0, "b": True, "p": price, "s": "0.01", "r": False, "t": {"limit": {"tif": "Gtc"}}}
    with pytest.raises(ccxt.ExchangeError, match="Builder fee has not been approved"):
        act(client, {"type": "order", "orders": [row], "grouping": "na", "builder": builder})
    # What ccxt approves by itself, and sends with its own orders, is 0 %.
    market_order(client, "buy", 0.01)
    assert len(truth(url)["fills"]) == 1


def test_requests_over_the_weight_are_refused(world: World, clock: HandClock) -> None:
    clock.reset()
    with served(Hyperliquid(world).app()) as url:
        client = client_of(url)
        began, taken = time.monotonic(), 0
        with pytest.raises(ccxt.RateLimitExceeded):
            for _ in range(100):
                client.fetch_open_orders(SYMBOL)
                taken += 1
        drained = (time.monotonic() - began) * 20
        assert (1_200 - 100) / 20 - 1 <= taken <= (1_200 + drained) / 20


def test_what_the_exchange_cannot_read_is_422(client: ccxt.hyperliquid) -> None:
    for body in ({"type": "nothing"}, {"type": "l2Book"}, {"type": "l2Book", "coin": "DOGE"}):
        with pytest.raises(ccxt.ExchangeError):
            client.public_post_info(body)
        assert (
            client.last_http_response == "Failed to deserialize the JSON body into the target type"
        )


# --- Faults ----------------------------------------------------------------------------------


def test_an_answer_that_never_comes_hides_an_order_that_did(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    client.timeout = 800
    price = mid(client)
    exchange.faults.put("timeout_after_acceptance", seconds=1.5)
    with pytest.raises(ccxt.RequestTimeout):
        client.create_order(SYMBOL, "market", "buy", 0.01, price, {"clientOrderId": CLOID})
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "closed"


def test_an_order_can_arrive_after_it_seemed_lost(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    price = mid(client)
    exchange.faults.put("late_acceptance", seconds=1.0)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        client.create_order(SYMBOL, "market", "buy", 0.01, price, {"clientOrderId": CLOID})
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order(CLOID, SYMBOL)
    time.sleep(1.3)
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "closed"
    assert exchange.received["exchange/order"] == 1


def test_partial_fills_wait_or_are_cancelled(
    client: ccxt.hyperliquid, exchange: Hyperliquid, clock: HandClock
) -> None:
    exchange.faults.put("partial_fill", quantity=400)
    order = market_order(client, "buy", 0.01)
    found = client.fetch_order(order["id"], SYMBOL)
    assert (found["status"], found["filled"]) == ("canceled", 0.004)
    exchange.faults.put("partial_fill", seconds=1.0)
    price = round(mid(client) * 1.02)
    order = client.create_order(SYMBOL, "limit", "buy", 0.02, price)
    clock.pass_by(60)
    [trade] = client.fetch_my_trades(SYMBOL)[1:]
    assert trade["amount"] == 0.01
    # The status of one that is open says what was left when it came.
    found = client.fetch_order(order["id"], SYMBOL)
    assert (found["status"], found["filled"], found["remaining"]) == ("open", 0.0, 0.02)
    [waiting] = client.fetch_open_orders(SYMBOL)
    assert waiting["remaining"] == 0.01
    time.sleep(1.1)
    clock.pass_by(60)
    assert client.fetch_order(order["id"], SYMBOL)["status"] == "closed"


def test_an_order_is_refused_on_demand(client: ccxt.hyperliquid, exchange: Hyperliquid) -> None:
    exchange.faults.put("reject", match="BTC")
    with pytest.raises(ccxt.InsufficientFunds):
        market_order(client, "buy", 0.01)
    market_order(client, "buy", 0.01)


def test_shown_prices_stand_still_or_jump_while_the_market_goes_on(
    client: ccxt.hyperliquid, exchange: Hyperliquid, clock: HandClock
) -> None:
    before = client.fetch_order_book(SYMBOL)
    exchange.faults.put("stale_prices", seconds=30.0)
    client.fetch_order_book(SYMBOL)
    clock.pass_by(7_200)
    assert client.fetch_order_book(SYMBOL) == before
    client.create_order(SYMBOL, "market", "buy", 0.01, before["asks"][0][0])
    [trade] = client.fetch_my_trades(SYMBOL)
    assert trade["price"] != before["asks"][0][0]
    exchange.faults.put("absurd_price")
    assert mid(client) == pytest.approx(10 * (before["bids"][0][0] + before["asks"][0][0]) / 2)


def test_other_faults_of_http_are_seen_by_the_client(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    for kind, error in (
        ("rate_limit", ccxt.RateLimitExceeded),
        ("server_error", ccxt.ExchangeNotAvailable),
        ("unavailable", ccxt.ExchangeNotAvailable),
        ("reset", ccxt.NetworkError),
    ):
        exchange.faults.put(kind)
        with pytest.raises(error):
            client.fetch_open_orders(SYMBOL)
    assert client.fetch_open_orders(SYMBOL) == []


def test_several_clients_are_served(url: str, exchange: Hyperliquid) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            client = client_of(url)
            stack.callback(client.session.close)
            market_order(client, "buy", 0.01)
    assert exchange.received["exchange/order"] == 3
    assert len(truth(url)["fills"]) == 3
