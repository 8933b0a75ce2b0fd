"""Reconciliation: after any crash the ledger and the venue's book agree, or the bot stops."""

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest

from bots.models import Fill, Order, OrderEvent, Position
from markets.models import VenueOrder
from markets.venues.base import BookOrder, OrderRefused
from markets.venues.paper import PaperVenue
from tests.desk import Desk
from tradingsite.models import Notice

databases = pytest.mark.django_db(databases=["btc", "default"])
committed = pytest.mark.django_db(databases=["btc", "default"], transaction=True)
SetMarket = Callable[..., None]

# A bot's process that places one order; the environment says where it dies.
CHILD = """
import sys
import django
django.setup()
from tests.desk import Desk
from tradingsite import clock
clock.simulate(__import__("pathlib").Path(sys.argv[1]))
desk = Desk("btc", lambda when: None)
desk.send(desk.order({"btc-1h": 2}))
"""


def run_and_die(desk: Desk, clock_file: str, failpoint: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", CHILD, clock_file],
        env={**os.environ, "NIGHTDESK_FAILPOINT": failpoint},
        check=False,
        timeout=30,
    )
    assert finished.returncode == 9


@pytest.fixture
def desk(set_market: SetMarket) -> Desk:
    made = Desk("btc", set_market)
    made.quote(60_000.0)
    return made


@committed
@pytest.mark.parametrize(
    ("failpoint", "story", "lots"),
    [
        ("after_intent", ["intent", "not_placed"], {}),
        ("after_submitting", ["intent", "submitting", "not_placed"], {}),
        ("after_send", ["intent", "submitting", "acked", "filled"], {"btc-1h": 2}),
    ],
)
def test_a_crash_anywhere_leaves_no_duplicate_and_no_orphan(
    desk: Desk, tmp_path: object, failpoint: str, story: list[str], lots: dict[str, int]
) -> None:
    run_and_die(desk, f"{tmp_path}/clock.json", failpoint)
    order = Order.on("btc").objects.get()
    desk.reconcile()
    desk.quote(60_000.0)
    desk.reconcile()
    assert desk.story(order) == story
    assert desk.lots() == lots
    assert desk.reconcile().differences == ()
    assert not desk.risk().halted
    # Whatever was still on its way when the process died finds the door shut.
    if failpoint != "after_send":
        with pytest.raises(OrderRefused, match="never arrived"):
            assert desk.venue.rule_out(order.tag)
            desk.venue.place(order.tag, order.instrument, order.quantity, 1.0)
    assert sum(each.quantity for each in desk.book() if each.state == "filled") == sum(
        lots.values()
    ) * Decimal("0.01")


class Slow(PaperVenue):
    """A broker whose book may show an order later, so that absence proves nothing."""

    hides = True

    def orders(self, tags: object) -> list[BookOrder]:
        """Show nothing at first."""
        return [] if self.hides else super().orders(tags)  # type: ignore[arg-type]

    def rule_out(self, tag: str) -> bool:
        """Never promise."""
        return False


@databases
def test_an_order_the_book_does_not_show_stays_unknown_until_it_does(desk: Desk) -> None:
    venue = desk.venue = Slow("btc", desk.calendar)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    Order.on("btc").objects.filter(pk=order.pk).update(state=Order.State.SUBMITTING)
    assert desk.reconcile().unknown == 1
    assert desk.reconcile().unknown == 1
    assert desk.story(order) == ["intent", "submitting", "acked", "unknown"]
    venue.hides = False
    assert desk.reconcile().settled == 1
    desk.quote(60_000.0)
    assert desk.reconcile().fills == 1
    assert desk.lots() == {"btc-1h": 1}


@databases
def test_a_position_that_differs_halts_the_bot_and_shows_both_numbers(desk: Desk) -> None:
    desk.trade({"btc-1h": 2})
    Position.on("btc").objects.filter(slot="btc-1h").update(quantity=Decimal("0.03"))
    outcome = desk.reconcile()
    assert outcome.differences == ("BTC-PERP: the ledger has 0.03, paper has 0.02",)
    assert desk.risk().halted
    notice = Notice.objects.get(key="halt:btc")
    assert notice.severity == "critical"
    assert "0.03" in notice.text and "0.02" in notice.text


@databases
def test_positions_are_not_compared_while_an_order_is_in_flight(desk: Desk) -> None:
    desk.send(desk.order({"btc-1h": 2}))
    desk.quote(60_000.0)
    order = Order.on("btc").objects.get()
    assert VenueOrder.on("btc").objects.get().state == "filled"
    assert order.state == Order.State.ACKED
    assert desk.reconcile().differences == ()
    assert desk.lots() == {"btc-1h": 2}


@databases
def test_an_order_with_our_tag_that_the_ledger_does_not_know_halts(desk: Desk) -> None:
    desk.venue.place("T1ZZZZZZZZZZZZZZZZ", "BTC-PERP", Decimal("0.01"), 1.0)
    assert "T1ZZZZZZZZZZZZZZZZ" in desk.reconcile().differences[0]
    assert desk.risk().halted


@databases
def test_reconciling_twice_changes_nothing_more(desk: Desk) -> None:
    desk.trade({"btc-1h": 1})
    desk.order({"btc-1h": 1})
    first = desk.reconcile()
    assert first.not_placed == 1
    before = (OrderEvent.on("btc").objects.count(), Fill.on("btc").objects.count())
    again = desk.reconcile()
    assert (again.not_placed, again.settled, again.unknown, again.fills) == (0, 0, 0, 0)
    assert (OrderEvent.on("btc").objects.count(), Fill.on("btc").objects.count()) == before


@databases
def test_an_accepted_order_the_venue_refused_later_is_rejected(desk: Desk) -> None:
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    VenueOrder.on("btc").objects.update(state="rejected", message="margin call")
    desk.reconcile()
    order.refresh_from_db()
    assert (order.state, order.message) == (Order.State.REJECTED, "margin call")
