"""What orders cost against the price they were decided at, and who is told of it."""

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command

from bots.execution import shortfall
from bots.models import Order
from tests.desk import Desk
from tradingsite.models import Notice
from tradingsite.registry import SLOTS
from training import recipes

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["btc", "nifty", "default"])


@pytest.fixture
def desk(set_market: SetMarket) -> Desk:
    made = Desk("btc", set_market)
    made.quote(60_000.0)
    return made


def filled(desk: Desk, number: int, side: int, sent: str, price: str) -> Order:
    """Write a filled order that was decided at 60,000."""
    order = desk.order({"btc-1h": side}, bar=desk.now + dt.timedelta(minutes=number))
    Order.on("btc").objects.filter(pk=order.pk).update(
        state="filled",
        reference_price=60_000,
        arrival_price=Decimal(sent),
        average_price=Decimal(price),
        filled_quantity=order.quantity,
    )
    order.refresh_from_db()
    return order


def test_an_orders_cost_is_the_delays_and_the_markets(desk: Desk) -> None:
    assert shortfall.of_order(filled(desk, 1, 1, "60012", "60030")) == pytest.approx((2.0, 3.0))
    assert shortfall.of_order(filled(desk, 2, -1, "60012", "59994")) == pytest.approx((-2.0, 3.0))
    assert shortfall.of_order(desk.order({"btc-1h": 1}, bar=desk.now)) is None


def test_slots_are_reported_as_a_whole_and_by_the_hour(desk: Desk) -> None:
    filled(desk, 1, 1, "60006", "60012")
    desk.go(desk.now + dt.timedelta(hours=1))
    filled(desk, 2, 1, "60006", "60024")
    whole, ten, eleven = shortfall.report(desk.bot, desk.now)
    assert (whole.slot, whole.hour, whole.orders) == ("btc-1h", None, 2)
    assert whole.total_bps == pytest.approx(3.0)
    assert [(each.hour, each.total_bps) for each in (ten, eleven)] == [
        (10, pytest.approx(2.0)),
        (11, pytest.approx(4.0)),
    ]
    said = StringIO()
    call_command("shortfall", "btc", "--json", stdout=said)
    first = json.loads(said.getvalue().splitlines()[0])
    assert (first["slot"], first["orders"], first["assumed_bps"]) == ("btc-1h", 2, 1.5)
    said = StringIO()
    call_command("shortfall", stdout=said)
    assert "btc-1h" in said.getvalue() and "simulated" in said.getvalue()


def test_few_orders_change_no_assumption_and_many_do(desk: Desk) -> None:
    for number in range(shortfall.LEAST_ORDERS - 1):
        filled(desk, number, 1, "60000", "60026")
    assert shortfall.assumed_bps(desk.bot) == 1.5
    assert shortfall.warn(desk.bot, desk.now) == []
    filled(desk, 99, 1, "60000", "60026")
    assert shortfall.assumed_bps(desk.bot) == 4.5  # 4.33, in steps of a half
    assert recipes.settings_of(SLOTS["btc-1h"], 1_000)["slippage_bps"] == 4.5


def test_what_costs_half_as_much_again_is_told_and_taken_back(desk: Desk) -> None:
    for number in range(shortfall.LEAST_ORDERS):
        filled(desk, number, 1, "60000", "60026")
    [text] = shortfall.warn(desk.bot, desk.now)
    assert (
        "paid 4.3 bps on its last 30 orders (median), 1.5 were assumed. New recipes reckon with 4.5"
        in text
    )
    notice = Notice.objects.get(key="shortfall:btc-1h")
    assert notice.severity == "warning" and notice.resolved_at is None
    later = desk.now + dt.timedelta(days=60)
    desk.go(later)
    for number in range(shortfall.LEAST_ORDERS):
        filled(desk, number, 1, "60000", "60003")
    assert shortfall.warn(desk.bot, later) == []
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_another_modes_fills_say_nothing(desk: Desk) -> None:
    order = filled(desk, 1, 1, "60006", "60012")
    Order.on("btc").objects.filter(pk=order.pk).update(mode="live")
    assert shortfall.report(desk.bot, desk.now) == []
