"""The exchange as a venue, on the simulated exchange: prices, orders, what is paid, what fails."""

import datetime as dt
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import ccxt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.execution.orders import tag_of as desk_tag
from markets.domain.bars import Bars
from markets.simulator.credentials import EXCHANGE_PRIVATE_KEY, EXCHANGE_WALLET
from markets.simulator.hyperliquid.app import Hyperliquid
from markets.simulator.world import World
from markets.venues.base import (
    DataVenue,
    NotListed,
    OrderRefused,
    Tick,
    TokenRefused,
    Venue,
)
from markets.venues.ccxt import signing as exchange_signing
from markets.venues.ccxt import ticks as exchange_ticks
from markets.venues.ccxt.client import (
    CLOID_PREFIX,
    ExchangeConfig,
    cloid_of,
    connect,
    from_settings,
    tag_of,
)
from markets.venues.ccxt.market_data import NAME
from markets.venues.ccxt.venue import ExchangeVenue
from tests.desk import ist
from tests.markets.simulator.exchange_client import PLENTY, HandClock, client_of, truth
from tests.markets.simulator.served import served
from tradingsite import clock as clocks
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

SetMarket = Callable[..., None]
TAG, OTHER_TAG = "T1ABCDEFGHIJKLMNOP", "T1QRSTUVWXYZ234567"
LOT = Decimal("0.01")


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
def venue(url: str) -> ExchangeVenue:
    return ExchangeVenue(config_of(url))


def config_of(url: str, key: str = EXCHANGE_PRIVATE_KEY) -> ExchangeConfig:
    return ExchangeConfig(
        wallet=EXCHANGE_WALLET, private_key=key, url=url, pause_ms=1.0, timeout_seconds=2.0
    )


def signed_actions(exchange: Hyperliquid) -> set[str]:
    return {name for name in exchange.received if name.startswith("exchange/")}


# --- Before anything is asked ----------------------------------------------------------------


def test_importing_the_venue_loads_no_ccxt() -> None:
    code = "import sys, markets.venues.ccxt.venue; sys.exit('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_is_a_venue_and_a_source_of_prices() -> None:
    venue = ExchangeVenue(ExchangeConfig())
    as_venue: Venue = venue
    as_data: DataVenue = venue
    assert as_venue.name == as_data.name == "hyperliquid"
    assert not venue.rule_out(TAG)


@pytest.mark.parametrize("name", ["hyperliquid", "binance"])
def test_the_unified_methods_exist_on_both_exchanges(name: str) -> None:
    config = ExchangeConfig(id=name, api_key="k", secret="s", url="http://127.0.0.1:9")
    client = connect(config, with_keys=True)
    for method in (
        *("fetchTime", "fetchOHLCV", "fetchTicker", "fetchOrderBook", "fetchOpenInterest"),
        *("createOrder", "cancelOrder", "fetchOrder", "fetchOrders", "fetchMyTrades"),
        *("fetchPositions", "fetchBalance", "fetchTradingFee", "setLeverage"),
    ):
        assert client.has[method], method
    hosts = {address for address in flat(client.urls["api"]) if "127.0.0.1:9" not in address}
    assert hosts == set()


def flat(addresses: object) -> list[str]:
    if isinstance(addresses, dict):
        return [each for nested in addresses.values() for each in flat(nested)]
    return [str(addresses)]


def test_an_exchange_that_nobody_knows_is_named() -> None:
    with pytest.raises(Degraded, match="ccxt knows no exchange 'mtgox'"):
        ExchangeVenue(ExchangeConfig(id="mtgox")).bars(NAME, "1h", Epoch(0), Epoch(1))


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=16))
def test_a_tag_is_read_back_from_its_client_order_id(body: str) -> None:
    cloid = cloid_of(f"T1{body}")
    assert len(cloid) == 34
    assert bytes.fromhex(cloid[2:])[:4] == CLOID_PREFIX
    assert tag_of(cloid) == f"T1{body}"


