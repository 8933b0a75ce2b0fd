"""The kill switch by hand: both databases at once, and resumed only on purpose."""

from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from bots.models import RiskState
from tests.desk import ist

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
