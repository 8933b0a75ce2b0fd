"""The notifier: every filled, refused or unknown order is told, none lost, none twice."""

import datetime as dt
from collections.abc import Callable

import pytest

from bots.execution.netting import Leg
from bots.execution.notifier import Notifier
from bots.models import LedgerCursor, Order
from markets.venues.base import OrderRefused
from tests.desk import Desk
from tradingsite.format import MINUS
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=["btc", "default"])
SetMarket = Callable[..., None]


@pytest.fixture
def desk(set_market: SetMarket) -> Desk:
    made = Desk("btc", set_market)
    made.quote(60_000.0)
    return made


def texts() -> list[str]:
    return [notice.text for notice in Notice.objects.filter(key__startswith="order:")]


def test_a_fill_says_side_lots_price_shares_charges_and_pnl(desk: Desk) -> None:
    desk.trade({"btc-1h": -2, "btc-4h": -1}, at=60_000.0)
    Notifier("btc").step()
    assert texts() == [
        "Simulated: BTC bot sold 3 lots of BTC-PERP (1h -2, 4h -1) at 59,991.00, charges "
        f"$0.81. It holds -3 lots; PnL since its start {MINUS}$1.08."
    ]


def test_a_refusal_and_a_doubt_are_told_with_their_reasons(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> str:
        raise OrderRefused("no margin")

    monkeypatch.setattr(desk.venue, "place", refuse)
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    Order.on("btc").objects.update(state=Order.State.INTENT)
    monkeypatch.setattr(desk.venue, "place", lambda *arguments, **more: 1 / 0)
    desk.send(order)
    Notifier("btc").step()
    doubt, refusal = texts()
    assert "wanted to buy 1 lot of BTC-PERP (1h +1); the venue refused it: no margin" in refusal
    assert f"does not know whether its order {order.tag}" in doubt
    assert Notice.objects.get(text=doubt).severity == "critical"


def test_what_was_denied_is_told_in_one_notice_that_counts(desk: Desk) -> None:
    for lots in (100, 101):
        order = desk.order({"btc-1h": lots}, bar=desk.now + dt.timedelta(minutes=lots))
        desk.send(order)
        assert order.state == Order.State.DENIED
    Notifier("btc").step()
    notice = Notice.objects.get(key="denied:btc")
    assert (notice.severity, notice.count) == ("warning", 2)
    assert "BTC bot wanted to buy 101 lots of BTC-PERP (1h +101) and was not allowed to: " in (
        notice.text
    )


def test_nothing_is_told_twice_and_a_crash_between_the_commits_loses_nothing(desk: Desk) -> None:
    notifier = Notifier("btc")
    desk.trade({"btc-1h": 1})
    assert notifier.step() == 4
    assert notifier.step() == 0
    desk.quote(60_000.0)
    order = desk.legs([Leg("open", desk.front, {"btc-1h": 1})], bar=desk.now)[0]
    desk.send(order)
    desk.quote(60_000.0)
    desk.take_fills()
    before = LedgerCursor.on("btc").objects.get().event_id
    assert Notifier("btc").step() == 4
    # The notice was written, and then the process died before it could move the cursor.
    LedgerCursor.on("btc").objects.update(event_id=before)
    assert Notifier("btc").step() == 4
    assert len(texts()) == 2
