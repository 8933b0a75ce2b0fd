"""The broker's venue, trading: what is sent once, what is refused, and what nobody can know."""

import datetime as dt
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from markets.venues.base import (
    InsufficientFunds,
    OrderRefused,
    OrderUncertain,
    RateLimited,
    TokenRefused,
    Venue,
    VenueTrade,
)
from tests.markets.venues.kite.desk import CALL, FUTURE, TAG, KiteDesk, kite_desk
from tradingsite import clock
from tradingsite.errors import Degraded


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[KiteDesk]:
    with kite_desk(tmp_path, set_market) as made:
        yield made


def test_an_order_goes_out_is_found_by_its_tag_and_fills(desk: KiteDesk) -> None:
    venue: Venue = desk.venue  # it is one
    started = clock.market()
    venue_id = desk.place(2)
    order = desk.filled()
    assert (order.venue_id, order.instrument) == (venue_id, FUTURE)
    assert (order.quantity, order.filled_quantity) == (Decimal(130), Decimal(130))
    assert order.accepted_at >= started.replace(microsecond=0)
    row = desk.broker.order(venue_id)
    assert (row["product"], row["order_type"], row["variety"]) == ("NRML", "MARKET", "regular")
    assert venue.orders(["T1NOSUCHTAGATALLXY"]) == []
    assert [each.tag for each in venue.strangers(started)] == [TAG]
    assert venue.strangers(started + dt.timedelta(hours=1)) == []
    assert venue.rule_out("T1NOSUCHTAGATALLXY") is False
    assert venue.positions() == {FUTURE: Decimal(130)}
    trades = venue.trades(started)
    assert sum(each.quantity for each in trades) == Decimal(130)
    assert {each.tag for each in trades} == {TAG}
    assert all(each.at.tzinfo and each.trade_id.startswith("kite-260601-NFO-") for each in trades)
    margins = venue.margins()
    assert margins.currency == "INR" and margins.used > 0 and margins.available > 0


def test_sales_are_negative_and_trades_by_hand_have_no_tag(desk: KiteDesk) -> None:
    desk.place(-1)
    assert desk.filled().filled_quantity == Decimal(-65)
    desk.broker.sell(65, tradingsymbol="NIFTY26JUN25000CE")
    desk.broker.wait(lambda: len(desk.venue.positions()) == 2)
    assert desk.venue.positions() == {FUTURE: Decimal(-65), CALL: Decimal(-65)}
    tags = {each.instrument: each.tag for each in desk.venue.trades(clock.market())}
    assert tags == {FUTURE: TAG, CALL: ""}
    assert len(desk.venue.strangers(clock.market())) == 1


def test_an_instrument_the_desk_does_not_deal_in_keeps_its_symbol(desk: KiteDesk) -> None:
    desk.broker.buy(10, exchange="NSE", tradingsymbol="INFY", product="CNC")
    desk.broker.wait(lambda: "NSE:INFY" in desk.venue.positions())
    trades = desk.venue.trades(clock.market())
    assert {each.instrument for each in trades} == {"NSE:INFY"}
    assert min(desk.venue.charges(trades)) > 0


def test_charges_are_the_brokers_and_by_order(desk: KiteDesk) -> None:
    desk.place(1)
    desk.filled()
    whole = desk.venue.trades(clock.market())[0]
    (cost,) = desk.venue.charges([whole])
    assert Decimal(60) < cost < Decimal(400)
    part = Decimal(20)
    parts = [
        VenueTrade("a", TAG, FUTURE, part, whole.price, whole.at),
        VenueTrade("b", TAG, FUTURE, whole.quantity - part, whole.price, whole.at),
    ]
    shares = desk.venue.charges(parts)
    assert sum(shares) == cost  # one brokerage, not two
    assert shares[0] == pytest.approx(cost * part / whole.quantity, abs=Decimal("0.01"))
    assert desk.venue.charges([]) == []


def test_what_is_left_of_an_order_can_be_cancelled(desk: KiteDesk) -> None:
    desk.fault("partial_fill", quantity=65, seconds=600)
    desk.place(3)
    desk.broker.wait(lambda: desk.venue.orders([TAG])[0].filled_quantity == Decimal(65))
    order = desk.venue.orders([TAG])[0]
    assert order.state == "open"
    desk.venue.cancel(order)
    order = desk.seen(TAG, "cancelled")
    assert (order.quantity, order.filled_quantity) == (Decimal(195), Decimal(65))
    with pytest.raises(Degraded, match="cannot be changed as it is cancelled"):
        desk.venue.cancel(order)


