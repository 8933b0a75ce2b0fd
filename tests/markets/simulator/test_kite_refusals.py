"""What the simulated broker says of orders it does not take: the real one's status, type, text."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kiteconnect import exceptions

from markets.simulator.kite.envelope import KiteError
from markets.simulator.kite.limits import ORDERS_A_DAY, ORDERS_A_MINUTE, Limits
from tests.markets.simulator.broker import FUTURE, Broker, broker

CALL = "NIFTY26JUN24000CE"


@pytest.fixture
def desk() -> Iterator[Broker]:
    with broker() as found:
        yield found


def refused(act: Callable[[], Any]) -> tuple[str, int, str]:
    """Return the class, the status and the text of the error an act ends with."""
    with pytest.raises(exceptions.KiteException) as caught:
        act()
    return type(caught.value).__name__, caught.value.code, str(caught.value)


def test_outside_the_session_one_is_sent_to_triggers(desk: Broker) -> None:
    desk.go("2026-06-01 08:30")
    kind, code, said = refused(desk.buy)
    assert (kind, code) == ("InputException", 400)
    assert said.startswith(
        "Markets are closed right now. Use GTT for placing long standing orders instead. [Read more"
    )


def test_a_price_beyond_the_range_of_the_day_or_the_band_has_one_text(desk: Broker) -> None:
    said = (
        "InputException",
        400,
        "Price exceeds circuit limits for the instrument. Place an order within the daily range.",
    )
    high = round(desk.last() * 1.2)
    assert refused(lambda: desk.buy(order_type="LIMIT", price=high)) == said
    premium = desk.last(CALL)
    assert premium > 50.0
    call: dict[str, Any] = {"tradingsymbol": CALL, "order_type": "LIMIT"}
    assert refused(lambda: desk.buy(price=round(premium * 1.5), **call)) == said
    assert refused(lambda: desk.sell(price=round(premium * 0.5), **call)) == said
    assert desk.buy(price=round(premium * 1.3), **call)


def test_a_limit_far_from_the_last_price_is_restricted(desk: Broker) -> None:
    call: dict[str, Any] = {"tradingsymbol": CALL, "order_type": "LIMIT"}
    kind, code, said = refused(lambda: desk.buy(price=round(desk.last(CALL) / 4), **call))
    assert (kind, code) == ("InputException", 400)
    assert said.startswith("LIMIT orders that are far away from the LTP are restricted as per exch")


def test_orders_come_from_registered_addresses_only(desk: Broker) -> None:
    resting = desk.buy(order_type="LIMIT", price=round(desk.last() - 300.0, 1))
    desk.until(resting, "OPEN")
    acts: tuple[Callable[[], Any], ...] = (
        desk.buy,
        lambda: desk.client.modify_order("regular", resting, quantity=130),
        lambda: desk.client.cancel_order("regular", resting),
    )
    for act in acts:
        desk.fault("forbidden_address", match=FUTURE)
        assert refused(act) == (
            "PermissionException",
            403,
            "IP (127.0.0.1) is not allowed to place orders for this app. Update allowed IPs on "
            "the Kite developer console.",
        )
        desk.fault("no_addresses")
        assert refused(act) == (
            "PermissionException",
            403,
            "No IPs configured for this app. Add allowed IPs on the Kite developer console.",
        )
    assert [order["status"] for order in desk.client.orders()] == ["OPEN"], "reading still works"


def test_want_of_margin_has_a_shorter_and_a_longer_text(desk: Broker) -> None:
    desk.fault("no_funds")
    kind, code, said = refused(desk.buy)
    assert (kind, code) == ("GeneralException", 400)
    assert said == "Insufficient funds. Required margin is 250000.00 but available margin is 0.00."
    desk.fault("no_funds_open_orders")
    kind, code, said = refused(desk.buy)
    assert (kind, code) == ("GeneralException", 400)
    assert said.startswith("Insufficient funds. Required margin is ")
    assert said.endswith(". Check the orderbook for open orders.")
    assert desk.client.orders() == []


def test_an_order_is_modified_twenty_five_times_at_most(desk: Broker) -> None:
    price = round(desk.last() - 300.0, 1)
    order_id = desk.buy(order_type="LIMIT", price=price)
    desk.until(order_id, "OPEN")
    for step in range(25):
        desk.client.modify_order("regular", order_id, price=round(price - step, 1))
    assert refused(lambda: desk.client.modify_order("regular", order_id, price=price)) == (
        "NetworkException",
        400,
        "Maximum allowed order modifications exceeded.",
    )


@pytest.mark.parametrize(("most", "pause"), [(ORDERS_A_MINUTE, 0.12), (ORDERS_A_DAY, 0.2)])
def test_a_minute_and_a_day_have_limits_of_their_own(most: int, pause: float) -> None:
    now = 86_400.0
    limits = Limits(lambda: now)
    for _ in range(most):
        limits.admit("order")
        now += pause
    with pytest.raises(KiteError) as caught:
        limits.admit("order")
    assert (caught.value.status, caught.value.error_type) == (400, "NetworkException")
    assert caught.value.message == "Maximum allowed order requests exceeded."


def test_too_many_of_a_second_is_another_matter() -> None:
    limits = Limits(lambda: 0.0)
    with pytest.raises(KiteError, match="Too many requests") as caught:
        for _ in range(11):
            limits.admit("order")
    assert caught.value.status == 429


def test_a_number_that_the_book_does_not_have(desk: Broker) -> None:
    said = "Couldn't find that `order_id`."
    client, number = desk.client, "260529000000001"
    acts: tuple[tuple[Callable[[], Any], int], ...] = (
        (lambda: client.cancel_order("regular", number), 400),
        (lambda: client.modify_order("regular", number, quantity=65), 400),
        (lambda: client.order_history(number), 404),
        (lambda: client.order_trades(number), 404),
    )
    for act, code in acts:
        assert refused(act) == ("OrderException", code, said)


def test_a_refusal_may_have_words_that_nobody_knows(desk: Broker) -> None:
    desk.fault("odd_refusal")
    kind, code, said = refused(desk.buy)
    assert (kind, code) == ("OrderException", 400)
    assert "surveillance" in said and "time" not in said
    assert desk.client.orders() == []


def test_an_order_on_its_way_cannot_be_changed(desk: Broker) -> None:
    desk.fault("slow_order", seconds=30.0)
    order_id = desk.buy()
    for act, what in (
        (lambda: desk.client.cancel_order("regular", order_id), "cancelled"),
        (lambda: desk.client.modify_order("regular", order_id, quantity=130), "modified"),
    ):
        said = f"Order cannot be {what} as it is being processed. Try later."
        assert refused(act) == ("InputException", 400, said)


def test_a_holding_that_a_new_lot_made_odd_is_kept_to_its_expiry(desk: Broker) -> None:
    desk.until(desk.buy(75 * 13), "COMPLETE")  # 15 lots of 65, and 13 of 75
    desk.fault("lot_revised", match=f"NFO:{FUTURE}", quantity=75)
    listed = {row["tradingsymbol"]: row["lot_size"] for row in desk.client.instruments("NFO")}
    assert listed[FUTURE] == 75
    desk.until(desk.sell(75), "COMPLETE")
    desk.fault("lot_revised", match=f"NFO:{FUTURE}", quantity=65)
    said = "Quantity should be a multiple of the lot size 65."
    # 900 are no whole number of lots of 65, whatever is sold of them.
    assert refused(lambda: desk.sell(900)) == ("InputException", 400, said)
    assert refused(lambda: desk.sell(65)) == ("InputException", 400, said)
    desk.until(desk.buy(65), "COMPLETE")
