"""The trading page: what it shows, and that only a person with the password acts on it."""

import datetime as dt
import html
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponseBase
from django.test import Client

from bots.models import Decision, Discrepancy, Order, Position, RiskState, ShadowAccount
from bots.modelstore.models import ModelVersion
from monitoring.dashboard import trading
from tests.desk import Desk
from tests.monitoring import desks
from tradingsite.format import GLUE
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)
PASSWORD = "correct horse battery"


@pytest.fixture
def desk(set_market: Callable[..., None]) -> Desk:
    made = Desk("btc", set_market, "2026-06-02 13:42")
    made.quote(60_000.0)
    return made


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create_user("owner", password=PASSWORD, is_staff=True))
    return client


def words(answer: HttpResponseBase) -> str:
    text = re.sub(r"<[^>]+>", " ", answer.content.decode())  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", html.unescape(text).replace(GLUE, " "))


def act(client: Client, address: str, **changes: str) -> Any:
    asked = {"password": PASSWORD, "reason": "looked at the venue"} | changes
    return client.post(f"/trading/{address}/", asked)


def lost(desk: Desk) -> Order:
    """Write an order that nobody knows of."""
    order = desk.order({"btc-1h": 1}, bar=desk.now + dt.timedelta(hours=1))
    Order.on("btc").objects.filter(pk=order.pk).update(state="unknown", message="no answer")
    return order


def stopped() -> Discrepancy:
    """Write a discrepancy."""
    return Discrepancy.on("btc").objects.create(
        venue="paper",
        instrument="BTC-PERP",
        ledger_quantity=Decimal("0.02"),
        venue_quantity=Decimal("0.05"),
        seen_at=desks.NOW,
    )


def test_an_empty_desk_says_what_each_table_waits_for(client: Client, set_market: Any) -> None:
    set_market(desks.NOW)
    text = words(client.get("/trading/"))
    assert "No order yet" in text and "No decision yet" in text and "No model waits" in text
    assert "not started" in text and "Simulated" in text


def test_orders_causes_costs_and_shadows_are_shown(client: Client, desk: Desk) -> None:
    desk.trade({"btc-1h": 2}, at=60_060.0)
    at = desk.now.replace(minute=0)
    Decision.on("btc").objects.create(
        slot="btc-1h",
        bar_closes_at=at,
        decided_at=at,
        action="hold",
        lots_before=2,
        lots_after=2,
        price=1,
        cause="choice",
    )
    Position.on("btc").objects.filter(slot="btc-1h").update(equity=30)
    ShadowAccount.on("btc").objects.create(
        slot="btc-1h",
        model="btc-1h v7",
        instrument="BTC-PERP",
        sleeve={"equity": 48.0},
        notional=2400,
        champion_equity=6,
        bars=34,
        trades=9,
        since=at - dt.timedelta(hours=34),
    )
    assert "No model waits" in words(client.get("/trading/"))
    ModelVersion.objects.create(
        slot="btc-1h",
        number=7,
        run_id=1,
        state=ModelVersion.State.VERIFIED,
        path="btc-1h/v7",
        manifest_sha256="0" * 64,
        trained_from=at,
        trained_until=at,
        created_at=at,
    )
    text = words(client.get("/trading/"))
    assert "Buy 0.02 BTC-PERP Filled BTC 1h +2 open 60,000.00 60,069.01 11.5" in text
    assert "Long 2" in text and "1 of 100" in text
    assert "Held by choice" in text and "Dead action" not in text and "At limit" not in text
    assert "btc-1h v7" in text and "+2.0%" in text and "+1.0%" in text and "34" in text
    assert "Unknown" not in text


