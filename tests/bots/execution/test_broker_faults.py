"""What a broker's day may bring beside lost orders, at the simulated broker."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots.execution import breaks, closures, kill_switch
from bots.live import runner
from bots.live.runner import Runner
from bots.models import Decision, Discrepancy, Order, RiskState
from markets.simulator import credentials as held
from markets.venues.base import NotListed
from tests.bots.execution.test_kite_orders import AtBroker, SetMarket
from tests.bots.live.test_runner import Chosen, unlocked
from tests.desk import ist
from tests.markets.venues.kite.desk import FUTURE, kite_desk
from tradingsite import clock
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision.heartbeat import Beat

__all__ = ["unlocked"]
pytestmark = [
    pytest.mark.django_db(databases=["nifty", "btc", "default"]),
    pytest.mark.usefixtures("unlocked"),
]


@pytest.fixture
def desk(tmp_path: Path, set_market: SetMarket) -> Iterator[AtBroker]:
    with kite_desk(tmp_path, set_market) as kite:
        yield AtBroker(kite, set_market)


def test_a_cancellation_that_fails_is_asked_again(desk: AtBroker) -> None:
    desk.kite.fault("partial_fill", quantity=65, seconds=30.0)
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "partial")
    kill_switch.halt(desk.bot, "a test", "me")
    desk.kite.fault("server_error", match="DELETE /orders/")
    assert desk.reconcile().cancelled == 0
    order.refresh_from_db()
    assert order.state == "partial", "what was asked proves nothing"
    desk.reconcile()
    desk.until(order, "cancelled")
    assert desk.lots() == {"nifty-15m": 1}, "and keeps its fill"
    assert desk.reconcile().differences == ()


def test_an_order_stuck_on_its_way_blocks_the_next_and_fills_once(desk: AtBroker) -> None:
    before = desk.sent()
    desk.kite.fault("slow_order", seconds=1.5)
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    statuses = {row["status"] for row in desk.venue._read("other", "orders")}  # type: ignore[attr-defined]
    assert statuses == {"PUT ORDER REQ RECEIVED"}
    for minutes in (15, 30):
        desk.reconcile()
        order.refresh_from_db()
        assert order.state == "acked"
        later = desk.order({"nifty-1h": 1}, bar=desk.now + dt.timedelta(minutes=minutes))
        desk.send(later)
        assert later.state == "denied" and f"order {order.tag} is acked" in later.message
    desk.until(order, "filled")
    assert desk.sent() - before == 1
    assert desk.lots() == {"nifty-15m": 1}


def test_what_the_broker_squares_off_is_booked_as_its_closing(desk: AtBroker) -> None:
    intraday = desk.kite.make()
    intraday.product = "MIS"
    desk.venue = intraday
    order = desk.order({"nifty-15m": 2})
    order.product = "MIS"
    order.save(update_fields=["product"])
    desk.send(order)
    desk.until(order, "filled")
    assert {row.product for row in desk.positions().values() if row.quantity} == {"MIS"}
    desk.kite.fault("square_off")
    desk.kite.broker.wait(lambda: desk.venue.positions().get(FUTURE, 0) == 0)
    desk.kite.broker.wait(lambda: desk.reconcile().closed > 0)
    closing = Order.on("nifty").objects.get(leg="by_venue")
    assert (closing.state, closing.quantity, closing.product) == ("filled", -130, "MIS")
    assert (desk.lots(), desk.reconcile().differences) == ({}, ())
    assert not desk.risk().halted, "it happens each day to whoever does not leave in time"
    assert "closed by the venue" in Notice.objects.get(key__startswith="closed:nifty").text


def test_what_the_broker_squares_off_without_a_trace_stops_the_instrument(desk: AtBroker) -> None:
    order = desk.order({"nifty-15m": 2})
    desk.send(order)
    desk.until(order, "filled")
    account = desk.kite.broker.kite.account
    account.portfolio.positions.clear()
    Order.on("nifty").objects.update(sent_at=clock.real() - dt.timedelta(minutes=2))
    assert desk.reconcile().closed == 0, "no execution says who, and at what price"
    row = Discrepancy.on("nifty").objects.get(closed_at=None)
    assert (row.instrument, row.ledger_quantity, row.venue_quantity) == (FUTURE, 130, 0)
    assert Notice.objects.get(key=f"discrepancy:nifty:{FUTURE}").severity == "critical"
    following = desk.order({"nifty-15m": -2}, "close", bar=ist("2026-06-01 10:15"))
    desk.send(following)
    assert following.state == "denied"
    with pytest.raises(ValueError, match="closed for them"):
        breaks.adopt("nifty", FUTURE, "me")
    closures.close_by_word(
        desk.bot, desk.instruments, FUTURE, Decimal(-130), "by_venue", Decimal(24_000), "me"
    )
    assert (desk.lots(), desk.reconcile().differences) == ({}, ())


def test_a_token_that_dies_at_noon_ends_trading_until_somebody_signs_in(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "VENUE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runner, "RECONCILE_SECONDS", 0.0)
    bot = Runner(desk.bot, desk.venue, desk.calendar, Beat("nifty-bot"), Chosen("nifty", ()))
    bot.step()
    assert bot._is_ready
    desk.kite.tokens.save("a token of yesterday", held.KITE_USER_ID)
    desk.go(desk.now + dt.timedelta(minutes=15))
    bot.step()  # the bar that is due comes before the look at the book
    bot.step()
    beat = Heartbeat.objects.get(service="nifty-bot")
    assert not bot._is_ready
    assert beat.state == "blocked" and "token" in beat.detail
    made = Decision.on("nifty").objects.count()
    desk.go(desk.now + dt.timedelta(minutes=15))
    bot.step()
    assert Decision.on("nifty").objects.count() == made, "blind, it decides nothing"
    assert not RiskState.on("nifty").objects.filter(halted=True).exists()
    desk.kite.sign_in()
    bot.step()
    assert bot._is_ready, "and goes on by itself"
    bot.close()


def changed(desk: AtBroker, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Let the broker's list of the day say something else of the future than we know."""
    directory = desk.venue._directory()  # type: ignore[attr-defined]
    row = dataclasses.replace(directory.by_name[FUTURE], **facts)
    monkeypatch.setitem(directory.by_name, FUTURE, row)


