"""The order protocol: committed before sent, sent once, refused where it must be."""

import dataclasses
import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError

from bots.execution import clearance, fills, kill_switch, pretrade_checks
from bots.execution.netting import Leg
from bots.execution.orders import tag_of
from bots.models import Fill, Order, RiskState
from markets.venues.base import Margins, OrderRefused, VenueTrade
from markets.venues.paper import PaperVenue
from tests.desk import Desk, ist
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=["btc", "nifty", "default"])
SetMarket = Callable[..., None]
BAR = dt.datetime(2026, 6, 1, 5, tzinfo=dt.UTC)


class Deaf(PaperVenue):
    """Take the order and lose the answer, or lose the order too."""

    sent = 0
    arrives = True

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        **how: Any,
    ) -> str:
        """Place it, perhaps, and time out."""
        self.sent += 1
        if self.arrives:
            super().place(tag, instrument, quantity, slippage_bps)
        raise TimeoutError("no answer after 7 s")


@pytest.fixture
def desk(set_market: SetMarket) -> Desk:
    made = Desk("btc", set_market)
    made.quote(60_000.0)
    return made


def test_a_tag_follows_from_what_the_order_is_for() -> None:
    tag = tag_of("simulated:btc", "btc", BAR, "open")
    assert re.fullmatch(r"T1[A-Z2-7]{16}", tag)
    assert tag == tag_of("simulated:btc", "btc", BAR.astimezone(ist("2026-01-01").tzinfo), "open")
    others = {
        tag_of("live:btc", "btc", BAR, "open"),
        tag_of("simulated:btc", "nifty", BAR, "open"),
        tag_of("simulated:btc", "btc", BAR + dt.timedelta(hours=1), "open"),
        tag_of("simulated:btc", "btc", BAR, "close"),
        tag_of("simulated:btc", "btc", BAR, "open", 2),
    }
    assert len(others | {tag}) == 6


def test_an_order_goes_through_its_states_and_its_fill_moves_the_sleeves(desk: Desk) -> None:
    order = desk.trade({"btc-1h": 2, "btc-4h": 1}, at=61_000.0)
    assert desk.story(order) == ["intent", "submitting", "acked", "filled"]
    price = Decimal("61009.15")  # 1.5 bps above the quote
    assert (order.average_price, order.filled_quantity) == (price, Decimal("0.03"))
    assert order.charges == Decimal("0.8236")  # 0.045 % of 1830.2745
    assert order.slippage == (price - 60_000) * Decimal("0.03")
    rows = desk.positions()
    assert {slot: (row.lots, row.quantity) for slot, row in rows.items()} == {
        "btc-1h": (2, Decimal("0.02")),
        "btc-4h": (1, Decimal("0.01")),
    }
    assert sum(row.charges for row in rows.values()) == order.charges
    assert rows["btc-1h"].charges == Decimal("0.5491")
    paid = -sum(row.cash for row in rows.values())
    assert paid == Decimal("1830.2745") + order.charges


def test_the_same_decision_can_never_become_two_orders(desk: Desk) -> None:
    desk.order({"btc-1h": 1}, bar=BAR)
    with pytest.raises(IntegrityError):
        desk.order({"btc-1h": 1}, bar=BAR)


def test_a_halted_bot_places_nothing(desk: Desk) -> None:
    order = desk.order({"btc-1h": 1})
    assert kill_switch.halt(desk.bot, "a test", "me").was_free
    assert not kill_switch.halt(desk.bot, "another reason", "me").was_free
    desk.send(order)
    assert desk.story(order) == ["intent", "denied"]
    assert order.message == "halted: a test"
    assert desk.book() == []
    assert Notice.objects.get(key="halt:btc").severity == "critical"
    assert kill_switch.resume(desk.bot, "me")
    desk.quote(60_000.0)
    assert desk.trade({"btc-1h": 1}).state == Order.State.FILLED


def test_what_timed_out_is_unknown_sent_once_and_blocks_the_next(desk: Desk) -> None:
    venue = desk.venue = Deaf("btc", desk.calendar)
    first = desk.order({"btc-1h": 1})
    desk.send(first)
    assert first.state == Order.State.UNKNOWN
    second = desk.order({"btc-1h": 1}, bar=BAR)
    desk.send(second)
    assert second.state == Order.State.DENIED
    assert f"order {first.tag} is unknown" in second.message
    assert venue.sent == 1
    assert desk.reconcile().settled == 1
    desk.quote(60_000.0)
    assert desk.take_fills() == 1
    assert desk.lots() == {"btc-1h": 1}


def test_an_accepted_order_blocks_new_risk_until_it_is_filled(desk: Desk) -> None:
    desk.send(desk.order({"btc-1h": 1}))
    late = desk.order({"btc-1h": 1}, bar=BAR)
    desk.send(late)
    assert late.state == Order.State.DENIED


