"""The simulated broker's day: when orders end, positions go on, the book forgets, contracts die."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.markets.simulator.broker import FUTURE, Broker, broker

INDEX = 256265
TAG = "T1LATE"


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def naive(text: str) -> dt.datetime:
    """Return a time as the broker's client gives it: of India, without a zone."""
    return dt.datetime.fromisoformat(text)


def net(desk: Broker) -> dict[str, dict[str, Any]]:
    """Return the net positions by symbol."""
    return {row["tradingsymbol"]: row for row in desk.client.positions()["net"]}


def held(desk: Broker, symbol: str = FUTURE) -> tuple[int, int]:
    """Return a position's quantity, and what of it was carried in."""
    row = net(desk)[symbol]
    return row["quantity"], row["overnight_quantity"]


def test_the_book_shows_yesterday_until_some_time_in_the_morning(desk: Broker) -> None:
    order_id = desk.buy()
    desk.until(order_id, "COMPLETE")
    for at in ("2026-06-01 23:59", "2026-06-02 00:30", "2026-06-02 06:29"):
        desk.go(at)
        assert [row["order_id"] for row in desk.client.orders()] == [order_id]
        assert held(desk) == (65, 0), "still of the day before"
    desk.go("2026-06-02 06:31")
    assert held(desk) == (65, 65)
    assert desk.client.positions()["day"] == []
    assert len(desk.client.orders()) == len(desk.client.trades()) == 1
    desk.go("2026-06-02 07:00")
    assert desk.client.orders() == desk.client.trades() == []
    assert held(desk) == (65, 65)


def test_an_order_of_the_evening_is_for_the_next_session(desk: Broker) -> None:
    desk.go("2026-06-01 18:00")
    amo = desk.buy(variety="amo", order_type="LIMIT", price=round(desk.last() + 50.0, 1))
    desk.go("2026-06-02 08:00")
    assert desk.order(amo)["status"] == "AMO REQ RECEIVED"
    desk.go("2026-06-02 09:16")
    desk.until(amo, "COMPLETE")
    assert held(desk) == (65, 0)


def test_orders_end_with_their_session_though_nobody_looked(desk: Broker) -> None:
    resting = desk.buy(order_type="LIMIT", price=round(desk.last() - 400.0, 1))
    desk.until(resting, "OPEN")
    desk.go("2026-06-02 02:00")
    order = desk.order(resting)
    assert order["status"] == "CANCELLED"
    assert order["order_timestamp"] == naive("2026-06-01 15:30")


def test_an_order_may_be_known_as_filled_only_in_the_evening(desk: Broker) -> None:
    desk.fault("late_reconcile")
    order_id = desk.buy(130)
    desk.until(order_id, "OPEN PENDING")
    other = desk.buy(order_type="LIMIT", price=round(desk.last() - 400.0, 1))
    desk.go("2026-06-01 13:30")
    assert desk.client.trades() == desk.client.positions()["net"] == []
    desk.go("2026-06-01 15:31")
    desk.until(other, "CANCELLED")
    order = desk.order(order_id)
    assert (order["status"], order["filled_quantity"]) == ("OPEN PENDING", 0)
    assert order["exchange_order_id"] is None
    desk.go("2026-06-01 16:15")
    order = desk.until(order_id, "COMPLETE")
    assert order["filled_quantity"] == 130
    assert order["order_timestamp"] == naive("2026-06-01 16:15")
    times = {row["fill_timestamp"] for row in desk.client.trades()}
    assert times == {naive("2026-06-01 10:00")}
    assert held(desk) == (130, 0)


def test_what_was_never_filled_ends_in_the_evening_too(desk: Broker) -> None:
    desk.fault("late_reconcile")
    order_id = desk.buy(order_type="LIMIT", price=round(desk.last() - 400.0, 1))
    desk.until(order_id, "OPEN PENDING")
    desk.go("2026-06-01 16:14")
    assert desk.order(order_id)["status"] == "OPEN PENDING"
    desk.go("2026-06-01 16:16")
    assert desk.until(order_id, "CANCELLED")["filled_quantity"] == 0


