"""Reconciliation: after any crash the ledger and the venue's book agree, or the bot stops."""

import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command

from bots.execution import kill_switch
from bots.models import Fill, Order, OrderEvent
from markets.models import OwnerTrade, VenueOrder
from markets.venues.base import BookOrder, OrderRefused, VenueTrade
from markets.venues.kite.rows import venue_trade_id
from markets.venues.paper import PaperVenue
from tests.desk import Desk
from tradingsite.errors import Retry
from tradingsite.models import Notice

databases = pytest.mark.django_db(databases=["btc", "default"])
committed = pytest.mark.django_db(databases=["btc", "default"], transaction=True)
SetMarket = Callable[..., None]

# A bot's process that places one order; the environment says where it dies.
CHILD = """
import sys
import django
django.setup()
from django.core.management import call_command
from tests.desk import Desk
from tradingsite.errors import Retry
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
    assert finished.returncode == -signal.SIGKILL


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
        ("after_ack", ["intent", "submitting", "acked", "filled"], {"btc-1h": 2}),
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
    if failpoint not in ("after_send", "after_ack"):
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

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
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
def test_a_position_that_differs_stops_its_instrument_and_a_person_adopts_it(desk: Desk) -> None:
    desk.trade({"btc-1h": 2})
    VenueOrder.on("btc").objects.update(quantity=Decimal("0.05"))
    both = "BTC-PERP: the ledger has 0.02, the venue has 0.05"
    assert desk.reconcile().differences == (both,)
    notice = Notice.objects.get(key="discrepancy:btc:BTC-PERP")
    assert notice.severity == "critical" and both in notice.text
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert (order.state, order.message) == (
        Order.State.DENIED,
        "BTC-PERP is stopped: the ledger has 0.02, the venue has 0.05",
    )
    assert desk.reconcile().differences == (both,)
    output = StringIO()
    call_command("adopt", "btc", stdout=output)
    assert "0.05" in output.getvalue()
    assert desk.reconcile().differences == (both,), "it was only shown"
    call_command("adopt", "btc", "BTC-PERP", "--yes", stdout=output)
    assert desk.reconcile().differences == ()
    assert desk.lots() == {"btc-1h": 2}, "what is adopted is no bot's"
    desk.quote(60_000.0)
    assert desk.trade({"btc-1h": -2}).state == Order.State.FILLED
    assert desk.reconcile().differences == ()


@databases
def test_a_difference_that_was_a_slow_read_ends_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.trade({"btc-1h": 2})
    with monkeypatch.context() as patched:
        patched.setattr(desk.venue, "positions", dict)
        assert desk.reconcile().differences == ("BTC-PERP: the ledger has 0.02, the venue has 0",)
    assert desk.reconcile().differences == ()
    assert desk.lots() == {"btc-1h": 2}
    assert Notice.objects.get(key="discrepancy:btc:BTC-PERP").resolved_at


class Shared(PaperVenue):
    """An account in which the owner trades by hand as well."""

    is_shared_with_owner = True
    takes_orders_when_closed = True
    by_hand: tuple[VenueTrade, ...] = ()

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the owner's executions too."""
        return [*super().trades(since), *self.by_hand]

    def positions(self) -> dict[str, Decimal]:
        """Return the net of both."""
        held = super().positions()
        for trade in self.by_hand:
            held[trade.instrument] = held.get(trade.instrument, Decimal(0)) + trade.quantity
        return held


@databases
def test_the_owner_trading_the_same_contract_stops_nothing(desk: Desk) -> None:
    venue = desk.venue = Shared("btc", desk.calendar)
    desk.trade({"btc-1h": 2})
    number = venue_trade_id(desk.now.date(), "X", "h1")
    hand = VenueTrade(number, "", "BTC-PERP", Decimal("-0.05"), Decimal(60_000), desk.now)
    venue.by_hand = (hand,)
    assert desk.reconcile().differences == ()
    OwnerTrade.on("btc").objects.create(
        **{"trade_id": "h1", "traded_on": desk.now.date(), "order_id": "1", "symbol": "BTC"},
        **{"exchange": "X", "instrument": "BTC-PERP", "quantity": hand.quantity},
        **{"price": hand.price, "at": desk.now, "came_by": "fetched"},
    )
    assert desk.reconcile().differences == (), "fetched by now, and counted once"
    # What the broker did by itself is not the owner's.
    OwnerTrade.on("btc").objects.update(given_by="broker")
    assert desk.reconcile().differences == ("BTC-PERP: the ledger has 0.02, the venue has -0.03",)


@databases
def test_an_order_given_up_that_arrives_is_taken_in(desk: Desk) -> None:
    order = desk.order({"btc-1h": 1})
    desk.reconcile()
    order.refresh_from_db()
    assert order.state == Order.State.NOT_PLACED
    desk.venue.place(order.tag, order.instrument, order.quantity, 1.0)
    desk.reconcile()
    desk.quote(60_000.0)
    desk.reconcile()
    assert desk.story(order) == ["intent", "not_placed", "late", "acked", "filled"]
    assert desk.lots() == {"btc-1h": 1}
    assert desk.reconcile().differences == ()


@databases
def test_a_halted_bots_open_orders_are_cancelled(desk: Desk) -> None:
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    kill_switch.halt(desk.bot, "a test", "me")
    assert desk.reconcile().cancelled == 1
    desk.quote(60_000.0)
    assert desk.reconcile().cancelled == 0
    assert desk.story(order) == ["intent", "submitting", "acked", "cancelled"]
    assert desk.lots() == {}


@databases
def test_a_book_that_cannot_be_read_proves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    Order.on("btc").objects.filter(pk=order.pk).update(state=Order.State.SUBMITTING)

    def fail(*arguments: object) -> list[BookOrder]:
        raise Retry("503")

    with monkeypatch.context() as patched:
        patched.setattr(desk.venue, "orders", fail)
        with pytest.raises(Retry):
            desk.reconcile()
    assert desk.story(order)[-1] == "unknown"
    desk.reconcile()
    assert desk.story(order)[-1] == "acked"


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
def test_an_order_with_our_tag_that_the_ledger_does_not_know_stops_its_instrument(
    desk: Desk,
) -> None:
    desk.venue.place("T1ZZZZZZZZZZZZZZZZ", "BTC-PERP", Decimal("0.01"), 1.0)
    assert "T1ZZZZZZZZZZZZZZZZ" in desk.reconcile().differences[0]
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == Order.State.DENIED


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