def test_halting_needs_the_password_and_a_reason_and_is_kept(staff: Client, desk: Desk) -> None:
    assert "Close what it holds" in words(staff.get("/trading/btc/halt/"))
    assert not desk.risk().halted
    assert act(staff, "btc/halt", password="a guess").status_code == 400
    assert act(staff, "btc/halt", reason=" ").status_code == 400
    assert not desk.risk().halted
    assert act(staff, "btc/halt", reason="the spread is odd").status_code == 302
    risk = desk.risk()
    assert (risk.halted, risk.halt_reason, risk.flatten) == (True, "the spread is odd", False)
    assert "halted by owner: the spread is odd" in Notice.objects.get(key="halt:btc").text
    text = words(staff.get("/trading/"))
    assert "the spread is odd" in text and "Resume" in text
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "denied"


def test_halting_may_flatten_and_resuming_gives_it_back(staff: Client, desk: Desk) -> None:
    act(staff, "btc/halt", flatten="yes")
    assert desk.risk().flatten
    assert act(staff, "btc/resume", password="a guess").status_code == 400
    assert desk.risk().halted
    assert act(staff, "btc/resume").status_code == 302
    assert (desk.risk().halted, desk.risk().flatten) == (False, False)
    assert "is not halted" in words(staff.get("/trading/btc/resume/", follow=True))


def test_what_nobody_explains_shows_both_numbers_and_is_adopted(staff: Client, desk: Desk) -> None:
    row = stopped()
    text = words(staff.get("/trading/"))
    assert "BTC-PERP is stopped: the ledger has 0.02, the venue has 0.05" in text
    assert "You take over +0.03" in words(staff.get(f"/trading/btc/adopt/{row.pk}/"))
    row.refresh_from_db()
    assert row.closed_at is None
    assert act(staff, f"btc/adopt/{row.pk}").status_code == 302
    row.refresh_from_db()
    assert row.adopted_by == "owner"
    assert "agree there by now" in words(staff.get(f"/trading/btc/adopt/{row.pk}/", follow=True))


def test_an_unknown_order_ends_by_a_persons_word(staff: Client, desk: Desk) -> None:
    order = lost(desk)
    text = words(staff.get("/trading/"))
    assert f"Order {order.tag} may or may not have arrived." in text
    assert act(staff, f"btc/giveup/{order.tag}").status_code == 302
    assert desk.story(order)[-1] == "not_placed"
    order.refresh_from_db()
    assert order.message == "owner: looked at the venue says it was never placed"
    assert "not unknown any more" in words(
        staff.get(f"/trading/btc/giveup/{order.tag}/", follow=True)
    )


@pytest.mark.parametrize("address", ["btc/halt", "btc/resume", "btc/adopt/1", "btc/giveup/T1X"])
def test_nobody_acts_without_signing_in_or_being_staff(
    client: Client, desk: Desk, address: str
) -> None:
    assert "/login/" in act(client, address).headers["Location"]
    client.force_login(User.objects.create_user("guest", password=PASSWORD))
    assert "/login/" in act(client, address).headers["Location"]
    assert not RiskState.on("btc").objects.filter(halted=True).exists()


def test_a_post_from_elsewhere_is_refused(desk: Desk) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_user("owner", password=PASSWORD, is_staff=True))
    assert act(strict, "btc/halt").status_code == 403
    assert not desk.risk().halted


def test_five_wrong_passwords_sign_out(staff: Client, desk: Desk) -> None:
    for _ in range(5):
        answer = act(staff, "btc/halt", password="a guess")
    assert answer.status_code == 302
    assert "/login/" in staff.get("/trading/btc/halt/").headers["Location"]
    assert not desk.risk().halted


def test_unknown_bots_and_markets_are_not_found(staff: Client) -> None:
    for address in ("doge/halt", "doge/resume", "doge/adopt/1", "doge/giveup/T1X"):
        assert staff.get(f"/trading/{address}/").status_code == 404


def test_an_unknown_order_is_shown_however_many_came_after_it(client: Client, desk: Desk) -> None:
    order = lost(desk)
    for number in range(trading.ORDERS_SHOWN + 1):
        desk.go(desk.now + dt.timedelta(minutes=1))
        desk.order({"btc-4h": 1}, bar=desk.now + dt.timedelta(hours=2 + number))
    text = words(client.get("/trading/"))
    assert f"Order {order.tag} may or may not have arrived." in text