def test_an_order_that_the_exchange_rejects_is_in_the_book(desk: KiteDesk) -> None:
    desk.fault("reject")
    desk.place()
    order = desk.seen(TAG, "rejected")
    assert order.message and order.filled_quantity == 0


@pytest.mark.parametrize(
    "tag, name, quantity, reason",
    [
        (TAG, FUTURE, "64", "no whole number of lots of 65"),
        (TAG, FUTURE, "0", "no whole number of lots"),
        ("T1-WITH-HYPHENS", FUTURE, "65", "is no tag"),
        ("T" * 21, FUTURE, "65", "is no tag"),
        (TAG, "NIFTY 2019-01-31 FUT", "65", "not sent: the broker's list of the day has no"),
        (TAG, "NIFTY", "65", "NIFTY is an index, which cannot be traded"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    desk: KiteDesk, tag: str, name: str, quantity: str, reason: str
) -> None:
    with pytest.raises(OrderRefused, match=reason):
        desk.venue.place(tag, name, Decimal(quantity), 1.0)
    assert desk.venue.orders([tag]) == []


def test_over_the_freeze_quantity_nothing_is_sliced(desk: KiteDesk) -> None:
    with pytest.raises(OrderRefused, match="freeze limit"):  # the broker's word
        desk.place(28)
    sent = desk.broker.kite.trading.placements
    desk.venue.quotes([FUTURE])
    with pytest.raises(OrderRefused, match="1820 is over the freeze quantity of 1800"):
        desk.place(28)
    assert desk.broker.kite.trading.placements == sent


def test_known_refusals_end_an_order(desk: KiteDesk) -> None:
    desk.fault("no_funds")
    with pytest.raises(InsufficientFunds, match="Required margin is"):
        desk.place()
    desk.fault("forbidden_address")
    with pytest.raises(OrderRefused, match="not allowed to place orders"):
        desk.place()
    desk.go("2026-06-01 18:00")
    with pytest.raises(OrderRefused, match="Markets are closed"):
        desk.place()
    assert desk.venue.orders([TAG]) == []


def test_without_a_token_the_order_was_never_there(desk: KiteDesk) -> None:
    desk.broker.kite.sessions.expire()
    with pytest.raises(TokenRefused) as caught:
        desk.place()
    assert isinstance(caught.value, OrderRefused)
    desk.tokens.forget()
    with pytest.raises(OrderRefused, match="not sent: there is no token of the day"):
        desk.place()


@pytest.mark.parametrize(
    "fault",
    ["ambiguous_400", "lost_400", "reset_after_acceptance", "error_after_acceptance", "not_json"],
)
def test_what_may_have_arrived_is_uncertain_and_sent_once(desk: KiteDesk, fault: str) -> None:
    desk.fault(fault, seconds=0.2, match="" if fault != "not_json" else "POST")
    with pytest.raises(OrderUncertain, match="not known whether the order arrived"):
        desk.place()
    posts = [path for path in desk.broker.kite.requests if path == "POST /orders/regular"]
    assert len(posts) <= 1
    if fault not in ("lost_400", "not_json"):
        assert desk.filled().quantity == Decimal(65)


def test_a_silent_broker_leaves_the_order_uncertain(
    desk: KiteDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.venue.margins()  # so that there is a client
    desk.venue._local.kite.timeout = 0.3
    desk.fault("timeout_after_acceptance", seconds=1.0)
    with pytest.raises(OrderUncertain, match="Read timed out"):
        desk.place()
    assert desk.filled().venue_id


def test_an_order_that_found_no_connection_never_left(desk: KiteDesk) -> None:
    desk.venue.margins()  # so that there is a client
    desk.venue._local.kite.root = "http://127.0.0.1:1"
    with pytest.raises(OrderRefused, match="not sent, as there was no connection"):
        desk.place()


def test_too_fast_is_a_refusal_and_everybody_slows_down(desk: KiteDesk) -> None:
    desk.fault("rate_limit", match="/orders/regular")
    with pytest.raises(RateLimited) as caught:
        desk.place()
    assert isinstance(caught.value, OrderRefused)
    began = time.monotonic()
    with pytest.raises(OrderRefused, match="not sent: the limits of this account"):
        desk.venue.take_turn(FUTURE)
    assert time.monotonic() - began < 1.0  # it would be too old when its turn came
