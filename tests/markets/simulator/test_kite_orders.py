"""The life of orders at the simulated broker, through the broker's own client."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from kiteconnect import exceptions

from markets.simulator.kite.matching import Matcher, market_ask, worst_price
from tests.markets.simulator.broker import FUTURE, Broker, broker


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def net(desk: Broker, symbol: str = FUTURE) -> dict[str, Any]:
    return next(row for row in desk.client.positions()["net"] if row["tradingsymbol"] == symbol)


def test_a_market_order_goes_through_the_states_of_a_real_one(desk: Broker) -> None:
    before = desk.client.margins("equity")["net"]
    order_id = desk.buy(130, tag="T1ABCDEFGH")
    order = desk.until(order_id, "COMPLETE")
    assert desk.states(order_id) == [
        "PUT ORDER REQ RECEIVED",
        "VALIDATION PENDING",
        "OPEN PENDING",
        "OPEN",
        "COMPLETE",
    ]
    assert (order["tag"], order["tags"]) == ("T1ABCDEFGH", ["T1ABCDEFGH", "mktp", "mktp:0.50"])
    assert (order["filled_quantity"], order["pending_quantity"]) == (130, 0)
    trades = desk.client.order_trades(order_id)
    assert sum(trade["quantity"] for trade in trades) == 130
    assert order["average_price"] == pytest.approx(
        sum(trade["quantity"] * trade["average_price"] for trade in trades) / 130
    )
    # Bought at the offer, above the last price.
    assert order["average_price"] > desk.last()
    assert net(desk)["quantity"] == 130
    notional = 130 * desk.last()
    assert before - desk.client.margins("equity")["net"] == pytest.approx(
        0.115 * notional, rel=0.01
    )


def test_a_round_trip_is_realised_and_frees_the_margin(desk: Broker) -> None:
    before = desk.client.margins("equity")["net"]
    desk.until(desk.buy(), "COMPLETE")
    desk.until(desk.sell(), "COMPLETE")
    row = net(desk)
    assert row["quantity"] == 0
    assert row["realised"] == pytest.approx(row["pnl"]) == pytest.approx(row["value"])
    assert row["realised"] < 0.0
    after = desk.client.margins("equity")["net"]
    assert after == pytest.approx(before + row["realised"], abs=0.01)


def test_a_limit_rests_is_modified_and_is_filled_when_the_market_comes(desk: Broker) -> None:
    price = round(desk.last() - 300.0, 1)
    order_id = desk.buy(order_type="LIMIT", price=price, market_protection=None)
    desk.until(order_id, "OPEN")
    desk.client.modify_order("regular", order_id, price=round(desk.last() + 20.0, 1))
    order = desk.until(order_id, "COMPLETE")
    assert order["modified"]
    assert desk.states(order_id)[4:7] == ["MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED"]
    with pytest.raises(exceptions.OrderException, match="complete"):
        desk.client.cancel_order("regular", order_id)


def test_a_cancelled_order_keeps_what_it_filled(desk: Broker) -> None:
    desk.fault("partial_fill", quantity=65, seconds=30.0)
    order_id = desk.buy(195)
    desk.wait(lambda: desk.order(order_id)["filled_quantity"] == 65)
    assert desk.order(order_id)["status"] == "OPEN"
    desk.client.cancel_order("regular", order_id)
    order = desk.order(order_id)
    assert (order["status"], order["filled_quantity"]) == ("CANCELLED", 65)
    assert (order["cancelled_quantity"], order["pending_quantity"]) == (130, 0)
    assert net(desk)["quantity"] == 65


def test_a_stop_waits_for_its_trigger(desk: Broker) -> None:
    last = desk.last()
    stop = desk.sell(order_type="SL-M", trigger_price=round(last - 50.0, 1))
    desk.until(stop, "TRIGGER PENDING")
    with pytest.raises(exceptions.InputException, match="higher than the last traded price"):
        desk.sell(order_type="SL-M", trigger_price=round(last + 50.0, 1))
    desk.go("2026-06-01 14:27")
    assert desk.last() < last - 50.0, "the generated market falls here"
    assert desk.until(stop, "COMPLETE")["average_price"] < last - 50.0


def test_what_is_not_filled_at_once_of_an_ioc_is_cancelled(desk: Broker) -> None:
    price = round(desk.last() - 300.0, 1)
    order_id = desk.buy(order_type="LIMIT", price=price, validity="IOC", market_protection=None)
    assert desk.until(order_id, "CANCELLED")["filled_quantity"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quantity": 64}, "multiple of the lot size 65"),
        ({"quantity": 1_820}, "freeze limit of 1800"),
        ({"market_protection": None}, "Market orders without market protection are not allowed"),
        ({"market_protection": 0}, "Please set market protection or use a Limit order."),
        ({"tag": "x" * 21}, "at most 20 characters"),
        ({"tradingsymbol": "NIFTY99JANFUT"}, "Invalid tradingsymbol"),
        ({"order_type": "LIMIT", "price": 24_000.05}, "tick size 0.1"),
        ({"order_type": "LIMIT"}, "Price is required"),
        ({"product": "CNC"}, "CNC is not allowed"),
        ({"variety": "nonsense"}, "Invalid `variety`"),
        ({"quantity": 0}, "positive"),
        ({"exchange": "NSE", "tradingsymbol": "NIFTY 50"}, "Indices cannot be traded"),
    ],
)
def test_a_wrong_order_is_refused_by_name(desk: Broker, change: dict[str, Any], said: str) -> None:
    with pytest.raises(exceptions.InputException, match=said) as refused:
        desk.buy(**change)
    assert refused.value.code == 400
    assert desk.client.orders() == []


def test_prices_beyond_the_circuit_and_money_beyond_the_account_are_refused(desk: Broker) -> None:
    with pytest.raises(exceptions.InputException, match="Price exceeds circuit limits for the"):
        desk.buy(order_type="LIMIT", price=round(desk.last() * 1.2, 0))
    # The client has no class of that name: it comes as its general one.
    with pytest.raises(exceptions.GeneralException, match="Insufficient funds") as refused:
        for _ in range(4):
            desk.until(desk.buy(1_755), "COMPLETE")
    assert refused.value.code == 400


def test_shares_are_delivered_overnight_and_cannot_be_sold_before_they_are_there(
    desk: Broker,
) -> None:
    share = {"exchange": "NSE", "tradingsymbol": "INFY", "product": "CNC"}
    with pytest.raises(exceptions.GeneralException, match="Insufficient stock holding"):
        desk.sell(10, **share)
    order = desk.until(desk.buy(10, **share), "COMPLETE")
    desk.go("2026-06-02 10:00")
    desk.wait(lambda: bool(desk.client.holdings()))
    [held] = desk.client.holdings()
    assert (held["quantity"], held["average_price"]) == (10, order["average_price"])
    desk.until(desk.sell(10, **share), "COMPLETE")


def test_a_day_ends_its_orders_and_settles_its_futures(desk: Broker) -> None:
    bought = desk.until(desk.buy(), "COMPLETE")
    resting = desk.buy(order_type="LIMIT", price=round(desk.last() - 400.0, 1))
    cash = desk.client.margins("equity")["available"]["cash"]
    desk.go("2026-06-01 15:31")
    assert desk.until(resting, "CANCELLED")["status_message"]
    with pytest.raises(exceptions.InputException, match="Markets are closed right now"):
        desk.buy()
    desk.go("2026-06-02 09:20")
    assert desk.client.orders() == desk.client.trades() == []
    row = net(desk)
    assert (row["overnight_quantity"], row["quantity"]) == (65, 65)
    assert row["average_price"] == row["close_price"], "settled to the close"
    gain = 65 * (row["close_price"] - bought["average_price"])
    paid = desk.client.margins("equity")["available"]["cash"] - cash - gain
    assert -200.0 < paid < 0.0, "the charges of one lot"


def test_an_expired_future_is_gone_and_paid(desk: Broker) -> None:
    with broker(at="2026-06-29 12:00") as late:
        late.until(late.buy(), "COMPLETE")
        late.go("2026-07-01 09:20")
        late.wait(lambda: late.client.positions()["net"] == [])
        assert f"NFO:{FUTURE}" not in late.client.ltp([f"NFO:{FUTURE}"])


def test_an_order_too_large_for_the_exchange_is_sliced_where_asked(desk: Broker) -> None:
    answer = desk.client.place_autoslice_order(
        variety="regular",
        exchange="NFO",
        tradingsymbol="NIFTY2660224000CE",
        transaction_type="BUY",
        quantity=3_900,
        product="NRML",
        order_type="MARKET",
        market_protection=-1,
    )
    slices = [answer["order_id"], *(child["order_id"] for child in answer["children"])]
    orders = [desk.order(order_id) for order_id in slices]
    assert [order["quantity"] for order in orders] == [1_755, 1_755, 390]
    assert all(f"autoslice:{answer['order_id']}" in order["tags"] for order in orders)


def test_two_orders_of_one_step_share_its_depth(desk: Broker) -> None:
    world = desk.kite.world
    board = world.board()
    place = board.listing.by_key[f"NFO:{FUTURE}"]
    _, offers = board.depth(place)
    there = sum(size for size, _, _ in offers)
    matcher = Matcher(world, world.now())
    ask = market_ask(board.listing.rows[place], 1, 1_000_000, "NRML")
    limit = worst_price(ask, board.listing.rows[place], float(board.last[place]))
    first = list(matcher.fills(ask, there - 65, limit))
    second = list(matcher.fills(ask, 1_000, limit))
    assert sum(size for size, _ in first) == there - 65
    assert sum(size for size, _ in second) == 65, "the second finds what the first left"
    assert [price for _, price in first] == sorted(price for _, price in first)
    assert second[0][1] == first[-1][1] == offers[-1][1]


def test_a_killed_broker_comes_back_with_its_book(tmp_path: Path) -> None:
    with broker(tmp_path) as first:
        done = first.until(first.buy(tag="T1KEEP"), "COMPLETE")
        resting = first.buy(order_type="LIMIT", price=round(first.last() - 300.0, 1))
        first.until(resting, "OPEN")
        truth = requests.get(f"{first.url}/_sim/kite", timeout=5).json()
    with broker(tmp_path) as second:
        found = requests.get(f"{second.url}/_sim/kite", timeout=5).json()
        for name in ("orders", "trades", "positions"):
            assert found[name] == truth[name]
        assert second.order(done["order_id"])["tag"] == "T1KEEP"
        assert second.buy() > resting, "numbers go on"
        second.client.cancel_order("regular", resting)


# --- Faults --------------------------------------------------------------------------------------


def test_an_order_that_timed_out_was_taken_all_the_same(desk: Broker) -> None:
    client = desk.sign_in(timeout=0.3)
    desk.client = client
    desk.fault("timeout_after_acceptance", seconds=1.0)
    with pytest.raises(requests.exceptions.ReadTimeout):
        desk.buy(tag="T1LATE")
    [order] = client.orders()
    assert order["tag"] == "T1LATE"
    assert desk.kite.trading.placements == 1


@pytest.mark.parametrize(
    ("kind", "error", "arrives"),
    [
        ("ambiguous_400", exceptions.OrderException, True),
        ("lost_400", exceptions.OrderException, False),
        ("error_after_acceptance", exceptions.GeneralException, True),
        ("reset_after_acceptance", requests.exceptions.ConnectionError, True),
        ("server_error", exceptions.DataException, False),
        ("not_json", exceptions.DataException, False),
        ("reset", requests.exceptions.ConnectionError, False),
        ("no_funds", exceptions.GeneralException, False),
        ("rate_limit", exceptions.NetworkException, False),
        ("forbidden_address", exceptions.PermissionException, False),
        ("token_expired", exceptions.TokenException, False),
    ],
)
def test_faults_of_placing_look_as_they_do(
    desk: Broker, kind: str, error: type[Exception], arrives: bool
) -> None:
    match = "" if kind == "token_expired" else "POST /orders"
    if kind in desk.kite.faults.kinds and kind.endswith(("400", "acceptance", "funds", "address")):
        match = FUTURE
    desk.fault(kind, match=match, seconds=0.2)
    with pytest.raises(error):
        desk.buy(tag="T1FAULT")
    time.sleep(0.35)
    desk.client = desk.sign_in()
    assert [order["tag"] for order in desk.client.orders()] == ["T1FAULT"] * arrives


def test_a_late_order_is_not_in_the_book_until_it_arrives(desk: Broker) -> None:
    desk.fault("ambiguous_400", seconds=0.6)
    with pytest.raises(exceptions.OrderException, match="Please check the order book"):
        desk.buy()
    assert desk.client.orders() == []
    desk.wait(lambda: bool(desk.client.orders()))
    desk.until(desk.client.orders()[0]["order_id"], "COMPLETE")


def test_an_order_may_be_rejected_after_it_was_acknowledged(desk: Broker) -> None:
    desk.fault("reject")
    order = desk.order(desk.buy())
    assert order["status"] == "REJECTED"
    assert order["status_message"].startswith("RMS:")
    desk.fault("slow_order", seconds=0.4)
    slow = desk.buy()
    assert desk.order(slow)["status"] == "PUT ORDER REQ RECEIVED"
    desk.until(slow, "COMPLETE")


def test_a_book_may_be_shown_empty_once(desk: Broker) -> None:
    order_id = desk.buy()
    desk.fault("empty_book")
    assert desk.client.orders() == []
    assert desk.order(order_id)


def test_the_documented_limits_are_enforced() -> None:
    with broker(has_limits=True) as strict:
        with pytest.raises(exceptions.NetworkException, match="Too many requests") as refused:
            for _ in range(4):
                strict.client.ltp(["NSE:INFY"])
        assert refused.value.code == 429
        time.sleep(1.0)
        with pytest.raises(exceptions.NetworkException):
            for _ in range(30):
                strict.client.orders()
        assert strict.kite.limits.most_in_a_second > 10


def test_other_clients_tests_may_switch_rules_off() -> None:
    with broker(needs_protection=False, older_spans=True) as lenient:
        lenient.until(lenient.buy(market_protection=None), "COMPLETE")
        with pytest.raises(exceptions.InputException, match="exceeds max limit: 30 days"):
            lenient.client.historical_data(256265, "2026-04-01", "2026-05-20", "minute")