def test_refusals_are_final_and_three_in_a_row_halt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> str:
        raise OrderRefused("margin")

    monkeypatch.setattr(desk.venue, "place", refuse)
    for hour in range(3):
        assert not desk.risk().halted
        order = desk.order({"btc-1h": 1}, bar=BAR + dt.timedelta(hours=hour))
        desk.send(order)
        assert (order.state, order.message) == (Order.State.REJECTED, "margin")
    assert desk.risk().halt_reason == "3 orders refused in a row"


def test_after_the_daily_loss_only_reductions_go_out(desk: Desk) -> None:
    desk.trade({"btc-1h": 2})
    RiskState.on("btc").objects.update(loss_latched=True)
    for shares, state in (
        ({"btc-1h": 1}, Order.State.DENIED),
        ({"btc-4h": -1}, Order.State.DENIED),
        ({"btc-1h": -3}, Order.State.DENIED),
        ({"btc-1h": -2}, Order.State.ACKED),
    ):
        order = desk.order(
            shares, bar=desk.now + dt.timedelta(hours=len(Order.on("btc").objects.all()))
        )
        desk.send(order)
        assert order.state == state, shares


def test_no_slot_goes_over_its_limit(desk: Desk) -> None:
    desk.trade({"btc-1h": 3})
    order = desk.order({"btc-1h": 2}, bar=BAR)
    desk.send(order)
    assert order.message == "btc-1h would hold 5 lots, its limit is 4"


def test_a_runaway_bot_is_halted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrade_checks, "ORDERS_A_DAY", 1)
    desk.trade({"btc-1h": 1})
    order = desk.order({"btc-1h": 1}, bar=BAR)
    desk.send(order)
    assert order.state == Order.State.DENIED
    assert "looks like a loop" in desk.risk().halt_reason


def test_a_flip_is_two_orders_from_short_to_long(desk: Desk) -> None:
    desk.trade({"btc-1h": -3}, leg="open")
    legs = [Leg("close", desk.front, {"btc-1h": 3}), Leg("open", desk.front, {"btc-1h": 4})]
    flip = desk.legs(legs, bar=BAR)
    desk.send(*flip)
    assert [order.state for order in flip] == [Order.State.ACKED] * 2
    assert desk.quote(60_000.0) == 2
    assert desk.take_fills() == 2
    assert desk.lots() == {"btc-1h": 4}


def test_a_leg_that_is_not_taken_ends_those_after_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.trade({"btc-1h": 2})
    venue = desk.venue = Deaf("btc", desk.calendar)
    legs = [Leg("close", desk.front, {"btc-1h": -2}), Leg("open", desk.front, {"btc-1h": -1})]
    closing, opening = desk.legs(legs, bar=BAR)
    desk.send(closing, opening)
    assert (closing.state, opening.state) == (Order.State.UNKNOWN, Order.State.NOT_PLACED)
    assert opening.message == "the leg before it is unknown"
    assert venue.sent == 1


def test_slots_that_cancel_cross_inside_without_charges(desk: Desk) -> None:
    desk.trade({"btc-1h": 2})
    before = {slot: row.charges for slot, row in desk.positions().items()}
    desk.quote(61_000.0)
    order = desk.order({"btc-1h": -2, "btc-4h": 2}, leg="cross", bar=BAR)
    desk.send(order)
    assert order.state == Order.State.FILLED
    assert desk.lots() == {"btc-4h": 2}
    rows = desk.positions()
    assert {slot: row.charges for slot, row in rows.items()} == before
    assert rows["btc-4h"].average_price == 61_000
    assert len(desk.book()) == 1
    assert desk.reconcile().differences == ()


def test_a_fill_told_twice_is_booked_once(desk: Desk) -> None:
    order = desk.order({"btc-1h": 2})
    desk.send(order)
    desk.quote(60_000.0)
    assert desk.take_fills() == 1
    # As after a crash that lost the order's state but not the fill: the trade is seen again.
    Order.on("btc").objects.filter(pk=order.pk).update(state=Order.State.ACKED)
    assert desk.take_fills() == 0
    assert Fill.on("btc").objects.count() == 1
    assert desk.lots() == {"btc-1h": 2}


def test_a_roll_keeps_the_positions_entry_and_age(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market, "2026-06-29 15:00")
    desk.quote(24_000.0)
    old = desk.front
    desk.trade({"nifty-1h": 2}, at=24_000.0)
    held = desk.positions()["nifty-1h"]
    held.bars_held = 7
    held.save()
    desk.go(ist("2026-06-29 15:30"))
    new = "NIFTY 2026-07-28 FUT"
    legs = [Leg("roll-close", old, {"nifty-1h": -2}), Leg("roll-open", new, {"nifty-1h": 3})]
    roll = desk.legs(legs, price="24000")
    desk.send(*roll)
    assert [order.state for order in roll] == [Order.State.ACKED] * 2
    desk.go(ist("2026-06-30 09:15"))
    desk.quote(24_100.0)
    assert desk.take_fills() == 2
    row = desk.positions()["nifty-1h"]
    assert (row.instrument, row.lots, row.quantity) == (new, 3, 195)
    assert (row.bars_held, row.entry_equity) == (7, held.entry_equity)
    assert desk.reconcile().differences == ()


