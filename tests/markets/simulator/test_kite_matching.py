"""How far a market order of the simulated broker reaches, and orders that change on their way."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from kiteconnect import exceptions

from markets.simulator.kite.matching import market_ask, protection_pct, worst_price
from tests.markets.simulator.broker import FUTURE, Broker, broker

CALL = "NIFTY26JUN24000CE"


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


@pytest.mark.parametrize(
    ("symbol", "last", "percent", "bought_at", "sold_at"),
    [
        (CALL, 0.05, 5.0, 0.1, 0.05),
        (CALL, 9.9, 5.0, 10.4, 9.4),
        (CALL, 10.0, 3.0, 10.3, 9.7),
        (CALL, 217.0, 2.0, 221.35, 212.65),
        (CALL, 600.0, 1.0, 606.0, 594.0),
        (FUTURE, 24_000.0, 0.5, 24_120.0, 23_880.0),
    ],
)
def test_protection_goes_by_the_price(
    desk: Broker, symbol: str, last: float, percent: float, bought_at: float, sold_at: float
) -> None:
    row = desk.kite.account.find("NFO", symbol)
    buy, sell = (market_ask(row, side, row.lot_size, "NRML") for side in (1, -1))
    assert protection_pct(buy, row, last) == percent
    assert worst_price(buy, row, last) == bought_at
    assert worst_price(sell, row, last) == sold_at
    asked = dataclasses.replace(buy, market_protection=10.0)
    assert 1.1 * last <= worst_price(asked, row, last) + 1e-6 <= 1.1 * last + row.tick_size


def test_a_market_order_beyond_its_protection_rests_as_a_limit_all_day(desk: Broker) -> None:
    last = desk.last()
    order_id = desk.buy(market_protection=0.001)
    desk.wait(lambda: desk.order(order_id)["order_type"] == "LIMIT")
    order = desk.order(order_id)
    assert (order["status"], order["pending_quantity"]) == ("OPEN", 65)
    assert (order["market_protection"], order["filled_quantity"]) == (0, 0)
    assert last <= order["price"] <= last + 0.5, "the edge of its band"
    desk.go("2026-06-01 15:31")
    desk.until(order_id, "CANCELLED")


def test_what_is_left_of_a_market_order_is_a_limit(desk: Broker) -> None:
    desk.fault("partial_fill", quantity=65, seconds=0.5)
    order_id = desk.buy(195)
    desk.wait(lambda: desk.order(order_id)["filled_quantity"] == 65)
    order = desk.order(order_id)
    assert (order["status"], order["order_type"]) == ("OPEN", "LIMIT")
    assert order["price"] == pytest.approx(desk.last() * 1.005, abs=0.2)
    assert desk.until(order_id, "COMPLETE")["filled_quantity"] == 195


def test_an_order_whose_quantity_is_lowered_is_complete_with_less(desk: Broker) -> None:
    desk.fault("partial_fill", quantity=65, seconds=0.6)
    order_id = desk.buy(260)
    desk.wait(lambda: desk.order(order_id)["filled_quantity"] == 65)
    with pytest.raises(exceptions.InputException, match="less than what is filled"):
        desk.client.modify_order("regular", order_id, quantity=65)
    desk.client.modify_order("regular", order_id, quantity=130)
    order = desk.until(order_id, "COMPLETE")
    assert (order["quantity"], order["filled_quantity"]) == (130, 130)
    assert (order["pending_quantity"], order["cancelled_quantity"]) == (0, 0)
    assert sum(row["quantity"] for row in desk.client.order_trades(order_id)) == 130


def test_a_limit_becomes_a_market_order_with_protection_only(desk: Broker) -> None:
    price = round(desk.last() - 300.0, 1)
    order_id = desk.buy(order_type="LIMIT", price=price)
    desk.until(order_id, "OPEN")
    modify = desk.client.modify_order
    with pytest.raises(exceptions.InputException, match="without market protection"):
        modify("regular", order_id, order_type="MARKET")
    with pytest.raises(exceptions.InputException, match="Invalid `order_type`"):
        modify("regular", order_id, order_type="BEST")
    modify("regular", order_id, order_type="MARKET", quantity=130, market_protection=-1)
    order = desk.until(order_id, "COMPLETE")
    assert (order["quantity"], order["modified"]) == (130, True)


def test_more_of_an_order_needs_the_margin_and_keeps_to_the_rules(desk: Broker) -> None:
    order_id = desk.buy(order_type="LIMIT", price=round(desk.last() - 300.0, 1))
    desk.until(order_id, "OPEN")
    modify = desk.client.modify_order
    with pytest.raises(exceptions.InputException, match="freeze limit"):
        modify("regular", order_id, quantity=1_820)
    with pytest.raises(exceptions.InputException, match="lot size"):
        modify("regular", order_id, quantity=66)
    desk.until(desk.buy(1_300, tradingsymbol="NIFTY26JULFUT"), "COMPLETE")
    with pytest.raises(exceptions.GeneralException, match="Insufficient funds"):
        modify("regular", order_id, quantity=1_300)
    assert desk.order(order_id)["quantity"] == 65


def test_an_order_for_the_opening_stays_one_when_it_is_changed(desk: Broker) -> None:
    desk.go("2026-06-01 08:00")
    amo = desk.buy(variety="amo", order_type="LIMIT", price=round(desk.last() - 500.0, 1))
    desk.client.modify_order("amo", amo, quantity=130)
    order = desk.order(amo)
    assert (order["status"], order["quantity"]) == ("AMO REQ RECEIVED", 130)


# --- Cover orders --------------------------------------------------------------------------------


def cover(desk: Broker, **changes: Any) -> str:
    """Buy a share with a stop one percent under it."""
    last = float(desk.client.ltp(["NSE:RELIANCE"])["NSE:RELIANCE"]["last_price"])
    share = {"variety": "co", "exchange": "NSE", "tradingsymbol": "RELIANCE", "product": "MIS"}
    return desk.buy(10, trigger_price=round(last * 0.99), **share, **changes)


def test_a_cover_order_brings_its_stop_and_is_left_through_it(desk: Broker) -> None:
    entry = desk.until(cover(desk), "COMPLETE")
    assert (entry["variety"], entry["product"]) == ("co", "CO")
    [stop] = [row for row in desk.client.orders() if row["parent_order_id"] == entry["order_id"]]
    assert (stop["variety"], stop["product"], stop["transaction_type"]) == ("co", "CO", "SELL")
    desk.until(stop["order_id"], "TRIGGER PENDING")
    [row] = desk.client.positions()["net"]
    assert (row["product"], row["quantity"]) == ("CO", 10)
    desk.client.exit_order("co", stop["order_id"], parent_order_id=entry["order_id"])
    desk.until(stop["order_id"], "COMPLETE")
    assert desk.client.positions()["net"][0]["quantity"] == 0


def test_a_cover_order_is_squared_off_with_its_stop(desk: Broker) -> None:
    entry = desk.until(cover(desk), "COMPLETE")
    desk.go("2026-06-01 15:25")
    desk.wait(lambda: desk.client.positions()["net"][0]["quantity"] == 0)
    [stop] = [row for row in desk.client.orders() if row["parent_order_id"] == entry["order_id"]]
    assert stop["status"] == "CANCELLED"


def test_a_cover_order_without_its_price_dies_in_the_book(desk: Broker) -> None:
    order = desk.until(cover(desk, order_type="LIMIT", market_protection=None), "REJECTED")
    assert order["product"] == "CO" and "needs its price" in order["status_message"]
    with pytest.raises(exceptions.InputException, match="losing side"):
        desk.buy(
            10, variety="co", exchange="NSE", tradingsymbol="INFY", product="MIS", trigger_price=1e4
        )
