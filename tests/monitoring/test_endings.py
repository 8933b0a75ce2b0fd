"""Notices that nobody ends: each ends when it is no news any more, or its matter is over."""

import ast
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from bots.models import Order, OrderEvent, RiskState
from monitoring import endings
from tests.desk import Desk
from tests.monitoring import desks
from tradingsite import clock, notices
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


def tell(key: str, severity: str = "warning", hours_ago: float = 0.0) -> None:
    """Have a notice there, last said so long ago."""
    notices.notify("trading", severity, key, "x")
    Notice.objects.filter(key=key).update(last_at=clock.real() - dt.timedelta(hours=hours_ago))


def still_open() -> set[str]:
    """End what is over and return the keys that are left."""
    endings.end_what_is_over()
    return notices.open_keys("")


def test_an_event_is_news_for_a_while() -> None:
    tell("resume:nifty", hours_ago=0.9)
    tell("resume:btc", hours_ago=1.1)
    tell("closed:nifty:T1", "critical", hours_ago=23)
    tell("signal:personal-1d:2026-06-02", "info", hours_ago=25)
    assert still_open() == {"resume:nifty", "closed:nifty:T1"}


def test_what_lasts_is_left_to_whoever_ends_it() -> None:
    tell("service:btc-bot", "critical", hours_ago=900)
    tell("disk", hours_ago=900)
    tell("halt:btc", "critical", hours_ago=900)
    assert len(still_open()) == 3


def test_an_order_in_doubt_is_an_alarm_until_it_is_settled(set_market: Callable[..., None]) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    order = desk.order({"btc-1h": 1})
    event = OrderEvent.on("btc").objects.create(
        order=order,
        state=Order.State.UNKNOWN,
        at=clock.real(),
        market_at=desk.now,
        detail="no answer",
    )
    Order.on("btc").objects.update(state=Order.State.UNKNOWN)
    tell(f"order:btc:{event.pk}", "critical", hours_ago=30)
    assert still_open() == {f"order:btc:{event.pk}"}
    Order.on("btc").objects.update(state=Order.State.FILLED)
    assert still_open() == set()


def test_a_loss_limit_is_of_its_day(set_market: Callable[..., None]) -> None:
    set_market(desks.NOW)
    today = clock.trading_date(desks.NOW)
    risk = RiskState.on("btc").objects.create(
        bot="btc", loss_latched=True, trading_date=today, updated_at=desks.NOW
    )
    tell("daily-loss:btc", "critical")
    assert still_open() == {"daily-loss:btc"}
    set_market(desks.NOW + dt.timedelta(days=1))
    assert still_open() == set()
    risk.delete()


def test_what_could_not_be_closed_is_over_once_it_is(set_market: Callable[..., None]) -> None:
    set_market(desks.NOW)
    desks.position("btc-1h", "-0.03", "97000", "40", -3, "3")
    tell("left:btc:BTC-PERP", "critical", hours_ago=48)
    tell("left:btc:ETH-PERP", "critical")
    assert still_open() == {"left:btc:BTC-PERP"}


def test_a_model_that_waits_or_cannot_trade_is_over_once_another_trades() -> None:
    desks.model("btc-1h", 1, "active")
    desks.model("btc-1h", 2, "verified")
    tell("model:btc-1h v1", "critical", hours_ago=99)
    tell("model:btc-1h:1", "info", hours_ago=99)
    tell("waits:btc-1h", "critical", hours_ago=99)
    assert still_open() == {"model:btc-1h v1", "waits:btc-1h"}
    desks.model("btc-4h", 1, "retired")
    tell("model:btc-4h v1", "critical")
    assert "model:btc-4h v1" not in still_open()


def test_what_left_the_tables_ends() -> None:
    for key in ("job:gone", "training:nifty-2h", "restart:gone", "job:backups"):
        tell(key, "critical")
    assert still_open() == {"job:backups"}


def test_an_odd_key_stands_in_nobodys_way() -> None:
    tell("order:sensex:7", "critical", hours_ago=99)
    tell("order:btc:seven", "critical", hours_ago=99)
    tell("left:sensex:X", "critical")
    tell("resume:btc", hours_ago=2)
    assert "resume:btc" not in still_open()


def test_every_key_that_the_code_tells_has_somebody_who_ends_it() -> None:
    ends = {*endings.EVENTS, *endings.MATTERS}
    told, resolved = set(), set()
    for path in _sources():
        tree = ast.parse(path.read_text())
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name == "notices.notify" and len(call.args) >= 3:
                told.add((path, _begins(call.args[2]), ast.unparse(call.args[1])))
            elif name == "notices.resolve":
                resolved.add(_begins(call.args[0]))
    assert len(told) > 40
    orphans = [
        f"{path.name}: {begins}"
        for path, begins, severity in told
        if begins  # else the key comes from where its end does: a constant, a function, an alarm
        and begins not in resolved
        and severity != "'info'"
        and not any(begins.startswith(end) for end in ends)
    ]
    assert orphans == []


def _begins(key: ast.expr) -> str:
    """Return how a key begins: the words before its first value."""
    if isinstance(key, ast.JoinedStr) and isinstance(key.values[0], ast.Constant):
        return str(key.values[0].value)
    return str(key.value) if isinstance(key, ast.Constant) else ""


def _sources() -> list[Path]:
    packages = ("tradingsite", "markets", "bots", "training", "monitoring")
    return [path for name in packages for path in (settings.BASE_DIR / name).rglob("*.py")]
