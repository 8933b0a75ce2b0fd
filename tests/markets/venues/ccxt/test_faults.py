"""The exchange as a venue when things go wrong: a reaction to each fault, no order sent twice."""

import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from markets.simulator.credentials import EXCHANGE_PRIVATE_KEY, EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.world import World
from markets.venues.base import (
    InsufficientFunds,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    RefusedForRate,
    TokenRefused,
)
from markets.venues.ccxt.client import ExchangeConfig, connect, reading
from markets.venues.ccxt.market_data import NAME
from markets.venues.ccxt.venue import ExchangeVenue
from tests.markets.simulator.exchange_client import PLENTY, HandClock, truth
from tests.markets.simulator.served import served
from tests.waiting import wait_for
from tradingsite import clock as clocks
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry

TAG, OTHER_TAG = "T1ABCDEFGHIJKLMNOP", "T1QRSTUVWXYZ234567"
LOT = Decimal("0.01")
ORDERS = "POST /exchange"


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
def venue(url: str, exchange: Hyperliquid) -> ExchangeVenue:
    """Return a venue that has traded: what is approved once is behind it."""
    made = ExchangeVenue(config_of(url))
    made.place(OTHER_TAG, NAME, LOT, 1.5)
    exchange.received.clear()
    return made


def config_of(url: str, key: str = EXCHANGE_PRIVATE_KEY, timeout: float = 1.0) -> ExchangeConfig:
    return ExchangeConfig(
        wallet=EXCHANGE_WALLET, private_key=key, url=url, pause_ms=1.0, timeout_seconds=timeout
    )


def orders_received(exchange: Hyperliquid) -> int:
    return exchange.received["exchange/order"]


@pytest.mark.parametrize(
    ("kind", "how", "arrived"),
    [
        ("server_error", {"match": ORDERS}, False),
        ("unavailable", {"match": ORDERS}, False),
        ("not_json", {"match": ORDERS}, False),
        ("reset", {"match": ORDERS}, False),
        ("timeout", {"match": ORDERS, "seconds": 1.5}, False),
        ("timeout_after_acceptance", {"seconds": 1.5}, True),
    ],
)
def test_an_order_without_a_plain_answer_is_uncertain_and_sent_once(
    venue: ExchangeVenue, exchange: Hyperliquid, kind: str, how: dict[str, Any], arrived: bool
) -> None:
    exchange.faults.put(kind, **how)
    with pytest.raises(OrderUncertain):
        venue.place(TAG, NAME, LOT, 1.5)
    assert orders_received(exchange) == 1
    if arrived:
        assert wait_for(lambda: venue.orders([TAG]))
    assert [order.state for order in venue.orders([TAG])] == ["filled"] * arrived
    assert not venue.rule_out(TAG)
    assert orders_received(exchange) == 1


def test_an_order_that_was_plainly_not_taken_is_refused(
    venue: ExchangeVenue, exchange: Hyperliquid
) -> None:
    exchange.faults.put("rate_limit", match=ORDERS)
    with pytest.raises(RefusedForRate):
        venue.place(TAG, NAME, LOT, 1.5)
    assert orders_received(exchange) == 1
    assert venue.orders([TAG]) == []


def test_an_order_that_comes_late_is_found_by_its_tag(
    venue: ExchangeVenue, exchange: Hyperliquid, clock: HandClock
) -> None:
    exchange.faults.put("late_acceptance", seconds=1.0)
    with pytest.raises(OrderUncertain):
        venue.place(TAG, NAME, LOT, 1.5)
    assert venue.orders([TAG]) == []
    assert wait_for(lambda: venue.orders([TAG]))
    [order] = venue.orders([TAG])
    assert order.state == "filled"
    since = clocks.from_seconds(clock.at)
    assert {each.tag for each in venue.strangers(since)} == {TAG, OTHER_TAG}
    assert orders_received(exchange) == 1


def test_a_tag_that_was_used_is_uncertain_never_refused(
    venue: ExchangeVenue, exchange: Hyperliquid, url: str
) -> None:
    with pytest.raises(OrderUncertain):
        venue.place(OTHER_TAG, NAME, LOT, 1.5)
    assert orders_received(exchange) == 1
    assert len(truth(url)["fills"]) == 1


def test_what_the_exchange_refuses_is_refused(
    venue: ExchangeVenue, exchange: Hyperliquid, clock: HandClock
) -> None:
    with pytest.raises(InsufficientFunds):
        venue.place(TAG, NAME, 1_000 * LOT, 1.5)
    [order] = venue.orders([TAG])
    assert (order.state, order.message) == ("rejected", "perpMarginRejected")
    exchange.faults.put("reject")
    with pytest.raises(InsufficientFunds):
        venue.place("T1AAAAAAAAAAAAAAAA", NAME, LOT, 1.5)
    # A price shown from another world leads to an order that cannot match, or is too far away.
    exchange.faults.put("absurd_price")
    with pytest.raises(OrderRefused, match="80% away"):
        venue.place("T1BBBBBBBBBBBBBBBB", NAME, LOT, 1.5)
    assert orders_received(exchange) == 3


def test_a_key_without_an_account_is_refused(url: str, exchange: Hyperliquid) -> None:
    venue = ExchangeVenue(config_of(url, "0x" + "11" * 32))
    with pytest.raises(OrderRefused, match="does not exist"):
        venue.place(TAG, NAME, LOT, 1.5)
    assert orders_received(exchange) == 0


