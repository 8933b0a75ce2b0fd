"""What befalls orders and positions at the simulated exchange: ends, force, the owner's hand."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import numpy as np
import pytest

from markets.simulator.credentials import EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import PATH, Hyperliquid
from markets.simulator.hyperliquid.exchange import ENDS
from markets.simulator.hyperliquid.info import MOST_FILLS
from markets.simulator.hyperliquid.market import UNIVERSE
from markets.simulator.hyperliquid.rules import Rules
from markets.simulator.world import World
from tests.markets.simulator.exchange_client import (
    CLOID,
    PLENTY,
    SYMBOL,
    HandClock,
    client_of,
    market_order,
    mid,
    truth,
)
from tests.markets.simulator.served import served

BTC = UNIVERSE[0]


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


def steps(size: float) -> int:
    """Return a size in the asset's steps, as faults count them."""
    return int(Decimal(str(size)) / BTC.size_step)


def held(url: str) -> Decimal:
    position = truth(url)["positions"].get("BTC")
    return Decimal(position["size"]) if position else Decimal(0)


def said_of(client: ccxt.hyperliquid, name: str = CLOID) -> tuple[str, Decimal, Decimal]:
    """Return an order's status in the exchange's word, its size, and what it says is left."""
    row = client.fetch_order(name, SYMBOL)["info"]["order"]
    status = client.fetch_order(name, SYMBOL)["info"]["status"]
    return status, Decimal(row["origSz"]), Decimal(row["sz"])


def fills(client: ccxt.hyperliquid, **how: Any) -> list[dict[str, Any]]:
    asked = {"type": "userFills", "user": EXCHANGE_WALLET, **how}
    return list(client.public_post_info(asked))


# --- How orders end --------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["rule", "fault", "neither"])
def test_a_partly_filled_immediate_order_is_called_either(
    client: ccxt.hyperliquid, exchange: Hyperliquid, by: str
) -> None:
    exchange.rules.ioc_as_filled = by == "rule"
    if by == "fault":
        exchange.faults.put("ioc_as_filled", match="BTC")
    exchange.faults.put("partial_fill", quantity=steps(0.004))
    order = market_order(client, "buy", 0.01, clientOrderId=CLOID)
    assert order["filled"] == 0.004
    word = "canceled" if by == "neither" else "filled"
    assert said_of(client) == (word, Decimal("0.01"), Decimal("0.006"))


@pytest.mark.parametrize(("kind", "word"), ENDS.items())
def test_an_order_ends_with_any_of_the_exchanges_words(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str, kind: str, word: str
) -> None:
    exchange.faults.put(kind, match="BTC", quantity=steps(0.004))
    market_order(client, "buy", 0.01, clientOrderId=CLOID)
    assert said_of(client) == (word, Decimal("0.01"), Decimal("0.006"))
    exchange.faults.put(kind)
    other = "0x" + "cd" * 16
    price = round(mid(client) * 0.95)
    client.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": other})
    assert said_of(client, other) == (word, Decimal("0.01"), Decimal("0.01"))
    rows = client.public_post_info({"type": "historicalOrders", "user": EXCHANGE_WALLET})
    assert [row["status"] for row in rows if row["order"]["cloid"] == other] == [word, "open"]
    assert held(url) == Decimal("0.004")


