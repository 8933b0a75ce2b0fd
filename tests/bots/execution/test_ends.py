"""Every order has an end, at the simulated broker: days, changes by hand, products, expiries."""

import datetime as dt
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.execution import closures, kill_switch
from bots.execution.account import AccountView
from bots.execution.netting import Leg
from bots.execution.states import State
from bots.models import Discrepancy, Order
from tests.bots.execution.test_kite_orders import AtBroker
from tests.desk import ist
from tests.markets.venues.kite.desk import FUTURE, kite_desk
from tradingsite import clock
from tradingsite.models import Notice

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["nifty", "btc", "default"])


@pytest.fixture
def desk(tmp_path: Path, set_market: SetMarket) -> Iterator[AtBroker]:
    with kite_desk(tmp_path, set_market) as kite:
        yield AtBroker(kite, set_market)


def later(desk: AtBroker, when: str) -> None:
    """Go on in the market, with the token of that day."""
    desk.kite.go(when)
    desk.now = ist(when)
    desk.kite.sign_in()


def aged(desk: AtBroker, seconds: float = 120.0) -> None:
    """Let real time pass since the orders went out."""
    Order.on("nifty").objects.exclude(sent_at=None).update(
        sent_at=clock.real() - dt.timedelta(seconds=seconds)
    )


def owners_modify(desk: AtBroker, order: Order, quantity: int) -> None:
    """Change an open order by hand, in the broker's own app."""
    account = desk.kite.broker.kite.account
    row = next(each for each in account.book.orders.values() if each.ask.tag == order.tag)
    account.modify(row.order_id, {"quantity": quantity, "market_protection": -1.0})


# --- The book is of the day -----------------------------------------------------------------------


def test_an_accepted_order_of_yesterday_is_in_doubt_and_a_person_says_what_filled(
    desk: AtBroker,
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert order.state == "acked"
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    aged(desk)
    later(desk, "2026-06-02 10:00")
    for _ in range(2):
        desk.reconcile()
    order.refresh_from_db()
    assert order.state == "unknown" and "no longer says what filled" in order.message
    found = Discrepancy.on("nifty").objects.get(closed_at=None)
    assert (found.ledger_quantity, found.venue_quantity) == (0, 65)
    assert Notice.objects.get(key=f"discrepancy:nifty:{FUTURE}").severity == "critical"
    # The difference is the order's: it is not anybody's to take over before that has ended.
    with pytest.raises(CommandError, match="giveup nifty"):
        call_command("adopt", "nifty", FUTURE, "--yes", stdout=StringIO())
    with pytest.raises(CommandError, match=r"65 of order .* is open, not 130"):
        call_command("giveup", "nifty", order.tag, "--filled", "130", "--yes", stdout=StringIO())
    said = StringIO()
    call_command("giveup", "nifty", order.tag, "--filled", "65", "--yes", stdout=said)
    assert said.getvalue().splitlines()[-1] == f"{order.tag}: filled"
    assert desk.reconcile().differences == ()
    assert desk.lots() == {"nifty-15m": 1}
    leaving = desk.order({"nifty-15m": -1}, "close", bar=desk.now)
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert (desk.venue.positions(), desk.reconcile().differences) == ({}, ())


def test_an_accepted_order_of_yesterday_that_traded_nothing_ends_by_the_position(
    desk: AtBroker,
) -> None:
    desk.kite.fault("slow_order", seconds=600)
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert order.state == "acked"
    aged(desk)
    desk.kite.broker.kite.account.book.orders.clear()
    for when in ("2026-06-01 15:50", "2026-06-01 23:00", "2026-06-02 03:00", "2026-06-02 08:55"):
        later(desk, when)
        desk.reconcile()
        order.refresh_from_db()
        proved = when == "2026-06-01 23:00"
        assert (order.state in ("cancelled",)) == proved or order.state == "cancelled"
    assert desk.story(order) == ["intent", "submitting", "acked", "unknown", "cancelled"]
    assert not desk.risk().halted


def test_absence_proves_nothing_overnight(desk: AtBroker) -> None:
    desk.kite.fault("lost_400")
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    later(desk, "2026-06-02 05:00")
    assert desk.reconcile().unknown == 1, "the book of a night may be one without its day"
    later(desk, "2026-06-02 09:05")
    assert desk.reconcile().settled == 1
    order.refresh_from_db()
    assert order.state == "not_placed"


# --- What is over at the venue is over ------------------------------------------------------------


def test_an_order_made_smaller_by_hand_is_over_with_what_filled(desk: AtBroker) -> None:
    desk.kite.fault("partial_fill", quantity=65, seconds=1.5)
    order = desk.order({"nifty-15m": 4})
    desk.send(order)
    desk.until(order, "partial")
    owners_modify(desk, order, 130)
    desk.until(order, "cancelled")
    assert order.filled_quantity == 130
    assert order.message == "over at the venue (filled) with 130 of 260"
    assert desk.lots() == {"nifty-15m": 2}
    assert desk.reconcile().differences == ()


def test_an_order_whose_rest_was_rejected_is_over(desk: AtBroker) -> None:
    desk.kite.fault("partial_fill", quantity=65, seconds=600)
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "partial")
    account = desk.kite.broker.kite.account
    row = next(each for each in account.book.orders.values() if each.ask.tag == order.tag)
    account.execution.end(row, "REJECTED", account.world.now(), "RMS: the rest is refused")
    desk.until(order, "cancelled")
    assert desk.lots() == {"nifty-15m": 1}


