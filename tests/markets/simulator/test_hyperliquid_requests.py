"""Signed requests at the simulated exchange: nonces, expiry, agents, limits, and how it refuses."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import pytest

from markets.simulator.credentials import EXCHANGE_WALLET
from markets.simulator.hyperliquid import refusals
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.world import World
from tests.markets.simulator.exchange_client import (
    CLOID,
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

AGENTS_KEY = "0x" + "22" * 32
AGENT = "0x1563915e194d8cfba1943570603f7606a3115508"
NOOP = {"type": "noop"}
DAY_MS = 86_400_000
# Left alone, ccxt signs an approval before anything else; its own orders then name a builder.
QUIET = {
    "builderFee": False,
    "approvedBuilderFee": True,
    "refSet": True,
    "fetchMarkets": {"types": ["swap"]},
}


@pytest.fixture(scope="module")
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="module")
def world(clock: HandClock) -> World:
    return World.build(clock)


@pytest.fixture
def exchange(world: World, clock: HandClock) -> Hyperliquid:
    clock.reset()
    return Hyperliquid(world, weight_per_minute=PLENTY, agents=[AGENT])


@pytest.fixture
def url(exchange: Hyperliquid) -> Iterator[str]:
    with served(exchange.app()) as address:
        yield address


@pytest.fixture
def client(url: str) -> ccxt.hyperliquid:
    return client_of(url)


@pytest.fixture
def quiet(url: str) -> ccxt.hyperliquid:
    """Return a client that signs nothing unasked."""
    return client_of(url, options=QUIET)


def an_order(client: ccxt.hyperliquid, **changes: Any) -> dict[str, Any]:
    """Return an action that buys a hundredth at the market."""
    price = str(round(mid(client) * 1.01))
    row = {"a": 0, "b": True, "p": price, "s": "0.01", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    return {"type": "order", "orders": [{**row, "c": CLOID, **changes}], "grouping": "na"}


def send(
    client: ccxt.hyperliquid, action: dict[str, Any], nonce: int, expires: int | None = None
) -> Any:
    """Send an action that holds until a time, signed with it."""
    signature = client.sign_l1_action(action, nonce, None, expires)
    body = {"action": action, "nonce": nonce, "signature": signature}
    if expires is not None:
        body["expiresAfter"] = expires
    return client.private_post_exchange(body)


def statuses(answer: Any) -> list[Any]:
    return list(answer["response"]["data"]["statuses"])


# --- Nonces ----------------------------------------------------------------------------------


def test_a_noop_uses_up_its_nonce_and_a_request_with_it_can_never_arrive(
    client: ccxt.hyperliquid, url: str
) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    assert act(client, NOOP, nonce) == {"status": "ok", "response": {"type": "default"}}
    with pytest.raises(ccxt.ExchangeError, match=f"Invalid nonce: duplicate nonce {nonce}"):
        act(client, action, nonce)
    assert truth(url)["orders"] == []


def test_a_late_order_loses_to_the_noop_sent_meanwhile(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    exchange.faults.put("late_acceptance", seconds=0.6)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        act(client, action, nonce)
    # Its nonce is its own only when it arrives.
    assert act(client, NOOP, nonce)["status"] == "ok"
    time.sleep(0.9)
    assert truth(url)["orders"] == []


def test_a_noop_that_comes_after_the_order_is_told_that_its_nonce_was_used(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    exchange.faults.put("timeout_after_acceptance", seconds=0.0)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        act(client, action, nonce)
    with pytest.raises(ccxt.ExchangeError, match=f"duplicate nonce {nonce}"):
        act(client, NOOP, nonce)
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "closed"


def test_a_lost_order_never_arrives(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    exchange.faults.put("lost", match="exchange order", seconds=0.1)
    client.set_leverage(5, SYMBOL)
    with pytest.raises(ccxt.NetworkError):
        act(client, action, nonce)
    assert truth(url)["orders"] == []
    assert act(client, NOOP, nonce)["status"] == "ok"


def test_a_request_delivered_twice_is_answered_as_a_duplicate_though_it_was_taken(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    exchange.faults.put("delivered_twice")
    with pytest.raises(ccxt.ExchangeError, match="duplicate nonce"):
        act(client, an_order(client))
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "closed"


def test_nonces_too_low_and_too_high_are_not_called_duplicates(client: ccxt.hyperliquid) -> None:
    nonce = client.incrementing_nonce()
    for wrong, words in (
        (nonce - 3 * DAY_MS, rf"nonce too low {nonce - 3 * DAY_MS} < \d+"),
        (nonce + 2 * DAY_MS, rf"nonce too high {nonce + 2 * DAY_MS} > \d+"),
    ):
        with pytest.raises(ccxt.ExchangeError, match=f"Invalid nonce: {words}"):
            act(client, NOOP, wrong)
    for number in range(100):
        act(client, NOOP, nonce + number)
    # Only the hundred highest are known; below them nothing is taken, used before or not.
    act(client, NOOP, nonce + 100)
    with pytest.raises(ccxt.ExchangeError, match=f"nonce too low {nonce} < {nonce + 1}"):
        act(client, NOOP, nonce)


# --- The end of a request's life -------------------------------------------------------------


def test_an_expired_request_is_refused_and_does_nothing(client: ccxt.hyperliquid, url: str) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    past = int(time.time() * 1_000) - 1
    with pytest.raises(ccxt.ExchangeError, match=r"\"err\".*Action already expired"):
        send(client, action, nonce, past)
    assert truth(url)["orders"] == []
    assert send(client, action, nonce, past + 60_000)["status"] == "ok"
    assert len(truth(url)["fills"]) == 1


def test_a_late_request_that_has_expired_does_nothing(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    action, nonce = an_order(client), client.incrementing_nonce()
    exchange.faults.put("late_acceptance", seconds=0.8)
    with pytest.raises(ccxt.ExchangeNotAvailable):
        send(client, action, nonce, int(time.time() * 1_000) + 300)
    time.sleep(1.1)
    assert truth(url)["orders"] == []
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order(CLOID, SYMBOL)


def test_what_a_request_may_not_outlive_is_signed(client: ccxt.hyperliquid) -> None:
    nonce, until = client.incrementing_nonce(), int(time.time() * 1_000) + 60_000
    signature = client.sign_l1_action(NOOP, nonce, None, until)
    body = {"action": NOOP, "nonce": nonce, "signature": signature}
    with pytest.raises(ccxt.ExchangeError, match="does not exist"):
        client.private_post_exchange({**body, "expiresAfter": until + 1})


# --- Agents ----------------------------------------------------------------------------------


def test_an_agent_trades_for_the_wallet_and_has_nonces_of_its_own(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    agent, nonce = client_of(url, AGENTS_KEY), client.incrementing_nonce()
    for each in (client, agent):
        act(each, NOOP, nonce)
    market_order(agent, "buy", 0.01)
    assert len(truth(url)["fills"]) == 1
    [listed] = client.public_post_info({"type": "extraAgents", "user": EXCHANGE_WALLET})
    assert listed["address"] == AGENT
    exchange.faults.put("agent_pruned")
    with pytest.raises(ccxt.InvalidOrder, match=f"User or API Wallet {AGENT} does not exist"):
        market_order(agent, "buy", 0.01)
    market_order(client, "buy", 0.01)


def test_whoever_asks_with_an_agents_address_is_shown_nothing(url: str) -> None:
    agent = client_of(url, AGENTS_KEY)
    market_order(agent, "buy", 0.01)
    agent.walletAddress = AGENT
    assert agent.fetch_positions([SYMBOL]) == []
    assert agent.fetch_my_trades(SYMBOL) == []
    roles = {
        who: agent.public_post_info({"type": "userRole", "user": who})["role"]
        for who in (EXCHANGE_WALLET, AGENT, "0x" + "33" * 20)
    }
    assert list(roles.values()) == ["user", "agent", "missing"]


# --- Refusals on demand ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", refusals.ORDERS)
def test_one_order_is_refused_in_its_place(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str, kind: str
) -> None:
    exchange.faults.put(kind, match="BTC")
    words = refusals.ORDERS[kind]
    with pytest.raises(ccxt.ExchangeError) as caught:
        act(client, an_order(client))
    assert f'"error":"{words.text} asset=0"' in str(caught.value).replace('": "', '":"')
    # What is refused for its form leaves no trace.
    assert [row["status"] for row in truth(url)["orders"]] == [words.status] * bool(words.status)
    assert statuses(act(client, an_order(client, c="0x" + "cd" * 16)))[0]["filled"]


def test_after_an_upgrade_only_what_makes_the_book_is_taken(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    exchange.faults.put("reject_post_only", times=2)
    resting = {"p": str(round(mid(client) * 0.98)), "t": {"limit": {"tif": "Alo"}}}
    for _ in range(2):
        with pytest.raises(ccxt.ExchangeError, match="Only post-only orders allowed"):
            act(client, an_order(client))
    exchange.faults.put("reject_post_only")
    assert statuses(act(client, an_order(client, **resting)))[0]["resting"]


@pytest.mark.parametrize("kind", refusals.REQUESTS)
def test_a_whole_request_is_refused_and_does_nothing(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str, kind: str
) -> None:
    exchange.faults.put(kind, match="order")
    act(client, NOOP)
    action, nonce = an_order(client), client.incrementing_nonce()
    with pytest.raises(ccxt.BaseError) as caught:
        act(client, action, nonce)
    assert '"status": "err"' in str(caught.value).replace('":"', '": "')
    assert refusals.REQUESTS[kind].split("{")[0] in str(caught.value)
    assert truth(url)["orders"] == []
    assert act(client, action, nonce)["status"] == "ok"


@pytest.mark.parametrize("kind", refusals.STATUSES)
def test_a_request_is_refused_by_http_before_it_is_read(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str, kind: str
) -> None:
    code, words = refusals.STATUSES[kind]
    exchange.faults.put(kind, match="exchange order")
    act(client, NOOP)
    with pytest.raises(ccxt.BaseError):
        act(client, an_order(client))
    assert (client.last_http_response, truth(url)["orders"]) == (words, [])
    assert str(code) in kind


def test_leverage_is_refused_while_orders_are_taken(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    exchange.faults.put("leverage_refused", match="BTC")
    with pytest.raises(ccxt.ExchangeError, match="Cannot switch leverage type with open position"):
        client.set_leverage(5, SYMBOL)
    assert truth(url)["leverage"] == {}
    market_order(client, "buy", 0.01)
    client.set_leverage(5, SYMBOL)


# --- Limits ----------------------------------------------------------------------------------


def test_an_account_may_ask_for_what_it_has_traded(
    quiet: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    exchange.rules.address_requests = 3
    # One more than allowed is taken every ten seconds.
    for _ in range(4):
        act(quiet, NOOP)
    with pytest.raises(ccxt.RateLimitExceeded, match=r"\(5 > 3\) for cumulative volume traded \$0"):
        act(quiet, an_order(quiet))
    with pytest.raises(ccxt.OrderNotFound):  # cancellations may go twice as far
        quiet.cancel_order("1", SYMBOL)
    exchange.engine.accounts[EXCHANGE_WALLET].spared_ms = 0
    act(quiet, an_order(quiet))
    limits = quiet.public_post_info({"type": "userRateLimit", "user": EXCHANGE_WALLET})
    assert int(limits["nRequestsUsed"]) == 6
    assert int(limits["nRequestsCap"]) > 100
    act(quiet, NOOP)


def test_an_expired_request_costs_five(quiet: ccxt.hyperliquid, exchange: Hyperliquid) -> None:
    with pytest.raises(ccxt.ExchangeError, match="expired"):
        send(quiet, NOOP, quiet.incrementing_nonce(), 1_780_000_000_000)
    assert exchange.engine.accounts[EXCHANGE_WALLET].requests == 5


# --- What else is signed ---------------------------------------------------------------------


def test_orders_are_cancelled_at_the_time_that_was_set(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    at_ms = int(time.time() * 1_000) + 5_200
    with pytest.raises(
        ccxt.ExchangeError, match=r"until enough volume traded. Required: \$1000000"
    ):
        act(client, {"type": "scheduleCancel", "time": at_ms})
    exchange.rules.schedule_volume = 0
    with pytest.raises(ccxt.ExchangeError, match="too early"):
        act(client, {"type": "scheduleCancel", "time": at_ms - 4_000})
    order = client.create_order(SYMBOL, "limit", "buy", 0.01, round(mid(client) * 0.9))
    act(client, {"type": "scheduleCancel", "time": at_ms})
    act(client, {"type": "scheduleCancel"})
    assert exchange.engine.accounts[EXCHANGE_WALLET].scheduled_cancel_ms is None
    act(client, {"type": "scheduleCancel", "time": at_ms})
    exchange.events.happen(at_ms / 1_000 - 0.001)
    assert client.fetch_order(order["id"], SYMBOL)["status"] == "open"
    exchange.events.happen(at_ms / 1_000)
    assert client.fetch_order(order["id"], SYMBOL)["info"]["status"] == "scheduledCancel"


def test_what_nobody_asked_to_sign_is_counted(
    quiet: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    act(quiet, NOOP)
    quiet.set_leverage(5, SYMBOL)
    exchange.faults.put("reset", match="/exchange")
    with pytest.raises(ccxt.NetworkError):
        act(quiet, {"type": "setReferrer", "code": "X"})
    act(quiet, an_order(quiet))
    assert [each["type"] for each in exchange.unasked] == ["setReferrer"]
    builder = {"b": "0x" + "22" * 20, "f": 10}
    with pytest.raises(ccxt.ExchangeError, match="Builder fee has not been approved"):
        act(quiet, {**an_order(quiet), "builder": builder})
    assert [each.get("builder") for each in exchange.unasked] == [None, builder]


def test_what_is_remembered_of_requests_lives_over_a_restart(
    world: World, clock: HandClock, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"weight_per_minute": PLENTY, "agents": [AGENT]}
    with served(Hyperliquid(world, tmp_path, **how).app()) as url:
        agent = client_of(url, AGENTS_KEY, options=QUIET)
        nonce = agent.incrementing_nonce()
        act(agent, NOOP, nonce)
    again = Hyperliquid(world, tmp_path, weight_per_minute=PLENTY)
    assert again.engine.accounts[EXCHANGE_WALLET].requests == 1
    with served(again.app()) as url, pytest.raises(ccxt.ExchangeError, match="duplicate nonce"):
        act(client_of(url, AGENTS_KEY), NOOP, nonce)
    again = Hyperliquid(world, tmp_path, weight_per_minute=PLENTY)
    again.faults.put("agent_pruned")
    again.step()
    again = Hyperliquid(world, tmp_path, weight_per_minute=PLENTY)
    assert again.engine.accounts[EXCHANGE_WALLET].agents == {}