@pytest.mark.parametrize("kind", ["server_error", "not_json", "reset", "rate_limit"])
def test_an_order_that_was_never_sent_is_said_to_be_none(
    venue: ExchangeVenue, exchange: Hyperliquid, kind: str
) -> None:
    exchange.faults.put(kind, match="/info")
    with pytest.raises(OrderRefused, match="not sent"):
        venue.place(TAG, NAME, LOT, 1.5)
    assert orders_received(exchange) == 0


@pytest.mark.parametrize("quantity", ["0", "0.000001", "0.0100001"])
def test_a_size_that_would_be_rounded_is_not_sent(
    venue: ExchangeVenue, exchange: Hyperliquid, quantity: str
) -> None:
    with pytest.raises(OrderRefused, match="not a whole number"):
        venue.place(TAG, NAME, Decimal(quantity), 1.5)
    with pytest.raises(OrderRefused, match="not sent"):
        venue.place(TAG, "ETH-PERP", LOT, 1.5)
    with pytest.raises(OrderRefused, match="not sent"):
        venue.place("another's tag", NAME, LOT, 1.5)
    assert orders_received(exchange) == 0


READS: dict[str, Callable[[ExchangeVenue], object]] = {
    "positions": lambda venue: venue.positions(),
    "orders": lambda venue: venue.orders([OTHER_TAG]),
    "trades": lambda venue: venue.trades(clocks.from_seconds(0)),
    "strangers": lambda venue: venue.strangers(clocks.from_seconds(0)),
    "margins": lambda venue: venue.margins(),
    "bars": lambda venue: venue.bars(NAME, "1h", Epoch(1_780_000_000), Epoch(1_780_200_000)),
    "quote": lambda venue: venue.quote(NAME),
}


@pytest.mark.parametrize("read", READS)
def test_a_read_that_fails_is_never_an_empty_answer(
    venue: ExchangeVenue, exchange: Hyperliquid, read: str
) -> None:
    READS[read](venue)  # what is loaded once is behind it
    for kind, error in (
        ("rate_limit", RateLimited),
        ("server_error", Retry),
        ("unavailable", Retry),
        ("reset", Retry),
        ("not_json", Degraded),
    ):
        before = sum(exchange.received.values())
        exchange.faults.put(kind)
        with pytest.raises(error):
            READS[read](venue)
        assert sum(exchange.received.values()) - before == 1
    READS[read](venue)


def test_a_read_that_times_out_is_to_be_asked_again(
    venue: ExchangeVenue, exchange: Hyperliquid
) -> None:
    exchange.faults.put("timeout", seconds=1.5)
    with pytest.raises(Retry):
        venue.positions()
    assert exchange.received["info/clearinghouseState"] == 1
    assert venue.positions() == {NAME: LOT}


def test_a_cancellation_may_be_asked_again(venue: ExchangeVenue, exchange: Hyperliquid) -> None:
    [order] = venue.orders([OTHER_TAG])
    exchange.faults.put("server_error", match=ORDERS)
    with pytest.raises(Retry):
        venue.cancel(order)
    venue.cancel(order)


def everything(caplog: pytest.LogCaptureFixture) -> None:
    """Let the libraries below us log all they have."""
    for name in ("", "urllib3", "ccxt"):
        caplog.set_level(logging.DEBUG, name)


def test_no_secret_is_said_anywhere(
    venue: ExchangeVenue, exchange: Hyperliquid, caplog: pytest.LogCaptureFixture
) -> None:
    secret = EXCHANGE_PRIVATE_KEY.removeprefix("0x")
    told = [repr(venue.config), repr(venue.__dict__), str(venue.health())]
    everything(caplog)
    venue.place(TAG, NAME, LOT, 1.5)
    for kind in ("server_error", "not_json", "reset", "timeout", "reject"):
        exchange.faults.put(kind, seconds=1.5)
        with pytest.raises((Degraded, Retry)) as caught:
            venue.place("T1AAAAAAAAAAAAAAAA", NAME, LOT, 1.5)
        told.append(str(caught.value) + str(caught.value.__cause__))
    lines = [record.getMessage() for record in caplog.records]
    assert any("POST /exchange" in line for line in lines), "nothing was logged at DEBUG"
    assert [line for line in (*lines, *told) if secret in line] == []


def test_hmac_keys_stay_out_of_logs_and_messages(
    caplog: pytest.LogCaptureFixture, url: str
) -> None:
    key, secret = "canary-of-a-key-4711", "canary-of-a-secret-4711"
    config = ExchangeConfig(
        id="binance", api_key=key, secret=secret, url=url, pause_ms=1.0, timeout_seconds=0.5
    )
    assert secret not in repr(config)
    assert key not in repr(config)
    assert key not in config.account
    everything(caplog)
    client = connect(config, with_keys=True)
    with pytest.raises((Degraded, Retry)) as caught, reading("account", config):
        client.fapiPrivateV3GetAccount()
    assert key in str(client.last_request_headers), "the exchange's key was not on the wire"
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    for line in (*lines, str(caught.value), config.told(ValueError(f"{key} {secret}?signature=1"))):
        assert key not in line
        assert secret not in line


def test_a_malformed_key_is_refused_without_being_shown(url: str) -> None:
    mistyped = EXCHANGE_PRIVATE_KEY[:-1] + "g"
    venue = ExchangeVenue(config_of(url, mistyped))
    with pytest.raises(TokenRefused) as caught:
        venue.positions()
    assert mistyped[10:40] not in f"{caught.value}{caught.value.__cause__}"
    with pytest.raises(OrderRefused):
        venue.place(TAG, NAME, LOT, 1.5)