def test_the_desks_own_tags_fit_and_foreign_ids_are_nobodys() -> None:
    tag = desk_tag("live", "btc", ist("2026-06-01 10:00"), "BTC-PERP")
    assert tag_of(cloid_of(tag)) == tag
    changed = "0x" + CLOID_PREFIX.hex() + "00" * 12
    for foreign in (None, "", "abc", "0x" + "ab" * 16, changed, cloid_of(tag)[:-1]):
        assert tag_of(foreign) == ""
    for wrong in ("", "T1short", "T2ABCDEFGHIJKLMNOP", "t1abcdefghijklmnop"):
        with pytest.raises(ValueError, match="no tag of ours"):
            cloid_of(wrong)


def test_the_settings_of_a_simulated_desk_lead_to_the_simulator() -> None:
    config = from_settings()
    assert (config.id, config.wallet) == ("hyperliquid", EXCHANGE_WALLET)
    assert config.has_keys
    assert config.url.startswith("http://127.0.0.1:")


# --- Prices ----------------------------------------------------------------------------------


def test_the_contract_has_the_desks_name_and_todays_steps(venue: ExchangeVenue) -> None:
    [row] = venue.instruments()
    assert (row.name, row.symbol, row.kind) == ("BTC-PERP", "BTC/USDC:USDC", "PERP")
    assert (row.lot_size, row.tick_size) == (LOT, Decimal(1))
    with pytest.raises(NotListed):
        venue.quote("ETH-PERP")