def test_an_order_is_held_against_todays_list_and_not_yesterdays_lot(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.sent()
    changed(desk, monkeypatch, lot_size=Decimal(75))
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert order.state == "rejected"
    assert "is no whole number of lots of 75" in order.message
    assert desk.sent() == before, "nothing left"


def test_a_contract_that_left_the_list_is_not_traded(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = desk.sent()
    order = desk.order({"nifty-15m": 1})
    directory = desk.venue._directory()  # type: ignore[attr-defined]
    monkeypatch.delitem(directory.by_name, FUTURE)
    with pytest.raises(NotListed):
        directory.find(FUTURE)
    desk.send(order)
    assert order.state == "not_placed" and "not sent" in order.message
    assert desk.sent() == before


def test_every_market_order_asks_for_the_brokers_protection(
    desk: AtBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    client = desk.venue._client()  # type: ignore[attr-defined]
    post = client._post

    def keeps(route: str, *arguments: Any, **more: Any) -> Any:
        if route == "order.place":
            sent.append(dict(more.get("params") or {}))
        return post(route, *arguments, **more)

    monkeypatch.setattr(client, "_post", keeps)
    order = desk.order({"nifty-15m": 1})
    desk.send(order)
    assert Order.on("nifty").objects.get(pk=order.pk).state == "acked"
    assert [each["market_protection"] for each in sent] == [-1]
    assert sent[0]["order_type"] == "MARKET" and sent[0]["tag"] == order.tag
