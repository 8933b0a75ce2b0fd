"""Hostile days: what an account, a clock and a hand do that nobody planned."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots.execution import breaks
from bots.execution.manual_resolution import give_up
from bots.execution.netting import Leg
from bots.execution.postgres_ledger import DatabaseLedger
from bots.models import Fill, Order
from markets.models import Bar
from markets.venues.base import BookOrder, VenueTrade
from tests.bots.execution.test_kite_orders import AtBroker
from tests.desk import Desk, ist
from tests.markets.venues.kite.desk import FUTURE, kite_desk
from tradingsite import clock

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["nifty", "btc", "default"])
NEXT = "NIFTY 2026-07-28 FUT"


@pytest.fixture
def desk(tmp_path: Path, set_market: SetMarket) -> Iterator[AtBroker]:
    with kite_desk(tmp_path, set_market) as kite:
        yield AtBroker(kite, set_market)


@pytest.fixture
def paper(set_market: SetMarket) -> Desk:
    made = Desk("nifty", set_market)
    made.quote(24_000.0)
    return made


def test_slots_on_both_sides_of_an_expired_contract_are_settled_each(paper: Desk) -> None:
    paper.trade({"nifty-15m": 1}, at=24_000.0)
    paper.go(paper.now + dt.timedelta(minutes=1))
    paper.trade({"nifty-1h": -1}, "close", at=24_000.0)
    assert paper.lots() == {"nifty-15m": 1, "nifty-1h": -1}
    Bar.on("nifty").objects.create(
        timeframe="1d",
        opens_at=ist("2026-06-30 09:15"),
        closes_at=ist("2026-06-30 15:30"),
        **dict.fromkeys(("open", "high", "low", "close"), 24_321.5),
        volume=0,
        source="generated",
    )
    paper.go(ist("2026-07-01 10:00"))
    paper.reconcile()
    assert paper.lots() == {}


def rolled(paper: Desk) -> tuple[Order, Order]:
    paper.trade({"nifty-15m": 1}, at=24_000.0)
    legs = [Leg("roll-close", FUTURE, {"nifty-15m": -1}), Leg("roll-open", NEXT, {"nifty-15m": 1})]
    paper.go(paper.now + dt.timedelta(minutes=1))
    closing, opening = paper.legs(legs)
    for order in (closing, opening):
        Order.on("nifty").objects.filter(pk=order.pk).update(state="acked", sent_at=clock.real())
        order.refresh_from_db()
    return closing, opening


@pytest.mark.parametrize("same_second", [True, False])
def test_a_roll_whose_new_leg_is_told_first_ends_in_the_new_contract(
    paper: Desk, same_second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, opening = rolled(paper)
    later = paper.now if same_second else paper.now + dt.timedelta(seconds=3)
    trades = [
        VenueTrade("x-10", opening.tag, NEXT, Decimal(65), Decimal(24_100), paper.now),
        VenueTrade("x-9", closing.tag, FUTURE, Decimal(-65), Decimal(24_000), later),
    ]
    if not same_second:
        monkeypatch.setattr(paper.venue, "trades", lambda since: trades[:1])
        paper.take_fills()
    monkeypatch.setattr(paper.venue, "trades", lambda since: trades)
    paper.take_fills()
    paper.take_fills()
    row = paper.positions()["nifty-15m"]
    assert (row.instrument, row.quantity, row.lots) == (NEXT, 65, 1)


def test_a_person_says_first_what_closed_the_old_contract(paper: Desk) -> None:
    closing, opening = rolled(paper)
    Order.on("nifty").objects.filter(pk__in=[closing.pk, opening.pk]).update(state="unknown")
    with pytest.raises(ValueError, match="what closes that one comes first"):
        give_up("nifty", opening.tag, "me", paper.instruments, Decimal(65))
    assert give_up("nifty", closing.tag, "me", paper.instruments, Decimal(65))
    assert give_up("nifty", opening.tag, "me", paper.instruments, Decimal(65))
    assert paper.positions()["nifty-15m"].instrument == NEXT


@pytest.mark.parametrize(
    "odd",
    [
        {"quantity": Decimal(-65)},
        {"quantity": Decimal(-130)},
        {"instrument": "NFO:NIFTY26JUN24000CE"},
        {"instrument": NEXT},
    ],
)
def test_an_execution_with_our_tag_that_cannot_be_our_orders_is_not_booked(
    paper: Desk, odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = paper.trade({"nifty-15m": 1}, at=24_000.0)
    trade = VenueTrade("y-1", order.tag, FUTURE, Decimal(65), Decimal(24_000), paper.now)
    real = paper.venue.trades
    monkeypatch.setattr(paper.venue, "trades", lambda since: [*real(since), replace(trade, **odd)])
    paper.reconcile()
    assert paper.lots() == {"nifty-15m": 1}
    assert Fill.on("nifty").objects.count() == 1


def test_a_strangers_order_that_was_adopted_stops_nothing_any_more(
    paper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = "T1" + "A" * 16
    there = BookOrder(tag, FUTURE, Decimal(65), "filled", paper.now, "", Decimal(65))
    monkeypatch.setattr(paper.venue, "strangers", lambda since: [there])
    from markets.venues.base import Holding

    monkeypatch.setattr(paper.venue, "holdings", lambda: [Holding(FUTURE, Decimal(65))])
    assert paper.reconcile().differences
    assert breaks.adopt("nifty", FUTURE, "me")
    assert paper.reconcile().differences == ()
    assert paper.reconcile().differences == ()


def test_a_strangers_order_without_effect_is_no_position(
    paper: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = "T1" + "A" * 16
    there = BookOrder(tag, FUTURE, Decimal(65), "rejected", paper.now)
    monkeypatch.setattr(paper.venue, "strangers", lambda since: [there])
    assert paper.reconcile().differences == ()
    assert breaks.adopt("nifty", FUTURE, "me") is None


@pytest.mark.parametrize("hours", [-2, -48])
def test_a_clock_set_back_hides_nothing_behind_an_order(paper: Desk, hours: int) -> None:
    order = paper.order({"nifty-15m": 1})
    Order.on("nifty").objects.filter(pk=order.pk).update(
        state="acked", sent_at=clock.real() - dt.timedelta(hours=hours)
    )
    order.refresh_from_db()
    assert not breaks.is_moving("nifty", paper.venue.name)
    assert DatabaseLedger(paper.bot, paper.venue, paper.instruments).rests_too_long(order)


def answers(desk: AtBroker, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
    """Let the broker's client give other answers to some paths or methods."""
    real = desk.venue._read  # type: ignore[attr-defined]

    def read(kind: str, method: str, *arguments: Any) -> Any:
        name = arguments[0] if method == "_get" else method
        if name.replace(".", "_") not in given:
            return real(kind, method, *arguments)
        change = given[name.replace(".", "_")]
        return change(real(kind, method, *arguments))

    monkeypatch.setattr(desk.venue, "_read", read)


