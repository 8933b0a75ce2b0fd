"""The kill switch on the page: one bot, all of them, and the closing of what one holds."""

import pytest
from django.test import Client

from bots.execution import kill_switch
from bots.models import Order, Position, RiskState
from tests.desk import Desk
from tests.monitoring import desks
from tests.monitoring.dashboard.pages import act, cut_off, words
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=desks.ALIASES)


def on_its_way(desk: Desk) -> Order:
    """Write an order that has begun and of which nobody has heard."""
    order = desk.order({"btc-1h": 1})
    Order.on("btc").objects.filter(pk=order.pk).update(state="submitting")
    return order


def halted() -> set[str]:
    return {
        row.bot
        for alias in ("nifty", "btc")
        for row in RiskState.on(alias).objects.filter(halted=True)
    }


def test_halting_needs_the_password_and_a_reason_and_is_kept(staff: Client, desk: Desk) -> None:
    text = words(staff.get("/trading/btc/halt/"))
    assert "Close what it holds" in text
    assert "No order begins from the moment you say so; one on its way leaves within" in text
    assert not desk.risk().halted
    assert act(staff, "btc/halt", password="a guess").status_code == 400
    assert act(staff, "btc/halt", reason=" ").status_code == 400
    assert not desk.risk().halted
    assert act(staff, "btc/halt", reason="the spread is odd").status_code == 302
    risk = desk.risk()
    assert (risk.halted, risk.halt_reason, risk.flatten) == (True, "the spread is odd", False)
    assert "halted by owner: the spread is odd" in Notice.objects.get(key="halt:btc").text
    text = words(staff.get("/trading/"))
    assert "BTC bot: halted. What it holds stays. Nothing was on its way." in text
    assert "the spread is odd" in text and "Resume" in text
    order = desk.order({"btc-1h": 1})
    desk.send(order)
    assert order.state == "denied"


def test_halting_waits_for_what_was_on_its_way_and_says_what_became_of_it(
    staff: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = on_its_way(desk)

    def answered(seconds: float) -> None:
        assert desk.risk().halted, "the flag comes first"
        Order.on("btc").objects.filter(pk=order.pk).update(state="filled")

    monkeypatch.setattr(kill_switch.time, "sleep", answered)
    act(staff, "btc/halt")
    text = words(staff.get("/trading/"))
    assert f"Order {order.tag} (+0.01 BTC-PERP) was on its way" in text
    assert "when the bot was halted: filled." in text and "Nothing was on its way" not in text


def test_an_order_without_an_answer_is_named_and_the_wait_ends(
    staff: Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_switch, "ANSWERED_WITHIN_SECONDS", 0.0)
    on_its_way(desk)
    act(staff, "halt")
    page = staff.get("/trading/")
    assert "no answer yet; it counts as unknown" in words(page)
    assert "verdict-warn" in page.content.decode()


def test_halting_may_flatten_and_resuming_gives_it_back(staff: Client, desk: Desk) -> None:
    act(staff, "btc/halt", flatten="yes")
    assert desk.risk().flatten
    assert "halted; it closes what it holds now. Nothing was on its way." in words(
        staff.get("/trading/")
    )
    assert act(staff, "btc/resume", password="a guess").status_code == 400
    assert desk.risk().halted
    assert "It no longer closes what it holds" in words(staff.get("/trading/btc/resume/"))
    assert act(staff, "btc/resume").status_code == 302
    assert (desk.risk().halted, desk.risk().flatten) == (False, False)
    assert "is not halted" in words(staff.get("/trading/btc/resume/", follow=True))


def test_a_halted_bot_that_holds_something_may_be_told_to_close_it(
    staff: Client, desk: Desk
) -> None:
    address = "/trading/btc/close/"
    assert "is not halted" in words(staff.get(address, follow=True))
    desk.trade({"btc-1h": 2})
    act(staff, "btc/halt", reason="leaving")
    assert address in staff.get("/trading/").content.decode()
    text = words(staff.get(address))
    assert "It stays halted (leaving)" in text and "+2 lots of BTC-PERP" in text
    assert "cut to what the account really holds" in text and "dust that the venue takes" in text
    assert act(staff, "btc/close", password="a guess").status_code == 400
    assert not desk.risk().flatten
    assert act(staff, "btc/close").status_code == 302
    assert (desk.risk().halted, desk.risk().flatten) == (True, True)
    page = staff.get("/trading/")
    text = words(page)
    assert "was halted already; it closes what it holds now." in text
    assert "halted, closing" in text and address not in page.content.decode()
    assert "closes what it holds already" in words(staff.get(address, follow=True))


def test_dust_is_something_to_close_and_nothing_is_not(staff: Client, desk: Desk) -> None:
    act(staff, "btc/halt")
    assert "holds nothing" in words(staff.get("/trading/btc/close/", follow=True))
    Position.on("btc").objects.filter(slot="btc-1h").update(quantity="0.0004")
    text = words(staff.get("/trading/"))
    assert "Close what it holds" in text and "Less than a lot" in text
    assert "+0.0004 BTC-PERP, less than a lot" in words(staff.get("/trading/btc/close/"))


def test_all_bots_are_halted_at_once_and_each_says_how_it_stands(staff: Client, desk: Desk) -> None:
    desk.trade({"btc-1h": 2})
    act(staff, "btc/halt", reason="odd")
    text = words(staff.get("/trading/halt/"))
    assert "BTC halted already (odd), BTC 1h +2 lots of BTC-PERP" in text
    assert "NIFTY free, flat" in text
    assert act(staff, "halt", password="a guess").status_code == 400
    assert halted() == {"btc"}
    assert act(staff, "halt", flatten="yes").status_code == 302
    assert halted() == {"nifty", "btc", "personal"}
    text = words(staff.get("/trading/"))
    assert "NIFTY bot: halted; it closes what it holds now. Nothing was on its way." in text
    assert "BTC bot: was halted already; it closes what it holds now." in text
    assert "Personal bot: halted; it closes what it holds now." in text


def test_the_others_are_halted_where_a_database_does_not_answer(staff: Client, desk: Desk) -> None:
    cut_off("nifty")
    text = words(staff.get("/trading/halt/"))
    assert "NIFTY the nifty database does not answer BTC free, flat" in text
    assert act(staff, "halt").status_code == 302
    assert desk.risk().halted
    text = words(staff.get("/trading/"))
    assert "The NIFTY bot could not be reached: the nifty database does not answer." in text
    assert "The Personal bot could not be reached" in text
    assert "BTC bot: halted." in text


def test_both_pages_hold_the_button_for_all_bots_in_the_head_and_at_the_thumb(
    client: Client, desk: Desk
) -> None:
    for page in ("/", "/trading/"):
        text = client.get(page).content.decode()
        assert text.count('class="button button-danger halt-all" href="/trading/halt/"') == 2
        assert "halt-all" in text.split('<nav class="tabs"', 1)[1]