def test_what_rests_is_cancelled_after_a_minute_and_told(desk: AtBroker) -> None:
    desk.kite.fault("partial_fill", quantity=65, seconds=600)
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "partial")
    assert desk.reconcile().cancelled == 0
    aged(desk, 61)
    assert desk.reconcile().cancelled == 1
    desk.until(order, "cancelled")
    assert desk.lots() == {"nifty-15m": 1}
    assert "has rested unfilled" in Notice.objects.get(key=f"rests:nifty:{order.tag}").text


def test_an_order_in_flight_hides_a_position_for_a_minute_and_no_longer(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    # Nothing is told of the order any more, and the position is there.
    monkeypatch.setattr(desk.venue, "orders", lambda tags: [])
    monkeypatch.setattr(desk.venue, "trades", lambda since: [])
    assert desk.reconcile().differences == ()
    aged(desk)
    assert desk.reconcile().differences == (f"{FUTURE}: the ledger has 0, the venue has 65",)
    monkeypatch.undo()
    desk.until(order, "filled")
    assert desk.reconcile().differences == ()


def test_a_number_that_was_used_again_hides_no_execution(desk: AtBroker) -> None:
    first = desk.order({"nifty-15m": 1})
    desk.send(first)
    desk.until(first, "filled")
    desk.kite.broker.kite.account.book._numbers["trade"] -= 1
    second = desk.order({"nifty-1h": 1}, bar=ist("2026-06-01 10:15"))
    desk.send(second)
    desk.until(second, "filled")
    assert desk.lots() == {"nifty-15m": 1, "nifty-1h": 1}
    assert desk.reconcile().differences == ()


# --- One odd row costs one row --------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["odd_rows", "null_quantities"])
@pytest.mark.parametrize("where", ["/orders", "/trades"])
def test_an_odd_row_in_the_book_costs_that_row(desk: AtBroker, fault: str, where: str) -> None:
    desk.kite.broker.buy(65)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.kite.fault(fault, match=where, times=3)
    for _ in range(3):
        desk.reconcile()
    desk.kite.broker.kite.faults.clear()
    desk.until(order, "filled")
    assert desk.lots() == {"nifty-15m": 1}
    assert desk.reconcile().differences == ()
    assert desk.venue.odd_rows.count  # type: ignore[attr-defined]


def test_a_position_that_cannot_be_read_is_not_taken_for_nothing(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.fault("null_quantities", match="/portfolio/positions")
    leaving = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:15"))
    desk.send(leaving)
    assert leaving.state == "denied" and "could not be read" in leaving.message
    again = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:30"))
    desk.send(again)
    desk.until(again, "filled")


# --- halt means halt ------------------------------------------------------------------------------


def test_a_halt_waits_for_the_order_on_its_way_and_says_what_became_of_it(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 1})
    Order.on("nifty").objects.filter(pk=order.pk).update(state=State.SUBMITTING)
    kill_switch.halt(desk.bot, "a test", "me")
    looked = []

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        Order.on("nifty").objects.filter(pk=order.pk).update(state=State.ACKED)

    monkeypatch.setattr(kill_switch.time, "sleep", sleep)
    [words] = kill_switch.orders_on_their_way(desk.bot)
    assert looked and words.startswith(f"order {order.tag} (+65 {FUTURE}) was on its way")
    assert words.endswith("accepted")
    assert kill_switch.orders_on_their_way(desk.bot) == []


def test_an_order_that_waited_too_long_after_its_commit_is_not_sent(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.sent()
    order = desk.order({"nifty-15m": 1})
    place = desk.venue.place

    def paused(*arguments: Any, **how: Any) -> str:
        how["sent_at"] -= dt.timedelta(seconds=6)
        return place(*arguments, **how)

    monkeypatch.setattr(desk.venue, "place", paused)
    desk.send(order)
    assert order.state == "rejected" and order.message.startswith("not sent: it was to leave")
    assert desk.sent() == before


def test_a_halted_bot_is_told_to_close_what_it_holds(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    said = StringIO()
    call_command("halt", "nifty", "--reason", "first", stdout=said)
    call_command("halt", "nifty", "--flatten", "--reason", "close it", stdout=said)
    call_command("halt", "nifty", "--flatten", stdout=said)
    assert said.getvalue().splitlines() == [
        "nifty: halted",
        "nifty: was halted already; it closes what it holds now",
        "nifty: was halted already",
    ]
    assert "is to close what it holds" in Notice.objects.get(key="flatten:nifty").text
    assert desk.risk().halt_reason == "first" and desk.risk().flatten


def test_a_broker_that_is_slow_to_answer_keeps_no_exit_and_takes_no_new_risk(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    monkeypatch.setattr(AccountView, "age_seconds", lambda view: 6.5)
    entry = desk.order({"nifty-1h": 1}, bar=ist("2026-06-01 10:15"))
    desk.send(entry)
    assert entry.state == "denied" and "took 6 s" in entry.message
    leaving = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:30"))
    desk.send(leaving)
    desk.until(leaving, "filled")


# --- What is told twice, cut, or gone ------------------------------------------------------------


def test_what_a_person_said_has_filled_is_not_booked_again_when_it_is_told(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 130})
    Order.on("nifty").objects.filter(pk=order.pk).update(state=State.UNKNOWN)
    how = ("--filled", "65", "--price", "24000", "--yes")
    call_command("giveup", "nifty", order.tag, *how, stdout=StringIO())
    assert desk.lots() == {"nifty-15m": 1}
    desk.reconcile()  # the broker's list says 130
    order.refresh_from_db()
    assert (order.state, order.filled_quantity) == ("filled", 130)
    assert (desk.lots(), desk.reconcile().differences) == ({"nifty-15m": 2}, ())


def test_a_leg_that_was_cut_ends_those_after_it(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(65, transaction_type="SELL")
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    legs = [Leg("close", FUTURE, {"nifty-15m": -2}), Leg("open", FUTURE, {"nifty-15m": -2})]
    closing, opening = desk.legs(legs, bar=ist("2026-06-01 10:15"))
    desk.send(closing, opening)
    assert (closing.quantity, opening.state) == (-65, "not_placed")
    assert opening.message == "the leg before it was cut to what the account holds"
    desk.until(closing, "filled")
    assert desk.venue.positions() == {}


def test_an_order_of_an_expired_contract_is_not_ended_by_a_position_that_was_settled(
    desk: AtBroker,
) -> None:
    later(desk, "2026-06-29 10:00")
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    Order.on("nifty").objects.filter(pk=order.pk).update(state=State.UNKNOWN)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    later(desk, "2026-07-01 10:00")
    assert desk.venue.positions() == {}
    assert desk.reconcile().unknown == 1, "it was settled: nothing shows what it traded"


def test_a_closing_is_booked_whole_or_not_at_all(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(65, transaction_type="SELL")
    desk.kite.broker.wait(lambda: desk.venue.positions() == {})

    def dies(*arguments: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(closures.fills, "book", dies)
        with pytest.raises(KeyboardInterrupt):
            desk.reconcile()
    assert not Order.on("nifty").objects.filter(leg="by_owner").exists()
    assert desk.reconcile().closed == 1
    assert (desk.lots(), desk.reconcile().closed) == ({}, 0)