def test_bars_are_closed_whole_and_those_of_the_market(
    venue: ExchangeVenue, clock: HandClock, world: World
) -> None:
    clock.pass_by(1_200)
    now = int(clock.at)
    start = now - now % 3_600 - 2_500 * 3_600
    bars = venue.bars(NAME, "1h", Epoch(start + 1), Epoch(now + 7_200))
    assert len(bars) == 2_499
    assert bars.opens_at[0] == start + 3_600
    assert now - 3_600 < bars.closes_at[-1] <= now
    expected: Bars = world.prices.bars("BTC", 3_600, start + 3_600, float(bars.closes_at[-1]))
    for name in ("opens_at", "closes_at", "open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(bars, name), getattr(expected, name))
    assert (bars.volume > 0).all()


def test_a_bar_is_there_from_its_close_and_not_a_second_before(
    venue: ExchangeVenue, clock: HandClock
) -> None:
    opens_at = int(clock.at) // 3_600 * 3_600
    clock.at = opens_at + 3_599.0
    assert len(venue.bars(NAME, "1h", Epoch(opens_at), Epoch(opens_at + 3_600))) == 0
    clock.at = opens_at + 3_600.0
    assert venue.bars(NAME, "1h", Epoch(opens_at), Epoch(opens_at + 3_600)).opens_at.tolist() == [
        opens_at
    ]
    assert len(venue.bars(NAME, "1h", Epoch(opens_at), Epoch(opens_at))) == 0


def test_quotes_have_both_sides_and_the_exchanges_time(
    venue: ExchangeVenue, clock: HandClock
) -> None:
    quotes = venue.quotes([NAME, "ETH-PERP"])
    assert list(quotes) == [NAME]
    row = quotes[NAME]
    assert row.bid < row.last < row.ask
    assert row.at == clocks.from_seconds(clock.at)
    assert 10_000 < row.volume < 60_000
    assert 10_000 < row.interest < 60_000
    assert venue.quote(NAME) == row.last


def test_reading_prices_signs_nothing(venue: ExchangeVenue, exchange: Hyperliquid) -> None:
    venue.instruments()
    venue.bars(NAME, "4h", Epoch(1_779_000_000), Epoch(1_780_000_000))
    venue.quotes([NAME])
    assert signed_actions(exchange) == set()
    keyless = ExchangeVenue(ExchangeConfig(url=venue.config.url))
    assert keyless.quote(NAME)
    with pytest.raises(TokenRefused, match="no keys"):
        keyless.positions()


def test_ticks_come_while_the_book_moves_and_a_book_that_stands_is_no_sign_of_life(
    venue: ExchangeVenue, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_ticks, "ALIVE_SECONDS", 0.4)
    heard: list[Tick] = []
    came = threading.Event()

    def on_ticks(ticks: list[Tick]) -> None:
        heard.extend(ticks)
        came.set()

    monkeypatch.setattr(venue, "poll_seconds", 0.05)
    stream = venue.ticks([NAME], on_ticks)
    try:
        assert came.wait(3.0)
        assert stream.is_alive()
        came.clear()
        time.sleep(0.5)
        assert not stream.is_alive()
        clock.pass_by(30)
        assert came.wait(3.0)
        assert stream.is_alive()
    finally:
        stream.close()
    assert not stream.is_alive()
    assert [tick.at for tick in heard] == [
        clocks.from_seconds(clock.at - 30),
        clocks.from_seconds(clock.at),
    ]
    assert heard[0].bid < heard[0].last < heard[0].ask
    assert heard[0].volume > 0


# --- Orders and the account ------------------------------------------------------------------


def test_an_order_its_execution_its_cost_and_its_position(
    venue: ExchangeVenue, clock: HandClock, url: str
) -> None:
    since = clocks.from_seconds(clock.at)
    assert venue.orders([TAG]) == []
    venue_id = venue.place(TAG, NAME, -4 * LOT, 1.5)
    [order] = venue.orders([TAG, "of no form of ours"])
    assert (order.tag, order.instrument, order.state) == (TAG, NAME, "filled")
    assert (order.quantity, order.filled_quantity) == (-4 * LOT, -4 * LOT)
    assert (order.venue_id, order.accepted_at) == (venue_id, since)
    [trade] = venue.trades(since)
    assert (trade.tag, trade.instrument, trade.quantity) == (TAG, NAME, -4 * LOT)
    assert trade.at == since
    assert venue.positions() == {NAME: -4 * LOT}
    [cost] = venue.charges([trade])
    assert cost == Decimal(truth(url)["fills"][0]["fee"])
    assert abs(cost - trade.price * 4 * LOT * Decimal("0.00045")) < Decimal("0.000001")
    margins = venue.margins()
    assert margins.currency == "USDC"
    assert abs(margins.used - trade.price * 4 * LOT / 5) < Decimal(1)
    assert margins.available + margins.used < Decimal(10_000)
    # Another process asks for the cost of what it never saw.
    assert ExchangeVenue(venue.config).charges([trade]) == [cost]


def test_the_collar_follows_the_book(venue: ExchangeVenue, url: str) -> None:
    quote = venue.quotes([NAME])[NAME]
    venue.place(TAG, NAME, LOT, 1.5)
    venue.place(OTHER_TAG, NAME, -LOT, 20.0)
    bought, sold = truth(url)["orders"]
    assert abs(Decimal(bought["limit"]) - quote.ask * Decimal("1.005")) <= 1
    assert abs(Decimal(sold["limit"]) - quote.bid * Decimal("0.98")) <= 1
    assert {bought["tif"], sold["tif"]} == {"Ioc"}


def test_an_order_that_may_only_reduce_never_opens(venue: ExchangeVenue, url: str) -> None:
    with pytest.raises(OrderRefused):
        venue.place(TAG, NAME, LOT, 1.5, reduces=True)
    assert venue.positions() == {}
    assert 100 < venue.margin_needed(NAME, 2 * LOT) < 1_000
    venue.place(OTHER_TAG, NAME, 2 * LOT, 1.5)
    venue.place("T1CCCCCCCCCCCCCCCC", NAME, -LOT, 1.5, reduces=True)
    assert venue.positions() == {NAME: LOT}


def test_trades_of_the_owner_carry_no_tag_and_are_no_strangers(
    venue: ExchangeVenue, clock: HandClock, url: str
) -> None:
    since = clocks.from_seconds(clock.at)
    hand = client_of(url)
    hand.create_order("BTC/USDC:USDC", "market", "buy", 0.02, 60_000)
    clock.pass_by(60)
    venue.place(TAG, NAME, LOT, 1.5)
    assert [(each.tag, each.quantity) for each in venue.trades(since)] == [
        ("", 2 * LOT),
        (TAG, LOT),
    ]
    assert [order.tag for order in venue.strangers(since)] == [TAG]
    later = clocks.from_seconds(clock.at + 1)
    assert venue.strangers(later) == venue.trades(later) == []
    assert venue.positions() == {NAME: 3 * LOT}


def test_a_resting_order_is_cancelled_as_often_as_asked(
    venue: ExchangeVenue, clock: HandClock, url: str
) -> None:
    hand = client_of(url)
    price = float(venue.quote(NAME) or 0) * 0.97
    how = {"clientOrderId": cloid_of(TAG)}
    hand.create_order("BTC/USDC:USDC", "limit", "buy", 0.02, price, how)
    [order] = venue.orders([TAG])
    assert (order.state, order.filled_quantity) == ("open", 0)
    venue.cancel(order)
    venue.cancel(order)
    assert venue.orders([TAG])[0].state == "cancelled"


def test_what_a_partial_fill_leaves_is_cancelled_and_said(
    venue: ExchangeVenue, exchange: Hyperliquid, clock: HandClock
) -> None:
    exchange.faults.put("partial_fill", quantity=1_000)
    venue.place(TAG, NAME, 4 * LOT, 1.5)
    [order] = venue.orders([TAG])
    assert (order.state, order.quantity, order.filled_quantity) == ("cancelled", 4 * LOT, LOT)
    assert venue.positions() == {NAME: LOT}


def test_trades_come_page_by_page(
    venue: ExchangeVenue, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = clocks.from_seconds(clock.at)
    for number in range(5):
        venue.place(desk_tag("a", "btc", since, str(number)), NAME, LOT, 1.5)
        clock.pass_by(60)
    monkeypatch.setattr("markets.venues.ccxt.venue.TRADES_PER_PAGE", 2)
    trades = venue.trades(since)
    assert len({trade.trade_id for trade in trades}) == 5
    assert [trade.at - since for trade in trades] == [dt.timedelta(minutes=i) for i in range(5)]


def test_nothing_is_signed_that_is_not_an_order(
    venue: ExchangeVenue, exchange: Hyperliquid, url: str
) -> None:
    venue.place(TAG, NAME, LOT, 1.5)
    venue.place(OTHER_TAG, NAME, LOT, 1.5)
    signed = {kind: count for kind, count in exchange.received.items() if "exchange/" in kind}
    assert signed == {"exchange/order": 2, "exchange/updateLeverage": 1}
    account = exchange.engine.accounts[EXCHANGE_WALLET]
    assert account.builders == {}
    assert account.leverage == {"BTC": 5}


def test_an_order_is_signed_with_the_instant_it_was_committed_at_and_with_its_end(
    venue: ExchangeVenue, exchange: Hyperliquid
) -> None:
    sent_at = dt.datetime.now(dt.UTC)
    venue.place(TAG, NAME, LOT, 1.5, sent_at=sent_at)
    account = exchange.engine.accounts[EXCHANGE_WALLET]
    assert int(sent_at.timestamp() * 1_000) in account.nonces
    assert not venue.rule_out(TAG, sent_at), "its nonce was used, and the book has it"
    # What comes later than its end is refused by the exchange, whoever held it up.
    past = sent_at - exchange_signing.EXPIRES_AFTER
    client = venue._account.client()
    with (
        exchange_signing.signed_at(client, past),
        pytest.raises(ccxt.ExchangeError, match="expired"),
    ):
        client.create_order(
            *(venue.config.symbol, "limit", "buy", 0.01, 60_000.0),
            {"timeInForce": "IOC", "clientOrderId": cloid_of(OTHER_TAG)},
        )
    assert venue.orders([OTHER_TAG]) == []


def test_an_order_that_did_not_leave_in_time_does_not_leave(
    venue: ExchangeVenue, exchange: Hyperliquid
) -> None:
    late = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=6)
    with pytest.raises(OrderRefused, match="not sent: it was to leave 6 s ago"):
        venue.place(TAG, NAME, LOT, 1.5, sent_at=late)
    assert exchange.received["exchange/order"] == 0


def test_health_says_what_a_person_asks_first(
    venue: ExchangeVenue, clock: HandClock, set_market: SetMarket
) -> None:
    set_market(clocks.from_seconds(clock.at))
    health = venue.health()
    assert health["account"] == "0x2c75…5c23"
    assert abs(float(str(health["clock_offset_s"]))) < 1.0
    assert 0.0 < float(str(health["latency_ms"])) < 2_000.0
    assert health["fees"] == {"taker": 0.00045, "maker": 0.00015}
    assert health["margins"] == {"currency": "USDC", "available": 10_000, "used": 0}
    assert health["requests_allowed_a_minute"] == 60_000
