"""The trading page: what it shows, and that only a person with the password acts on it."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from bots.models import Decision, Order, Position, RiskState, ShadowAccount
from bots.modelstore.models import ModelVersion
from monitoring.dashboard import trading
from tests.desk import Desk
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import PASSWORD, act, lost, seen, stopped, words

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


def test_an_empty_desk_says_what_each_table_waits_for(client: Client, set_market: Any) -> None:
    set_market(desks.NOW)
    text = words(client.get("/trading/"))
    assert "No order yet" in text and "No decision yet" in text and "No model waits" in text
    assert "not started" in text and "Simulated" in text
    assert "No account has been looked at yet" in text and "Halt all bots" in text


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


@pytest.mark.parametrize(
    ("address", "right"),
    [
        *(("halt", "halt"), ("btc/halt", "halt"), ("btc/close", "flatten")),
        *(("btc/resume", "resume"), ("btc/adopt/1", "adopt"), ("btc/giveup/T1X", "give_up")),
    ],
)
def test_nobody_acts_without_signing_in_and_the_right_to(
    client: Client, desk: Desk, address: str, right: str
) -> None:
    assert "/login/" in act(client, address).headers["Location"]
    guest = User.objects.create_user("guest", password=PASSWORD, is_staff=True)
    others = Permission.objects.filter(content_type__app_label="access").exclude(codename=right)
    guest.user_permissions.set(others)
    client.force_login(guest)
    assert client.get(f"/trading/{address}/").status_code == 403
    assert act(client, address).status_code == 403
    assert not RiskState.on("btc").objects.filter(halted=True).exists()
    guest.user_permissions.add(Permission.objects.get(codename=right))
    assert act(client, address).status_code == 302


def test_who_may_only_look_sees_all_and_no_button(client: Client, desk: Desk) -> None:
    client.force_login(User.objects.create_user("guest", password=PASSWORD, is_staff=True))
    page = client.get("/trading/")
    assert page.status_code == 200 and "BTC" in words(page)
    assert "/halt/" not in page.content.decode()
    for address in ("/", "/live", "/models/", "/kite/", "/you/"):
        assert client.get(address).status_code == 200, address


def test_who_may_halt_but_not_close_is_offered_no_tick(client: Client, desk: Desk) -> None:
    guest = User.objects.create_user("guest", password=PASSWORD)
    guest.user_permissions.add(Permission.objects.get(codename="halt"))
    client.force_login(guest)
    assert "Close what it holds" not in words(client.get("/trading/btc/halt/"))
    assert act(client, "btc/halt", flatten="yes").status_code == 403
    assert not desk.risk().halted
    assert act(client, "btc/halt").status_code == 302
    assert (desk.risk().halted, desk.risk().flatten) == (True, False)


def test_a_post_from_elsewhere_is_refused(desk: Desk) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("owner", password=PASSWORD))
    assert act(strict, "btc/halt").status_code == 403
    assert not desk.risk().halted


def test_five_wrong_passwords_sign_out(staff: Client, desk: Desk) -> None:
    for _ in range(5):
        answer = act(staff, "btc/halt", password="a guess")
    assert answer.status_code == 302
    assert "/login/" in staff.get("/trading/btc/halt/").headers["Location"]
    assert not desk.risk().halted


def test_unknown_bots_and_markets_are_not_found(staff: Client) -> None:
    for address in ("doge/halt", "doge/close", "doge/resume", "doge/adopt/1", "doge/giveup/T1X"):
        assert staff.get(f"/trading/{address}/").status_code == 404


def test_an_unknown_order_is_shown_however_many_came_after_it(client: Client, desk: Desk) -> None:
    order = lost(desk)
    for number in range(trading.ORDERS_SHOWN + 1):
        desk.go(desk.now + dt.timedelta(minutes=1))
        desk.order({"btc-4h": 1}, bar=desk.now + dt.timedelta(hours=2 + number))
    text = words(client.get("/trading/"))
    assert f"Order {order.tag} may or may not have arrived." in text


def test_what_others_closed_never_looks_like_an_order_of_the_bots(
    client: Client, desk: Desk
) -> None:
    ours = desk.trade({"btc-1h": 2}, at=60_060.0)
    theirs = desk.order({"btc-1h": -2}, bar=desk.now + dt.timedelta(hours=1))
    rows = Order.on("btc").objects.filter(pk=theirs.pk)
    rows.update(leg="by_venue", state="filled", average_price=59_000)
    text = words(client.get("/trading/"))
    assert "Closed 0.02 BTC-PERP closed by the venue no order of the bot" in text
    assert "Sell" not in text and "Buy 0.02" in text
    rows.update(leg="by_owner")
    assert "closed by the owner" in words(client.get("/trading/"))
    Order.on("btc").objects.filter(pk=ours.pk).update(leg="leave")
    assert "left before the square-off" in words(client.get("/trading/"))


def test_the_account_stands_beside_its_bots_with_the_owners_part(
    client: Client, desk: Desk
) -> None:
    desk.trade({"btc-1h": 2})
    seen("btc", "paper", "BTC-PERP", "0.05", at=desk.now)
    seen("btc", "paper", "ETH-PERP", "7", at=desk.now)
    text = words(client.get("/trading/"))
    assert "BTC on paper seen just now BTC-PERP +0.05 +0.02 +0.03" in text
    assert "and 1 other instrument of the owner" in text and "ETH-PERP" not in text
    stopped()
    assert "+0.03 unexplained" in words(client.get("/trading/"))
    desk.go(desk.now + dt.timedelta(hours=5))
    assert "seen 5 h ago : its bot does not look" in words(client.get("/trading/"))