def test_what_an_order_filled_in_part_leaves_is_traded_away_with_the_next(desk: Desk) -> None:
    order = desk.order({"btc-1h": 2, "btc-4h": 1})
    desk.send(order)
    part = VenueTrade("x1", order.tag, desk.front, Decimal("0.01523"), Decimal(60_000), desk.now)
    assert fills.take_trade(desk.bot, order.pk, part, desk.instruments)
    held = {slot: row.quantity for slot, row in desk.positions().items()}
    assert held == {"btc-1h": Decimal("0.01"), "btc-4h": Decimal("0.00523")}
    Order.on("btc").objects.filter(pk=order.pk).update(state=Order.State.CANCELLED)
    following = desk.order({"btc-1h": 3, "btc-4h": 4}, bar=BAR)
    assert (following.quantity, following.rests) == (Decimal("0.06477"), {"btc-4h": "0.00523000"})
    assert following.quantity == 7 * Decimal("0.01") - Decimal("0.00523")
    for number, quantity in enumerate(("0.02", "0.03333", "0.01144")):
        trade = VenueTrade(
            f"y{number}", following.tag, desk.front, Decimal(quantity), Decimal(60_000), desk.now
        )
        Order.on("btc").objects.filter(pk=following.pk, state="intent").update(state="acked")
        assert fills.take_trade(desk.bot, following.pk, trade, desk.instruments)
    assert {slot: row.quantity for slot, row in desk.positions().items()} == {
        "btc-1h": Decimal("0.04"),
        "btc-4h": Decimal("0.04"),
    }
    assert desk.lots() == {"btc-1h": 4, "btc-4h": 4}


def test_parts_of_lots_count_against_the_bots_limit(desk: Desk) -> None:
    desk.trade({"btc-1h": 3, "btc-4h": 4})
    for row in desk.positions().values():
        row.quantity += Decimal("0.005")
        row.save()
    order = desk.order({"btc-1h": 1}, bar=BAR)
    Order.on("btc").objects.filter(pk=order.pk).update(quantity="0.01", rests={})
    order.refresh_from_db()
    desk.send(order)
    assert order.message == "the bot would hold 0.09000000, its limit is 0.08"


def test_more_than_the_exchange_takes_at_once_goes_out_in_slices(set_market: SetMarket) -> None:
    desk = Desk("nifty", set_market, "2026-06-01 10:00")
    desk.quote(24_000.0)
    desk.bot = dataclasses.replace(desk.bot, limit_lots=40, notional_limit=Decimal(10**9))
    paper_margin = Decimal(10**9)
    desk.venue.margins = lambda: Margins("INR", paper_margin, Decimal(0))  # type: ignore[method-assign]
    orders = desk.legs([Leg("open", desk.front, {"nifty-15m": 40, "nifty-1h": 30})])
    assert [order.quantity / 65 for order in orders] == [27, 27, 16]
    assert len({order.tag for order in orders}) == 3
    desk.send(*orders)
    assert [order.state for order in orders] == ["acked"] * 3
    desk.quote(24_000.0)
    assert desk.take_fills() == 3
    assert desk.lots() == {"nifty-15m": 40, "nifty-1h": 30}
    assert desk.reconcile().differences == ()


def test_an_order_without_the_margin_for_it_is_not_sent(desk: Desk) -> None:
    free = Decimal(100)
    desk.venue.margins = lambda: Margins("USDC", free, Decimal(0))  # type: ignore[method-assign]
    order = desk.order({"btc-1h": 2})
    desk.send(order)
    assert (order.state, order.message) == ("denied", "it needs a margin of 180, and 100 is free")
    assert desk.book() == []
    free = Decimal(200)
    again = desk.order({"btc-1h": 2}, bar=BAR)
    desk.send(again)
    assert again.state == "acked"


def test_a_machine_that_is_not_fit_lets_only_exits_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.trade({"btc-1h": 1})
    monkeypatch.setattr(clearance, "refusals", ("disk: 96 % full",))
    more = desk.order({"btc-4h": 1}, bar=BAR)
    desk.send(more)
    assert desk.story(more) == ["intent", "denied"] and "disk: 96 % full" in more.message
    less = desk.order({"btc-1h": -1}, "close", bar=BAR)
    desk.send(less)
    assert desk.story(less)[-1] == "acked"
