"""The order protocol at the simulated broker, through the broker's own client."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots.execution import kill_switch, ledger
from bots.execution.netting import flatten
from bots.models import Discrepancy, Order
from markets.capture import owner_trades
from markets.models import OwnerTrade
from tests.desk import Desk, ist
from tests.markets.venues.kite.desk import FUTURE, KiteDesk, kite_desk
from tradingsite.models import Notice

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["nifty", "default"])


class AtBroker(Desk):
    """The NIFTY bot at the broker."""

    def __init__(self, kite: KiteDesk, set_market: SetMarket) -> None:
        super().__init__("nifty", set_market, "2026-06-01 10:00")
        self.kite = kite
        self.venue = kite.venue
        ledger.open_rows(self.bot, self.front, self.venue.name)

    def until(self, order: Order, state: str) -> Order:
        """Reconcile until an order has come to a state."""

        def is_there() -> bool:
            self.reconcile()
            order.refresh_from_db()
            return order.state == state

        self.kite.broker.wait(is_there)
        return order

    def sent(self) -> int:
        """Return how many orders were posted to the broker."""
        paths = self.kite.broker.kite.requests
        return sum(path.startswith("POST /orders/") for path in paths)


@pytest.fixture
def desk(tmp_path: Path, set_market: SetMarket) -> Iterator[AtBroker]:
    with kite_desk(tmp_path, set_market) as kite:
        yield AtBroker(kite, set_market)


def test_an_order_is_sent_filled_booked_and_agrees(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1, "nifty-1h": 1})
    desk.send(order)
    assert order.state == "acked" and order.arrival_price and order.sent_at
    desk.until(order, "filled")
    assert desk.lots() == {"nifty-15m": 1, "nifty-1h": 1}
    assert desk.venue.positions() == {FUTURE: 130}
    assert desk.reconcile().differences == ()


@pytest.mark.parametrize("fault", ["server_error", "reset", "not_json"])
def test_what_is_lost_is_unknown_sent_once_and_ends_when_the_day_is_over(
    desk: AtBroker, fault: str
) -> None:
    before = desk.sent()
    desk.kite.fault(fault, match="POST /orders/")
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert order.state == "unknown"
    later = desk.order({"nifty-15m": 1}, bar=desk.now + dt.timedelta(minutes=15))
    desk.send(later)
    assert later.state == "denied"
    for _ in range(3):
        assert desk.reconcile().unknown == 1
    assert desk.sent() - before == 1
    desk.kite.go("2026-06-01 15:32")
    assert desk.reconcile().unknown == 1, "the book is not closed yet"
    desk.kite.go("2026-06-01 15:45")
    assert desk.reconcile().unknown == 1, "the broker reconciles with the exchange until 16:15"
    desk.kite.go("2026-06-01 16:16")
    assert desk.reconcile().settled == 1
    assert desk.story(order) == ["intent", "submitting", "unknown", "not_placed"]


def test_an_order_rejected_by_the_exchange_is_rejected(desk: AtBroker) -> None:
    desk.kite.fault("reject")
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "rejected")
    assert desk.lots() == {}


def test_a_partial_fill_is_kept_and_the_rest_follows(desk: AtBroker) -> None:
    desk.kite.fault("partial_fill", quantity=65, seconds=0.5)
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "filled")
    assert desk.story(order)[-3:] == ["acked", "partial", "filled"]
    assert desk.lots() == {"nifty-15m": 2}


def test_the_owner_closes_what_the_bot_held_and_no_exit_opens_the_other_side(
    desk: AtBroker,
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(65, transaction_type="SELL")
    desk.kite.broker.wait(lambda: desk.venue.positions() == {})
    leaving = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:15"))
    desk.send(leaving)
    assert leaving.state == "denied" and "would open the other side" in leaving.message
    assert desk.venue.positions() == {}
    outcome = desk.reconcile()
    assert (outcome.closed, outcome.differences) == (1, ())
    assert desk.lots() == {}
    closing = Order.on("nifty").objects.get(leg="by_owner")
    assert (closing.state, closing.quantity) == ("filled", -65)
    assert desk.risk().halted, "it must not buy again what he has just sold"
    assert Notice.objects.filter(key__startswith="closed:nifty", severity="critical").exists()
    owner_trades.fetch(desk.kite.venue)
    assert desk.reconcile().differences == (), "fetched by now, and counted once"
    assert desk.reconcile().closed == 0
    assert desk.sent() == 2, "the bot's one order, and the owner's"


def test_the_owner_sells_more_than_the_bot_held_and_the_rest_is_his(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(130, transaction_type="SELL")
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: -65})
    assert desk.reconcile().closed == 1
    assert desk.lots() == {}
    assert not Discrepancy.on("nifty").objects.exists()
    owner_trades.fetch(desk.kite.venue)
    assert OwnerTrade.on("nifty").objects.get().quantity == -130
    assert desk.reconcile().differences == ()
    kill_switch.resume(desk.bot, "me")
    entry = desk.order({"nifty-15m": 1}, bar=ist("2026-06-01 10:15"))
    desk.send(entry)
    assert entry.state == "denied" and "would only close that" in entry.message


def test_the_owner_closes_a_part_and_a_flatten_closes_the_rest(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 2, "nifty-1h": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(65, transaction_type="SELL")
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 130})
    kill_switch.halt(desk.bot, "a test", "me", flatten=True)
    legs = flatten([(slot, FUTURE, lots) for slot, lots in desk.lots().items()])
    [leaving] = desk.legs(legs, bar=ist("2026-06-01 10:15"))
    desk.send(leaving)
    assert leaving.quantity == -130, "cut to what the account holds"
    assert "was cut to 130" in Notice.objects.get(key=f"exit:nifty:{FUTURE}").text
    desk.until(leaving, "filled")
    assert desk.venue.positions() == {}
    # What the owner closed is booked as soon as nothing of ours is on its way.
    assert Order.on("nifty").objects.get(leg="by_owner").quantity == -65
    assert (desk.lots(), desk.reconcile().differences) == ({}, ())


@pytest.mark.parametrize(
    "fault", ["reset_after_acceptance", "error_after_acceptance", "ambiguous_400"]
)
def test_what_arrived_without_an_answer_is_found_by_its_tag(desk: AtBroker, fault: str) -> None:
    before = desk.sent()
    desk.kite.fault(fault, seconds=0.3)
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert order.state == "unknown"
    desk.until(order, "filled")
    assert desk.story(order) == ["intent", "submitting", "unknown", "acked", "filled"]
    assert desk.sent() - before == 1
    assert desk.reconcile().differences == ()


@pytest.mark.parametrize("fault", ["no_funds", "rate_limit", "forbidden_address"])
def test_a_known_refusal_is_final_and_never_sent_again(desk: AtBroker, fault: str) -> None:
    before = desk.sent()
    desk.kite.fault(fault, match="POST /orders/") if fault == "rate_limit" else desk.kite.fault(
        fault
    )
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert (order.state, desk.sent() - before) == ("rejected", 1)


def test_a_book_that_reads_empty_changes_nothing(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.kite.fault("reset_after_acceptance")
    desk.send(order)
    desk.kite.fault("empty_book", times=4)
    assert desk.reconcile().unknown == 1
    desk.until(order, "filled")
    assert desk.lots() == {"nifty-15m": 1}


def test_what_the_owner_holds_counts_against_the_limit_and_never_against_an_exit(
    desk: AtBroker,
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.broker.buy(1_300)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 1_365})
    owner_trades.fetch(desk.kite.venue)
    more = desk.order({"nifty-15m": 3}, bar=ist("2026-06-01 10:15"))
    desk.bot = dataclasses.replace(desk.bot, notional_limit=Decimal(30_000_000))
    desk.send(more)
    assert more.state == "denied"
    assert more.message.startswith("with the owner's +1300")
    against = desk.order({"nifty-1h": -2}, bar=ist("2026-06-01 10:30"))
    desk.send(against)
    assert against.state == "denied" and "would only close that" in against.message
    leaving = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:45"))
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert desk.lots() == {}
    assert desk.reconcile().differences == ()
