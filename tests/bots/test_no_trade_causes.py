"""Why nothing happened, by slot and day."""

import datetime as dt
import json
from io import StringIO

import pytest
from django.core.management import call_command

from bots import no_trade_causes
from bots.models import Decision
from tests.desk import ist
from tradingsite.registry import SLOTS

pytestmark = pytest.mark.django_db(databases=["btc", "nifty", "default"])


def decided(when: str, cause: str) -> None:
    """Write one decision of the 1h slot."""
    at = ist(when)
    Decision.on("btc").objects.create(
        slot="btc-1h",
        bar_closes_at=at,
        decided_at=at,
        action="hold",
        lots_before=0,
        lots_after=0,
        price=1,
        cause=cause,
    )


def test_decisions_are_counted_by_the_date_in_india(set_market: object) -> None:
    set_market(ist("2026-06-02 12:00"))  # type: ignore[operator]
    for when, cause in (
        ("2026-06-01 23:30", "trade"),
        ("2026-06-02 00:30", "choice"),
        ("2026-06-02 01:30", "choice"),
        ("2026-06-02 02:30", "stale"),
    ):
        decided(when, cause)
    newest, before = no_trade_causes.by_day(SLOTS["btc-1h"], ist("2026-05-30 00:00"))
    assert (newest.date, newest.counts, newest.bars) == (
        dt.date(2026, 6, 2),
        {"choice": 2, "stale": 1},
        3,
    )
    assert before.counts == {"trade": 1}
    said = StringIO()
    call_command("why", "btc-1h", "--json", stdout=said)
    assert json.loads(said.getvalue().splitlines()[0]) == {
        "date": "2026-06-02",
        "slot": "btc-1h",
        "choice": 2,
        "stale": 1,
    }
    said = StringIO()
    call_command("why", stdout=said)
    assert "Held by choice" in said.getvalue() and "At limit" not in said.getvalue()


def test_every_cause_has_a_title() -> None:
    assert set(no_trade_causes.TITLES) == set(Decision.Cause.values)


def test_an_empty_desk_says_so(set_market: object) -> None:
    set_market(ist("2026-06-02 12:00"))  # type: ignore[operator]
    said = StringIO()
    call_command("why", stdout=said)
    assert said.getvalue().startswith("No decision yet")
