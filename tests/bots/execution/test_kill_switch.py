"""The kill switch by hand: both databases at once, and resumed only on purpose."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from bots.live import marks
from bots.live.decisions import Decider
from bots.live.policies import Policies
from bots.models import Order, RiskState
from tests.desk import Desk, ist
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import BOTS

pytestmark = pytest.mark.django_db(databases=["nifty", "btc", "default"])
SetMarket = Callable[..., None]


def said(command: str, *arguments: str) -> list[str]:
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue().splitlines()


def halted() -> set[str]:
    return {
        row.bot
        for market in ("nifty", "btc")
        for row in RiskState.on(market).objects.filter(halted=True)
    }


def test_halting_all_writes_both_databases_and_resuming_asks_twice(set_market: SetMarket) -> None:
    set_market(ist("2026-06-01 10:00"))
    assert said("halt", "btc", "--reason", "odd fills") == ["btc: halted"]
    assert said("halt", "--all", "--reason", "leaving") == [
        "nifty: halted",
        "btc: was halted already",
        "personal: halted",
    ]
    assert halted() == {"nifty", "btc", "personal"}
    assert said("resume", "btc") == ["btc: halted: odd fills. Add --yes to resume it."]
    assert "btc" in halted()
    assert said("resume", "btc", "--yes") == ["btc: resumed; it had been halted: odd fills"]
    assert said("resume", "btc", "--yes") == ["btc: not halted"]
    assert halted() == {"nifty", "personal"}


@pytest.mark.parametrize("command", ["halt", "resume"])
def test_one_bot_or_all_must_be_named(command: str) -> None:
    for arguments in ((), ("btc", "--all")):
        with pytest.raises(CommandError, match="name one bot"):
            call_command(command, *arguments)


def test_a_halted_bot_that_is_to_flatten_closes_what_is_its_own_and_nothing_else(
    set_market: SetMarket,
) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    desk.trade({"btc-1h": 2, "btc-4h": 1})
    said("halt", "btc", "--flatten")
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    other = desk.order({"btc-1h": -2}, leg="close")
    opening = desk.order({"btc-1h": 1}, leg="flatten", bar=desk.now + dt.timedelta(hours=1))
    desk.send(other)
    desk.send(opening)
    assert (other.state, opening.state) == ("denied", "denied")
    minute = clock.epoch(desk.now)
    desk.send(*decider.flatten(minute))
    assert decider.flatten(minute) == [], "once for its minute"
    desk.quote(60_000.0)
    desk.take_fills()
    assert desk.lots() == {}
    assert desk.venue.positions() == {}
    said("resume", "btc", "--yes")
    assert not desk.risk().flatten


def test_an_unknown_order_ends_by_a_persons_word(set_market: SetMarket) -> None:
    desk = Desk("btc", set_market)
    desk.quote(60_000.0)
    order = desk.order({"btc-1h": 2})
    Order.on("btc").objects.filter(pk=order.pk).update(state="unknown", message="no answer")
    assert said("giveup", "btc") == [f"{order.tag} +0.02 BTC-PERP: no answer"]
    assert said("giveup", "btc", order.tag, "--yes")[-1] == f"{order.tag}: not placed"
    assert said("giveup", "btc") == ["btc: no order is unknown"]
    with pytest.raises(CommandError, match="no unknown order"):
        call_command("giveup", "btc", order.tag, "--yes")


def test_bots_of_one_account_lose_together_and_stay_latched(set_market: SetMarket) -> None:
    for slug in ("nifty", "personal"):
        Desk(slug, set_market)
    at = int(ist("2026-06-01 10:00").timestamp())
    for slug, loss in (("nifty", -220_000), ("personal", -90_000)):
        risk = RiskState.on("nifty").objects.get(bot=slug)
        gate = marks.gate_of(BOTS[slug], risk)
        gate.observe(Epoch(at), Decimal(0))
        gate.observe(Epoch(at + 60), Decimal(loss))
        assert not gate.is_latched
        with transaction.atomic(using="nifty"):
            marks.save_gate(BOTS[slug], gate)
    assert RiskState.on("nifty").objects.filter(loss_latched=True).count() == 2
    # A gate that was read before does not take the latch back, the next date does.
    with transaction.atomic(using="nifty"):
        marks.save_gate(BOTS["nifty"], gate)
    assert RiskState.on("nifty").objects.get(bot="nifty").loss_latched
