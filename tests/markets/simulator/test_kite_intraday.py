"""The end of intraday trading at the simulated broker, and positions that change their product."""

from collections.abc import Iterator
from typing import Any

import pytest
from kiteconnect import exceptions

from tests.markets.simulator.broker import FUTURE, Broker, broker

LATER = "NIFTY26JULFUT"
AUGUST = "NIFTY26AUGFUT"


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def net(desk: Broker) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the net positions by symbol and product."""
    rows = desk.client.positions()["net"]
    return {(row["tradingsymbol"], row["product"]): row for row in rows}


def quantities(desk: Broker) -> dict[str, int]:
    """Return the net quantities of the future by product."""
    return {product: row["quantity"] for (_, product), row in net(desk).items()}


def brokers(desk: Broker) -> list[dict[str, Any]]:
    """Return the orders that the broker gave itself."""
    return [row for row in desk.client.orders() if row["placed_by"] != desk.kite.account.user_id]


@pytest.mark.parametrize(
    ("day", "still", "over", "symbol", "said"),
    [
        ("2026-06-01", "15:24:59", "15:25", FUTURE, "3.25 PM"),
        ("2026-08-05", "15:25:59", "15:26", AUGUST, "3.26 PM"),
    ],
)
def test_intraday_orders_are_refused_from_the_square_off_on_exits_too(
    day: str, still: str, over: str, symbol: str, said: str
) -> None:
    with broker(at=f"{day} {still}") as desk:
        desk.fault("square_off_fails")
        desk.until(desk.buy(product="MIS", tradingsymbol=symbol), "COMPLETE")
        desk.go(f"{day} {over}")
        for act in (desk.buy, desk.sell):
            with pytest.raises(exceptions.InputException) as refused:
                act(product="MIS", tradingsymbol=symbol)
            assert str(refused.value) == (
                f"Intraday orders (MIS) are allowed only till {said}. Try placing a CNC order."
            )
            assert refused.value.code == 400
        desk.until(desk.buy(tradingsymbol=symbol), "COMPLETE")


def test_shares_of_the_closing_auction_end_earlier() -> None:
    share = {"exchange": "NSE", "tradingsymbol": "INFY", "product": "MIS"}
    with (
        broker(at="2026-08-05 15:12") as desk,
        pytest.raises(exceptions.InputException, match=r"only till 3\.12 PM"),
    ):
        desk.buy(10, **share)


def test_intraday_positions_are_squared_off_by_either_desk_of_the_broker(desk: Broker) -> None:
    for symbol in (FUTURE, LATER):
        desk.until(desk.buy(product="MIS", tradingsymbol=symbol), "COMPLETE")
    resting = desk.buy(product="MIS", order_type="LIMIT", price=round(desk.last() - 300.0, 1))
    desk.go("2026-06-01 15:24")
    assert brokers(desk) == [], "not yet"
    before = desk.kite.account.portfolio.charges_today
    desk.go("2026-06-01 15:25")
    desk.wait(lambda: not any(row["quantity"] for row in net(desk).values()))
    assert desk.order(resting)["status"] == "CANCELLED"
    closing = brokers(desk)
    assert sorted(row["placed_by"] for row in closing) == ["ADMINSQF", "rms101"]
    assert {(row["product"], row["tag"], row["status"]) for row in closing} == {
        ("MIS", None, "COMPLETE")
    }
    assert desk.kite.account.portfolio.charges_today - before > 2 * 59.0, "the fees"


def test_a_square_off_that_fails_leaves_an_ordinary_position_overnight(desk: Broker) -> None:
    desk.until(desk.buy(product="MIS"), "COMPLETE")
    desk.until(desk.buy(product="NRML"), "COMPLETE")
    desk.fault("square_off_fails")
    desk.go("2026-06-01 15:26")
    desk.wait(lambda: bool(brokers(desk)))
    assert [row["status"] for row in brokers(desk)] == ["REJECTED"], "and not tried again"
    desk.go("2026-06-01 15:29")
    assert len(brokers(desk)) == 1
    assert quantities(desk) == {"MIS": 65, "NRML": 65}
    desk.go("2026-06-02 09:20")
    desk.wait(lambda: quantities(desk) == {"NRML": 130})
    assert net(desk)[FUTURE, "NRML"]["overnight_quantity"] == 130


def test_a_position_of_today_can_be_converted_both_ways(desk: Broker) -> None:
    desk.until(desk.buy(130, product="MIS"), "COMPLETE")
    convert = desk.client.convert_position
    assert convert("NFO", FUTURE, "BUY", "day", 65, old_product="MIS", new_product="NRML")
    assert quantities(desk) == {"MIS": 65, "NRML": 65}
    assert convert("NFO", FUTURE, "BUY", "day", 65, old_product="NRML", new_product="MIS")
    assert quantities(desk) == {"MIS": 130, "NRML": 0}, "both legs stay in sight"
    rows = desk.client.positions()["day"]
    assert [(row["product"], row["buy_quantity"], row["sell_quantity"]) for row in rows] == [
        ("MIS", 130, 0)
    ], "nothing was traded by it"
    for wrong in (
        {"transaction_type": "SELL"},
        {"quantity": 195},
        {"old_product": "NRML", "new_product": "MIS"},
    ):
        asked = {"transaction_type": "BUY", "quantity": 65, "old_product": "MIS"}
        asked |= {"new_product": "NRML", **wrong}
        with pytest.raises(exceptions.OrderException, match="no such position"):
            convert(exchange="NFO", tradingsymbol=FUTURE, position_type="day", **asked)
    with pytest.raises(exceptions.InputException, match="CNC is not allowed"):
        convert("NFO", FUTURE, "BUY", "day", 65, old_product="MIS", new_product="CNC")


def test_what_was_carried_in_is_converted_as_such(desk: Broker) -> None:
    desk.until(desk.sell(130), "COMPLETE")
    desk.go("2026-06-02 10:00")
    desk.wait(lambda: net(desk)[FUTURE, "NRML"]["overnight_quantity"] == -130)
    before = desk.client.margins("equity")["net"]
    assert desk.client.convert_position(
        "NFO", FUTURE, "SELL", "overnight", 65, old_product="NRML", new_product="MIS"
    )
    found = {
        product: (row["quantity"], row["overnight_quantity"])
        for (_, product), row in net(desk).items()
    }
    assert found == {"NRML": (-65, -65), "MIS": (-65, -65)}
    assert desk.client.positions()["day"] == []
    assert desk.client.margins("equity")["net"] == pytest.approx(before)
    # A sale of one product does not close what is held as the other.
    desk.until(desk.buy(130), "COMPLETE")
    assert quantities(desk) == {"NRML": 65, "MIS": -65}


def test_nothing_becomes_intraday_once_that_is_over(desk: Broker) -> None:
    desk.until(desk.buy(), "COMPLETE")
    desk.until(desk.buy(product="MIS"), "COMPLETE")
    desk.fault("square_off_fails")
    desk.go("2026-06-01 15:26")
    convert = desk.client.convert_position
    with pytest.raises(exceptions.InputException, match="Intraday orders"):
        convert("NFO", FUTURE, "BUY", "day", 65, old_product="NRML", new_product="MIS")
    desk.wait(lambda: bool(brokers(desk)))
    assert convert("NFO", FUTURE, "BUY", "day", 65, old_product="MIS", new_product="NRML")
    assert quantities(desk) == {"NRML": 130, "MIS": 0}