ODD_ROWS = [
    {"quantity": "NaN"},
    {"quantity": -65},
    {"quantity": 0},
    {"average_price": 0},
    {"average_price": -5},
    {"average_price": "Infinity"},
    {"fill_timestamp": "2026-13-45 99:99:99"},
    {"fill_timestamp": 12},
    {"transaction_type": "HOLD"},
]


@pytest.mark.parametrize("odd", ODD_ROWS)
def test_an_odd_execution_is_not_booked_and_the_others_are(
    desk: AtBroker, odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    desk.kite.broker.wait(lambda: desk.venue.positions() == {FUTURE: 65})
    real = desk.venue.trades(order.created_at)
    rows = desk.venue._read("other", "_get", "trades")  # type: ignore[attr-defined]
    answers(
        desk, monkeypatch, trades=lambda found: [*found, None, {**rows[0], "trade_id": "9", **odd}]
    )
    answers(desk, monkeypatch, orders=lambda found: [None, *found])
    assert desk.venue.trades(order.created_at) == real
    desk.reconcile()
    order.refresh_from_db()
    assert (order.state, desk.lots()) == ("filled", {"nifty-15m": 1})


def test_one_time_that_is_none_does_not_cost_the_book(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = desk.venue._client()  # type: ignore[attr-defined]
    real = client._get

    def get(route: str, *arguments: Any, **more: Any) -> Any:
        found = real(route, *arguments, **more)
        if route in ("orders", "trades"):
            found.append({**found[0], "order_timestamp": "2026-13-45 99:99:99"} if found else {})
        return found

    order = desk.order({"nifty-15m": 1})
    monkeypatch.setattr(client, "_get", get)
    desk.send(order)
    desk.until(order, "filled")


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("positions", {}),
        ("positions", None),
        ("margins", {}),
        ("margins", {"net": "NaN", "utilised": {"debits": 0}}),
        ("order_margins", [{}]),
        ("order_margins", []),
        ("order_margins", [{"total": "NaN"}]),
        ("market_quote", []),
    ],
)
def test_an_answer_of_another_shape_is_no_answer_and_kills_no_step(
    desk: AtBroker, what: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(desk, monkeypatch, **{what: lambda found: answer})
    order = desk.order({"nifty-15m": 1}, price="24000")
    desk.send(order)
    order.refresh_from_db()
    assert order.state in ("acked", "denied", "not_placed")