def test_late_fills_outlive_the_process_and_the_night(tmp_path: Path) -> None:
    with broker(tmp_path) as first:
        first.fault("late_reconcile")
        order_id = first.buy(tag=TAG)
        first.wait(lambda: bool(first.kite.account.book.orders[order_id].withheld))
    with broker(tmp_path, at="2026-06-01 15:50") as second:
        assert second.order(order_id)["status"] == "OPEN PENDING"
        second.go("2026-06-02 09:20")
        second.wait(lambda: bool(second.client.positions()["net"]))
        assert held(second) == (65, 65)
        assert second.client.orders() == []


@pytest.mark.parametrize("kind", ["FUT", "24500CE"])
def test_a_contract_that_expires_is_paid_by_the_close_of_its_index(kind: str) -> None:
    symbol = f"NIFTY26JUN{kind}"
    with broker(at="2026-06-30 12:00") as desk:
        bought = desk.until(desk.buy(tradingsymbol=symbol), "COMPLETE")
        cash = desk.client.margins("equity")["available"]["cash"]
        desk.go("2026-06-30 18:00")
        assert held(desk, symbol) == (65, 0), "there for the rest of the day"
        desk.go("2026-07-01 02:00")
        [day] = desk.client.historical_data(INDEX, "2026-06-30", "2026-06-30", "day")
        final = day["close"] if kind == "FUT" else max(day["close"] - 24_500.0, 0.0)
        assert net(desk)[symbol]["last_price"] == pytest.approx(final, abs=1e-4)
        assert len(desk.client.orders()) == len(desk.client.order_trades(bought["order_id"])) == 1
        desk.go("2026-07-01 06:31")
        assert net(desk) == {}
        assert [row["order_id"] for row in desk.client.trades()] == [bought["order_id"]]
        gain = desk.client.margins("equity")["available"]["cash"] - cash
        paid = 65 * (final - bought["average_price"]) - gain
        assert 0.0 < paid < 200.0, "the charges"


def test_one_that_is_away_over_an_expiry_gets_the_same(desk: Broker) -> None:
    with broker(at="2026-06-25 12:00") as late:
        bought = late.until(late.buy(), "COMPLETE")
        cash = late.client.margins("equity")["available"]["cash"]
        late.go("2026-07-03 10:00")
        late.wait(lambda: late.client.positions()["net"] == [])
        [day] = late.client.historical_data(INDEX, "2026-06-30", "2026-06-30", "day")
        gain = late.client.margins("equity")["available"]["cash"] - cash
        paid = 65 * (day["close"] - bought["average_price"]) - gain
        assert 0.0 < paid < 200.0


def test_triggers_of_derivatives_end_with_their_contract(desk: Broker) -> None:
    order = {"transaction_type": "BUY", "quantity": 65, "order_type": "LIMIT", "product": "NRML"}
    last = desk.last()
    price = round(last - 500.0, 1)
    future = desk.client.place_gtt(
        "single", FUTURE, "NFO", [price], last, [{**order, "price": price}]
    )["trigger_id"]
    share = desk.client.place_gtt(
        "single", "INFY", "NSE", [900.0], 1_500.0, [{**order, "product": "CNC", "price": 900.0}]
    )["trigger_id"]
    assert desk.client.get_gtt(future)["expires_at"] == "2026-06-30 15:30:00"
    assert desk.client.get_gtt(share)["expires_at"] == "2027-06-01 10:00:00"
    desk.kite.account.portfolio.positions.clear()
    desk.go("2026-07-01 10:00")
    desk.wait(lambda: desk.client.get_gtt(future)["status"] == "expired")
    assert desk.client.get_gtt(share)["status"] == "active"
