"""The product is part of the position, and a contract that expires has a last price."""

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots.execution import holdings, ledger
from bots.execution.netting import Leg
from bots.live.decisions import Decider
from bots.live.policies import Policies
from bots.models import AccountHolding, Order, Position
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.instruments import Instruments
from markets.models import Bar
from tests.bots.execution.test_kite_orders import AtBroker
from tests.desk import ist
from tests.markets.venues.kite.desk import FUTURE, kite_desk
from tradingsite import clock
from tradingsite.clock import Epoch
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


# --- The product is part of the position ----------------------------------------------------------


def convert(desk: AtBroker, old: str, new: str, quantity: int) -> None:
    """Convert a position by hand, with the broker's own client."""
    desk.venue._client().convert_position(  # type: ignore[attr-defined]
        exchange="NFO",
        tradingsymbol="NIFTY26JUNFUT",
        transaction_type="BUY",
        position_type="day",
        quantity=quantity,
        old_product=old,
        new_product=new,
    )


def test_what_the_owner_converts_is_left_in_its_new_product(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    convert(desk, "NRML", "MIS", 65)
    leaving = desk.order({"nifty-15m": -1}, "close", bar=ist("2026-06-01 10:15"))
    desk.send(leaving)
    assert leaving.product == "MIS", "before any reconciliation has seen it"
    desk.until(leaving, "filled")
    assert [each for each in desk.venue.holdings() if each.quantity] == []
    assert desk.reconcile().differences == ()


def test_a_conversion_is_seen_and_told_by_the_next_look(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    convert(desk, "NRML", "MIS", 65)
    assert desk.reconcile().differences == ()
    assert {row.product for row in desk.positions().values() if row.quantity} == {"MIS"}
    assert "is MIS at kite by now" in Notice.objects.get(key__startswith="converted:").text
    kept = {each.product: each.quantity for each in AccountHolding.on("nifty").objects.all()}
    assert kept == {"MIS": 65}


def test_a_part_that_was_converted_takes_two_exits(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "filled")
    convert(desk, "NRML", "MIS", 65)
    for number, bar in enumerate(("2026-06-01 10:15", "2026-06-01 10:30")):
        lots = desk.lots()["nifty-15m"]
        leaving = desk.order({"nifty-15m": -lots}, "close", bar=ist(bar))
        desk.send(leaving)
        assert leaving.quantity == -65, f"exit {number}: what its leg holds"
        desk.until(leaving, "filled")
    assert desk.venue.positions() == {} and desk.lots() == {}
    assert [each for each in desk.venue.holdings() if each.quantity] == []


def test_a_bot_that_holds_goes_on_in_its_product_whatever_the_settings_say(
    desk: AtBroker,
) -> None:
    order = desk.order({"nifty-15m": 1})
    order.product = "NRML"
    order.save(update_fields=["product"])
    desk.send(order)
    desk.until(order, "filled")
    desk.venue.product = "MIS"
    [more] = desk.legs([Leg("open", FUTURE, {"nifty-15m": 1})], bar=ist("2026-06-01 10:15"))
    assert more.product == "NRML"
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))

    def is_last_call(at: str) -> bool:
        return decider.is_last_call(clock.epoch(ist(at)), ledger.positions(desk.bot).values())

    assert not is_last_call("2026-06-01 15:20")
    Position.on("nifty").objects.update(product="MIS")
    assert is_last_call("2026-06-01 15:15")
    assert not is_last_call("2026-06-01 15:13")


def test_intraday_positions_are_left_before_the_broker_takes_no_exit_any_more(
    desk: AtBroker,
) -> None:
    desk.venue.product = "MIS"
    order = desk.order({"nifty-15m": 1})
    order.product = "MIS"
    order.save(update_fields=["product"])
    desk.send(order)
    desk.until(order, "filled")
    later(desk, "2026-06-01 15:17")
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    minute = int(ist("2026-06-01 15:17").timestamp())
    [leaving] = decider.leave(Epoch(minute))
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert (leaving.leg, leaving.product) == ("leave", "MIS")
    assert decider.leave(Epoch(minute)) == []
    assert desk.venue.positions() == {}


def test_two_legs_that_cancel_are_told(desk: AtBroker) -> None:
    desk.kite.broker.buy(65, transaction_type="SELL", product="MIS")
    desk.kite.broker.buy(65)
    desk.kite.broker.wait(lambda: len(desk.venue.holdings()) == 2)
    holdings.save_holdings("nifty", desk.venue, desk.instruments)
    assert "two open legs" in Notice.objects.get(key=f"opposed:nifty:{FUTURE}").text


# --- Away over an expiry --------------------------------------------------------------------------


def test_away_over_an_expiry_the_settlement_is_booked_and_the_slot_trades_again(
    desk: AtBroker,
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.until(order, "filled")
    later(desk, "2026-07-01 10:00")
    front = Instruments("nifty", NseCalendar(nse_sessions())).front(clock.epoch(desk.now)).name
    assert desk.venue.positions() == {}
    desk.reconcile()
    told = Notice.objects.get(key=f"settlement:nifty:{FUTURE}")
    assert "import that day's bars" in told.text, "no price is invented"
    assert desk.lots() == {"nifty-15m": 1}
    closes_at = ist("2026-06-30 15:30")
    Bar.on("nifty").objects.create(
        timeframe="1d",
        opens_at=ist("2026-06-30 09:15"),
        closes_at=closes_at,
        **dict.fromkeys(("open", "high", "low", "close"), 24_321.5),
        volume=0,
        source="generated",
    )
    assert desk.reconcile().closed == 1
    closing = Order.on("nifty").objects.get(leg="by_venue")
    assert (closing.average_price, closing.quantity) == (Decimal("24321.5"), -65)
    assert closing.bar_closes_at == closes_at
    assert (desk.lots(), desk.risk().halted) == ({}, False)
    assert desk.reconcile().closed == 0, "once"
    ledger.open_rows(desk.bot, front, desk.venue.name)
    entry = desk.legs([Leg("open", front, {"nifty-15m": 1})], bar=desk.now)[0]
    desk.send(entry)
    desk.until(entry, "filled")
    assert desk.positions()["nifty-15m"].instrument == front
    assert desk.reconcile().differences == ()


def test_a_square_off_that_failed_is_an_overnight_position_of_the_morning_after(
    desk: AtBroker,
) -> None:
    desk.venue.product = "MIS"
    order = desk.order({"nifty-15m": 1})
    order.product = "MIS"
    order.save(update_fields=["product"])
    desk.send(order)
    desk.until(order, "filled")
    desk.kite.fault("square_off_fails")
    for when in ("2026-06-01 15:27", "2026-06-01 15:35", "2026-06-02 09:20"):
        later(desk, when)
        desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    assert desk.reconcile().differences == ()
    assert {row.product for row in desk.positions().values() if row.quantity} == {"NRML"}
    assert "was MIS" in Notice.objects.get(key__startswith="converted:").text
    leaving = desk.order({"nifty-15m": -1}, "close", bar=desk.now)
    desk.send(leaving)
    desk.until(leaving, "filled")
    assert (leaving.product, desk.venue.positions()) == ("NRML", {})
