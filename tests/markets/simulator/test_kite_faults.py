"""What else the simulated broker does wrong: slow order management, odd rows, muddled updates."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from kiteconnect import exceptions

from tests.markets.simulator.broker import FUTURE, Broker, broker
from tests.markets.simulator.kite_client import Client, serving
from tests.waiting import wait_for


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def test_a_slow_order_management_has_the_order_before_it_says_that_it_failed(desk: Broker) -> None:
    caught: list[Exception] = []

    def place() -> None:
        try:
            desk.buy(tag="T1SLOW")
        except exceptions.KiteException as error:
            caught.append(error)

    desk.fault("slow_oms", seconds=1.6)
    sender = threading.Thread(target=place)
    sender.start()
    desk.wait(lambda: bool(desk.client.orders()))
    assert not caught, "the answer is not there yet"
    [order] = desk.client.orders()
    assert (order["status"], order["tag"]) == ("PUT ORDER REQ RECEIVED", "T1SLOW")
    sender.join()
    [error] = caught
    assert isinstance(error, exceptions.NetworkException)
    assert (error.code, str(error)) == (503, "Request failed (kitetrade-oms).")
    assert desk.order(order["order_id"])["status"] == "PUT ORDER REQ RECEIVED", "still on its way"
    desk.until(order["order_id"], "COMPLETE")


def test_a_reading_of_positions_fails_now_and_then(desk: Broker) -> None:
    desk.fault("position_502")
    with pytest.raises(exceptions.NetworkException) as refused:
        desk.client.positions()
    assert refused.value.code == 502
    assert desk.client.positions() == {"net": [], "day": []}


def test_one_row_of_an_answer_may_have_no_times(desk: Broker) -> None:
    for symbol in (FUTURE, "NIFTY26JULFUT"):
        desk.until(desk.buy(tradingsymbol=symbol), "COMPLETE")

    def odd(rows: list[dict[str, Any]], *names: str) -> list[list[Any]]:
        return [[row[name] for name in names] for row in rows if row["tradingsymbol"] == FUTURE]

    for path, read, names in (
        ("/orders", desk.client.orders, ("order_timestamp", "exchange_timestamp")),
        ("/trades", desk.client.trades, ("fill_timestamp", "exchange_timestamp")),
        ("/portfolio/positions", lambda: desk.client.positions()["net"], ("quantity",)),
    ):
        desk.fault("odd_rows", match=f"{path} {FUTURE}")
        rows = read()
        assert odd(rows, *names)[0] == [None] * len(names)
        others = [row for row in rows if row["tradingsymbol"] != FUTURE]
        assert all(row[name] is not None for row in others for name in names)
        assert None not in odd(read(), *names)[0], "once"
    keys = [f"NFO:{FUTURE}", "NSE:INFY"]
    desk.fault("odd_rows", match="/quote NFO")
    quotes = desk.client.quote(keys)
    assert quotes[keys[0]]["timestamp"] is quotes[keys[0]]["last_trade_time"] is None
    assert quotes[keys[1]]["timestamp"] is not None
    desk.client.ltp(keys)


def test_one_row_of_an_answer_may_have_no_quantity(desk: Broker) -> None:
    order_id = desk.buy()
    desk.until(order_id, "COMPLETE")
    desk.fault("null_quantities", match="/orders", times=1)
    assert desk.order(order_id)["filled_quantity"] is None
    assert desk.order(order_id)["filled_quantity"] == 65
    desk.fault("null_quantities", match="/portfolio")
    assert desk.client.positions()["net"][0]["quantity"] is None
    assert desk.client.positions()["net"][0]["quantity"] == 65


def test_updates_of_orders_come_out_of_order_and_again() -> None:
    with serving() as (server, url), Client(url) as client:
        assert wait_for(lambda: client.opened)

        def tell(status: str) -> None:
            data = {"exchange": "NFO", "tradingsymbol": FUTURE, "status": status}
            requests.post(f"{url.replace('ws', 'http', 1)}/order", json=data, timeout=5)

        server.faults.put("muddled_updates", match=FUTURE)
        tell("OPEN")
        tell("COMPLETE")
        assert wait_for(lambda: len(client.orders) == 3)
        assert [each["status"] for each in client.orders] == ["COMPLETE", "OPEN", "OPEN"]
        server.faults.put("muddled_updates")
        tell("CANCELLED")
        began = time.monotonic()
        assert wait_for(lambda: len(client.orders) == 5), "none is lost where no other follows"
        assert time.monotonic() - began < 3.0