def test_a_cloid_may_be_taken_again_if_that_is_the_rule(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    exchange.rules.cloid_once = False
    for _ in range(2):
        market_order(client, "buy", 0.01, clientOrderId=CLOID)
    assert held(url) == Decimal("0.02")


def test_rules_are_set_from_outside(url: str, exchange: Hyperliquid) -> None:
    def ask(body: bytes) -> int:
        request = urllib.request.Request(f"{url}{PATH}/rules", body)  # noqa: S310 - our own address
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return int(answer.status)

    assert ask(b'{"ioc_as_filled": true, "address_requests": 10000}') == 200
    assert exchange.rules == Rules(ioc_as_filled=True, address_requests=10_000)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask(b'{"no_such_rule": true}')


# --- Reduce-only -----------------------------------------------------------------------------


def test_a_reduce_only_order_larger_than_the_position_fills_to_flat(
    client: ccxt.hyperliquid, url: str
) -> None:
    market_order(client, "buy", 0.02)
    order = market_order(client, "sell", 0.05, reduceOnly=True, clientOrderId=CLOID)
    assert order["filled"] == 0.02
    assert held(url) == 0
    assert said_of(client) == ("reduceOnlyCanceled", Decimal("0.05"), Decimal("0.03"))


def test_a_resting_reduce_only_order_ends_when_it_is_flat(
    client: ccxt.hyperliquid, clock: HandClock, world: World, url: str
) -> None:
    market_order(client, "buy", 0.02)
    price = round(mid(client)) + 10
    ahead = world.prices.spot("BTC", clock.at + np.arange(0.0, 5 * 86_400.0, 60.0))
    assert ahead.max() > price
    how = {"reduceOnly": True, "clientOrderId": CLOID}
    client.create_order(SYMBOL, "limit", "sell", 0.05, price, how)
    assert said_of(client)[0] == "open"
    clock.pass_by(5 * 86_400)
    assert said_of(client) == ("reduceOnlyCanceled", Decimal("0.05"), Decimal("0.03"))
    assert held(url) == 0


def test_reduce_only_is_refused_without_a_position_or_too_large_by_the_rule(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    words = "Reduce only order would increase position"
    with pytest.raises(ccxt.InvalidOrder, match=words):
        market_order(client, "sell", 0.01, reduceOnly=True)
    market_order(client, "buy", 0.02)
    with pytest.raises(ccxt.InvalidOrder, match=words):
        market_order(client, "buy", 0.01, reduceOnly=True)
    exchange.rules.reduce_only_to_flat = False
    with pytest.raises(ccxt.InvalidOrder, match=words):
        market_order(client, "sell", 0.03, reduceOnly=True)
    assert held(url) == Decimal("0.02")


def test_the_minimum_holds_for_reduce_only_by_the_rule(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    market_order(client, "buy", 0.02)
    exchange.rules.reduce_only_minimum = True
    with pytest.raises(ccxt.InvalidOrder, match=r"minimum value of \$10"):
        market_order(client, "sell", 0.0001, reduceOnly=True)
    exchange.rules.reduce_only_minimum = False
    market_order(client, "sell", 0.0001, reduceOnly=True)
    assert held(url) == Decimal("0.0199")


# --- By force --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("kind", "direction", "method", "others"),
    [
        ("liquidate", "Liquidated Cross {}", "market", "liquidatedCanceled"),
        ("backstop", "Liquidated Cross {}", "backstop", "liquidatedCanceled"),
        ("adl", "Auto-Deleveraging", None, "open"),
        ("settle", "Settlement", None, "delistedCanceled"),
    ],
)
def test_a_position_is_closed_by_force(
    client: ccxt.hyperliquid,
    exchange: Hyperliquid,
    url: str,
    kind: str,
    direction: str,
    method: str | None,
    others: str,
    side: str,
) -> None:
    market_order(client, side, 0.02)
    how = {"clientOrderId": CLOID}
    client.create_order(SYMBOL, "limit", "buy", 0.01, round(mid(client) * 0.9), how)
    exchange.faults.put(kind, match="BTC", quantity=steps(0.005))
    sign = 1 if side == "buy" else -1
    assert held(url) == Decimal("0.015") * sign
    exchange.faults.put(kind)
    assert held(url) == 0
    assert said_of(client)[0] == others
    forced = fills(client)[:2]
    assert {row["dir"] for row in forced} == {direction.format("Long" if sign > 0 else "Short")}
    assert {row["sz"] for row in forced} == {"0.005", "0.015"}
    for row in forced:
        assert "cloid" not in row
        told = row.get("liquidation")
        assert (told and told["method"]) == method
        if told:
            assert told["liquidatedUser"] == EXCHANGE_WALLET
            assert float(told["markPx"]) == pytest.approx(float(row["px"]), rel=1e-4)
        # Only what the book took was an order in this account's history.
        was_ours = int(row["oid"]) in exchange.engine.accounts[EXCHANGE_WALLET].orders
        assert was_ours == (kind == "liquidate")
        assert (float(row["fee"]) > 0) == (kind == "liquidate")
    # It waits where there is nothing to close.
    exchange.faults.put(kind)
    assert held(url) == 0
    assert [fault.kind for fault in exchange.faults.waiting()] == [kind]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_large_position_is_liquidated_in_parts_or_taken_over(
    world: World, clock: HandClock, is_lost: bool
) -> None:
    clock.reset()
    exchange = Hyperliquid(world, deposit=Decimal(10**9), weight_per_minute=PLENTY)
    engine, account = exchange.engine, exchange.engine.accounts[EXCHANGE_WALLET]
    exchange.events.trade_by_hand("BTC", Decimal(5))
    marks = engine.marks()
    need = account.maintenance(marks) * (Decimal("0.5") if is_lost else Decimal("0.9"))
    account.cash -= account.equity(marks) - need
    clock.pass_by(0.1)
    exchange.step()
    done = [fill for fill in account.fills if fill.direction == "Liquidated Cross Long"]
    assert {fill.liquidation_method for fill in done} == {"backstop" if is_lost else "market"}
    assert sum(fill.size for fill in done) == (5 if is_lost else 1)
    # Within half a minute of the first part the whole of the rest is due.
    account.cash -= account.equity(engine.marks()) - 1
    account.cash += account.maintenance(engine.marks()) * Decimal("0.9")
    clock.pass_by(1)
    exchange.step()
    assert account.size_of("BTC") == 0


# --- The owner's hand ------------------------------------------------------------------------


def test_the_owner_trades_by_hand_in_the_same_wallet(
    client: ccxt.hyperliquid, exchange: Hyperliquid, url: str
) -> None:
    market_order(client, "buy", 0.02, clientOrderId=CLOID)
    exchange.faults.put("owner_trade", match="BTC", quantity=-steps(0.03))
    assert held(url) == Decimal("-0.01")
    [newest, ours] = fills(client)
    assert newest["dir"] == "Long > Short"
    assert "cloid" not in newest
    assert ours["cloid"] == CLOID
    found = client.fetch_order(str(newest["oid"]), SYMBOL)
    assert (found["clientOrderId"], found["status"]) == (None, "closed")
    exchange.faults.put("owner_trade", quantity=steps(0.01))
    assert held(url) == 0
    # What the exchange refuses him leaves everything as it was.
    exchange.faults.put("owner_trade", quantity=steps(30))
    assert held(url) == 0


def test_an_order_the_owner_modifies_has_another_number_and_the_same_cloid(
    client: ccxt.hyperliquid, exchange: Hyperliquid
) -> None:
    price = round(mid(client) * 0.95)
    order = client.create_order(SYMBOL, "limit", "buy", 0.04, price, {"clientOrderId": CLOID})
    exchange.faults.put("owner_modify", match="BTC", quantity=steps(0.02))
    [waiting] = client.fetch_open_orders(SYMBOL)
    assert (waiting["amount"], waiting["clientOrderId"]) == (0.02, CLOID)
    assert waiting["id"] != order["id"]
    assert said_of(client, order["id"])[0] == "canceled"
    assert said_of(client)[:2] == ("open", Decimal("0.02"))
    exchange.faults.put("owner_cancel", match="BTC")
    assert client.fetch_open_orders(SYMBOL) == []
    assert said_of(client)[0] == "canceled"


def test_own_executions_hide_behind_foreign_ones(
    client: ccxt.hyperliquid, exchange: Hyperliquid, clock: HandClock, url: str
) -> None:
    since = int(clock.at * 1_000)
    clock.pass_by(60)
    market_order(client, "buy", 0.01)
    clock.pass_by(60)
    market_order(client, "buy", 0.02, clientOrderId=CLOID)
    cash = truth(url)["cash"]
    exchange.faults.put("foreign_fills", quantity=MOST_FILLS)
    page = fills(client, type="userFillsByTime", startTime=since)
    assert len(page) == MOST_FILLS
    assert [row["time"] for row in page] == sorted(row["time"] for row in page)
    assert [row["sz"] for row in page if row["coin"] == "BTC"] == ["0.01"]
    assert len(client.fetch_my_trades(SYMBOL, since)) == 1
    last = fills(client, type="userFillsByTime", startTime=int(page[-1]["time"]))
    assert [row["sz"] for row in last if row["coin"] == "BTC"] == ["0.02"]
    assert truth(url)["cash"] == cash
    # Whatever the window, only the newest ten thousand exist.
    exchange.faults.put("foreign_fills", quantity=10_001)
    fills(client)
    clock.pass_by(1)
    assert fills(client, type="userFillsByTime", startTime=since)[0]["coin"] == "ETH"
