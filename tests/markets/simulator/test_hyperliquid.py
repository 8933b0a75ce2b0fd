"""The simulated exchange through the unmodified ccxt: what it shows, takes and refuses."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import numpy as np
import pytest

from markets.simulator.hyperliquid.app import Hyperliquid
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


# --- The market ------------------------------------------------------------------------------


def test_markets_state_the_contracts_steps(client: ccxt.hyperliquid) -> None:
    market = client.market(SYMBOL)
    assert market["precision"] == {"amount": 0.00001, "price": 1.0}
    assert (market["taker"], market["maker"]) == (0.00045, 0.00015)
    assert market["limits"]["leverage"]["max"] == 40


def test_the_whole_of_what_ccxt_loads_by_default_is_there(url: str) -> None:
    client = client_of(url, options={"builderFee": False, "refSet": False})
    assert SYMBOL in client.markets
    fee = client.fetch_trading_fee(SYMBOL)
    assert (fee["taker"], fee["maker"]) == (0.00045, 0.00015)


def test_candles_end_with_the_forming_one(
    client: ccxt.hyperliquid, clock: HandClock, world: World
) -> None:
    clock.pass_by(900)
    now_ms = int(clock.at * 1000)
    rows = client.fetch_ohlcv(SYMBOL, "1h", since=now_ms - 10 * HOUR_MS)
    # 10:15 in India is 04:45 UTC, so 45 minutes of the last hour have passed.
    assert [row[0] for row in rows] == [
        now_ms - now_ms % HOUR_MS - h * HOUR_MS for h in range(9, -1, -1)
    ]
    forming, last_whole = rows[-1], rows[-2]
    assert forming[4] == pytest.approx(world.prices.spot_at("BTC", clock.at))
    assert 0.5 < forming[5] / last_whole[5] < 1.0
    for _, opened, high, low, closed, volume in rows:
        assert low <= min(opened, closed) <= max(opened, closed) <= high
        assert volume > 0
    clock.pass_by(1_800)
    again = client.fetch_ohlcv(SYMBOL, "1h", since=now_ms - 10 * HOUR_MS)
    assert again[: len(rows) - 1] == rows[:-1]


def test_candles_of_all_intervals_agree(client: ccxt.hyperliquid, clock: HandClock) -> None:
    since = int(clock.at * 1000) // (24 * HOUR_MS) * 24 * HOUR_MS - 7 * 24 * HOUR_MS
    until = {"until": since + 24 * HOUR_MS - 1}
    day = client.fetch_ohlcv(SYMBOL, "1d", since, params=until)
    hours = client.fetch_ohlcv(SYMBOL, "1h", since, params=until)
    assert (len(day), len(hours)) == (1, 24)
    columns = np.array(hours)
    assert day[0][1:5] == [columns[0, 1], columns[:, 2].max(), columns[:, 3].min(), columns[-1, 4]]
    assert day[0][5] == pytest.approx(columns[:, 5].sum())


def test_a_client_that_counts_back_from_its_own_clock_gets_the_newest(
    client: ccxt.hyperliquid, clock: HandClock
) -> None:
    rows = client.fetch_ohlcv(SYMBOL, "1h", limit=5)
    assert rows[-1][0] / 1000 <= clock.at < rows[-1][0] / 1000 + 3600
    assert len(rows) == 5


def test_a_candle_is_whole_wherever_the_question_ends(
    client: ccxt.hyperliquid, clock: HandClock
) -> None:
    since = int(clock.at * 1000) // HOUR_MS * HOUR_MS - 5 * HOUR_MS
    whole = client.fetch_ohlcv(SYMBOL, "1h", since)[:2]
    for until in (since + HOUR_MS, since + HOUR_MS + 60_000, since + 2 * HOUR_MS - 1):
        assert client.fetch_ohlcv(SYMBOL, "1h", since, params={"until": until}) == whole


def test_only_the_last_five_thousand_candles_are_kept(
    client: ccxt.hyperliquid, clock: HandClock
) -> None:
    clock.pass_by(60)
    now_ms = int(clock.at * 1000)
    rows = client.fetch_ohlcv(
        SYMBOL, "15m", since=now_ms - 6_000 * 900_000, params={"until": now_ms}
    )
    assert len(rows) == 5_000
    assert rows[-1][0] == now_ms - now_ms % 900_000


def test_ticker_and_book_show_one_market(client: ccxt.hyperliquid, clock: HandClock) -> None:
    ticker, book = client.fetch_ticker(SYMBOL), client.fetch_order_book(SYMBOL)
    bids, asks = book["bids"], book["asks"]
    assert book["timestamp"] == int(clock.at * 1000)
    assert (ticker["bid"], ticker["ask"]) == (bids[0][0], asks[0][0])
    assert ticker["last"] == (bids[0][0] + asks[0][0]) / 2
    assert len(bids) == len(asks) == 20
    assert 1.0 <= asks[0][0] - bids[0][0] <= 2.0
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert all(size > 0 for _, size, *_ in bids + asks)


def test_funding_rate_and_its_history(client: ccxt.hyperliquid, clock: HandClock) -> None:
    rate = client.fetch_funding_rate(SYMBOL)
    assert abs(rate["fundingRate"]) < 0.001
    assert rate["interval"] == "1h"
    since = int(clock.at * 1000) - 48 * HOUR_MS
    history = client.fetch_funding_rate_history(SYMBOL, since)
    assert len(history) == 48
    assert all(row["timestamp"] % HOUR_MS == 0 for row in history)
    # The interest of 0.01 % in eight hours, where the premium is small.
    assert 0.0000125 in {row["fundingRate"] for row in history}


# --- Orders ----------------------------------------------------------------------------------


def test_a_market_order_fills_at_the_offer_for_the_takers_fee(
    client: ccxt.hyperliquid, clock: HandClock
) -> None:
    ask = client.fetch_order_book(SYMBOL)["asks"][0][0]
    order = market_order(client, "buy", 0.01)
    assert (order["filled"], order["average"]) == (0.01, ask)
    [trade] = client.fetch_my_trades(SYMBOL)
    assert trade["order"] == order["id"]
    assert (trade["price"], trade["amount"], trade["side"]) == (ask, 0.01, "buy")
    assert trade["takerOrMaker"] == "taker"
    assert trade["fee"] == {
        "cost": pytest.approx(ask * 0.01 * 0.00045, abs=1e-6),
        "currency": "USDC",
    }
    assert trade["timestamp"] == int(clock.at * 1000)
    [position] = client.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"]) == ("long", 0.01)
    assert position["entryPrice"] == ask
    found = client.fetch_order(order["id"], SYMBOL)
    assert (found["status"], found["filled"], found["remaining"]) == ("closed", 0.01, 0.0)


def test_a_large_order_walks_the_book_and_what_it_cannot_fill_is_gone(
    world: World, clock: HandClock
) -> None:
    clock.reset()
    exchange = Hyperliquid(world, deposit=Decimal(10**9), weight_per_minute=PLENTY)
    with served(exchange.app()) as url:
        client = client_of(url)
        book = client.fetch_order_book(SYMBOL)
        held = sum(size for _, size, *_ in book["asks"])
        order = market_order(client, "buy", held + 5)
        assert order["filled"] == pytest.approx(held)
        assert book["asks"][0][0] < order["average"] < book["asks"][-1][0]
        found = client.fetch_order(order["id"], SYMBOL)
        assert found["status"] == "canceled"
        assert found["remaining"] == pytest.approx(5)
        assert len(client.fetch_my_trades(SYMBOL)) == len(book["asks"])


def test_a_limit_order_rests_is_found_by_both_ids_and_cancelled(
    client: ccxt.hyperliquid, clock: HandClock
) -> None:
    price = round(mid(client) * 0.98)
    params = {"clientOrderId": CLOID}
    order = client.create_order(SYMBOL, "limit", "buy", 0.02, price, params)
    [waiting] = client.fetch_open_orders(SYMBOL)
    by_id = client.fetch_order(order["id"], SYMBOL)
    by_cloid = client.fetch_order(CLOID, SYMBOL)
    assert waiting["id"] == by_id["id"] == by_cloid["id"] == order["id"]
    assert by_id["clientOrderId"] == CLOID
    assert (by_id["status"], by_id["price"], by_id["amount"]) == ("open", price, 0.02)
    assert by_id["timestamp"] == int(clock.at * 1000)
    client.cancel_order(order["id"], SYMBOL, params)
    assert client.fetch_open_orders(SYMBOL) == []
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "canceled"
    assert [row["status"] for row in client.fetch_orders(SYMBOL)] == ["canceled"]
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(order["id"], SYMBOL)


def test_a_resting_order_fills_at_its_limit_when_the_price_comes(
    client: ccxt.hyperliquid, clock: HandClock, world: World
) -> None:
    ahead = world.prices.spot("BTC", clock.at + np.arange(0.0, 86_400.0, 60.0))
    lowest = int(np.argmin(ahead))
    price = float(np.ceil(ahead[lowest])) + 1.0
    first = int(np.argmax(ahead <= price))
    order = client.create_order(SYMBOL, "limit", "buy", 0.02, price)
    assert first > 1
    clock.pass_by(60.0 * (first - 1))
    assert client.fetch_order(order["id"], SYMBOL)["status"] == "open"
    clock.pass_by(3_600.0)
    [trade] = client.fetch_my_trades(SYMBOL)
    assert (trade["price"], trade["amount"], trade["takerOrMaker"]) == (price, 0.02, "maker")
    assert trade["fee"]["cost"] == pytest.approx(price * 0.02 * 0.00015, abs=1e-6)
    assert clock.at - 3_600.0 <= trade["timestamp"] / 1000 <= clock.at - 3_539.0


def test_profit_fees_and_the_flip_of_a_position_add_up(
    client: ccxt.hyperliquid, clock: HandClock, url: str
) -> None:
    market_order(client, "buy", 0.03)
    clock.pass_by(600)
    market_order(client, "sell", 0.05)
    trades = client.fetch_my_trades(SYMBOL)
    directions = [row["info"]["dir"] for row in sorted(trades, key=lambda row: int(row["id"]))]
    assert directions == ["Open Long", "Long > Short"]
    [position] = client.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"]) == ("short", 0.02)
    cash = Decimal(10_000)
    for row in trades:
        signed = 1 if row["side"] == "buy" else -1
        cash -= Decimal(str(row["price"])) * Decimal(str(row["amount"])) * signed
        cash -= Decimal(str(row["fee"]["cost"]))
    mark = Decimal(str(position["markPrice"]))
    equity = cash - Decimal("0.02") * mark
    assert abs(Decimal(truth(url)["equity"]) - equity) < Decimal("0.00001")
    balance = client.fetch_balance()["USDC"]
    assert balance["total"] == pytest.approx(float(equity))
    assert balance["used"] == pytest.approx(0.02 * float(mark) / 20)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"amount": 5.0}, ccxt.InsufficientFunds, "Insufficient margin"),
        ({"amount": 0.0001}, ccxt.InvalidOrder, r"minimum value of \$10"),
        ({"params": {"reduceOnly": True}}, ccxt.InvalidOrder, "Reduce only order"),
        ({"factor": 1.01, "params": {"postOnly": True}}, ccxt.InvalidOrder, "Post only order"),
        (
            {"factor": 0.99, "params": {"timeInForce": "Ioc"}},
            ccxt.InvalidOrder,
            "immediately match",
        ),
        ({"factor": 0.1, "amount": 0.1}, ccxt.InvalidOrder, "more than 80% away"),
    ],
)
def test_refusals_come_in_the_exchanges_words_and_into_its_history(
    client: ccxt.hyperliquid, how: dict[str, Any], error: type[Exception], words: str
) -> None:
    price = round(mid(client) * how.get("factor", 1.0))
    params = {"clientOrderId": CLOID, **how.get("params", {})}
    with pytest.raises(error, match=words):
        client.create_order(SYMBOL, "limit", "buy", how.get("amount", 0.01), price, params)
    assert client.fetch_order(CLOID, SYMBOL)["status"] == "rejected"
    assert client.fetch_open_orders(SYMBOL) == []


def test_prices_and_sizes_off_the_step_are_refused(client: ccxt.hyperliquid) -> None:
    price = round(mid(client))
    for wrong, words in (
        ({"p": f"{price}.5", "s": "0.01"}, "tick size"),
        ({"p": str(price), "s": "0.010001"}, "invalid size"),
        ({"p": str(price), "s": "0"}, "zero size"),
    ):
        row = {"a": 0, "b": True, **wrong, "r": False, "t": {"limit": {"tif": "Gtc"}}}
        with pytest.raises(ccxt.InvalidOrder, match=words):
            act(client, {"type": "order", "orders": [row], "grouping": "na"})


def test_a_reduce_only_order_reduces(client: ccxt.hyperliquid) -> None:
    market_order(client, "sell", 0.02)
    market_order(client, "buy", 0.02, reduceOnly=True)
    assert client.fetch_positions([SYMBOL]) == []


def test_a_cloid_is_taken_once(client: ccxt.hyperliquid, url: str) -> None:
    market_order(client, "buy", 0.01, clientOrderId=CLOID)
    with pytest.raises(ccxt.ExchangeError, match="used before"):
        market_order(client, "buy", 0.01, clientOrderId=CLOID)
    assert len(truth(url)["fills"]) == 1


def test_an_unknown_order_is_not_found(client: ccxt.hyperliquid) -> None:
    for name in ("123456", CLOID):
        with pytest.raises(ccxt.OrderNotFound):
            client.fetch_order(name, SYMBOL)
