"""The daily signal: a decision of the personal bot, with the owner's own decisions most like it."""

import datetime as dt
import json
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from bots import signals, tasks
from bots.decision.actions import NAMES
from bots.live.policies import Loaded, Policies
from bots.models import Decision, Signal
from markets import store
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.features import schema_for
from markets.models import CameBy, Source
from markets.simulator import history
from tests.desk import calendar_of, ist
from tests.histories import seed_days
from tests.policies import NoisePolicy
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.models import JobRun, Notice
from tradingsite.registry import SLOTS, Slot
from tradingsite.scheduling.jobs import Skipped

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])

SLOT = SLOTS[signals.SLOT]
DAY = dt.date(2026, 5, 29)
UNTIL = int(ist("2026-05-29 15:30").timestamp())


@pytest.fixture
def desk(set_market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have days of a market, its owner's trades, and a personal model."""
    from markets.simulator.price_path import PricePath

    seed_days("nifty")
    calendar = calendar_of("nifty")
    path = PricePath.build("nifty", NseCalendar(nse_sessions()))
    bars = path.bars("1d", Epoch(UNTIL - 4 * 365 * 86_400), Epoch(UNTIL))
    store.save_bars("nifty", "1d", bars, Source.GENERATED)
    store.rebuild_features("nifty", "1d")
    history.import_simulated_history("nifty", Epoch(UNTIL), path)
    set_market(ist("2026-05-29 16:00"))
    width = len(store.load_features("nifty", "1d").schema.names)

    def current(self: Policies, slot: Slot) -> Loaded:
        return Loaded(1, "personal-1d v3", NoisePolicy(width, 3))

    monkeypatch.setattr(Policies, "current", current)
    assert calendar.session_on(DAY) is not None


def decided(action: str = "buy", reason: str = "", **changes: Any) -> Decision:
    """Have the bot decide at the day's close."""
    shares = [0.02] * 7
    shares[NAMES.index(action)] = 0.88
    values: dict[str, Any] = {
        "slot": SLOT.slug,
        "bar_closes_at": clock.from_seconds(UNTIL),
        "decided_at": clock.market(),
        "action": action,
        "probabilities": [] if reason else shares,
        "lots_before": 1,
        "lots_after": 3,
        "price": 24_000,
        "model": "personal-1d v3",
        "reason": reason,
    }
    return Decision.on("nifty").objects.create(**(values | changes))


@pytest.mark.usefixtures("desk")
def test_a_signal_says_what_was_decided_and_what_is_most_like_it() -> None:
    decision = decided()
    signal = signals.make(DAY)
    assert (signal.action, signal.lots, signal.change) == ("buy", 3, 2)
    assert signal.confidence == 0.88 and signal.decision_id == decision.pk
    assert signal.for_date == dt.date(2026, 6, 1)  # the Monday after
    assert signals.make(DAY).pk == signal.pk  # the same again, not another
    assert len(signal.neighbours) == 3
    for each in signal.neighbours:
        assert dt.date.fromisoformat(each["date"]) <= DAY
        assert each["action"] in NAMES and each["action"] != "hold"
        assert each["days"] >= 1 and "session" in each["ended"]
    text = signals.sentence(signal)
    assert "Mon 01 Jun 2026: buy, hold 3 lots long (+2 lots at the open)" in text
    assert "88%" in text and "simulated" in text and "you did a" in text


@pytest.mark.usefixtures("desk")
def test_neighbours_are_the_nearest_and_know_no_future() -> None:
    calendar = calendar_of("nifty")
    policy = NoisePolicy(len(schema_for("nifty", "1d").names), 3)
    found = signals.neighbours(SLOT, calendar, policy, Epoch(UNTIL))
    earlier = int(ist("2025-06-30 15:30").timestamp())
    before = signals.neighbours(SLOT, calendar, policy, Epoch(earlier))
    assert found != before
    for each in before:
        ended = dt.date.fromisoformat(each["date"]) + dt.timedelta(days=each["days"] - 1)
        assert ended <= dt.date(2025, 6, 30)


@pytest.mark.usefixtures("desk")
def test_the_job_keeps_it_and_tells_it(set_market: Any) -> None:
    decided("strong sell", lots_before=0, lots_after=-4)
    tasks.personal_signals.delay(scheduled_for=ist("2026-05-29 16:00").isoformat())
    run = JobRun.objects.get()
    assert run.state == "done" and "strong sell, hold 4 lots short" in run.detail
    notice = Notice.objects.get()
    assert notice.channel == "trading" and notice.text == run.detail
    set_market(ist("2026-05-30 16:00"))
    tasks.personal_signals.delay(scheduled_for=ist("2026-05-30 16:00").isoformat())
    assert JobRun.objects.get(scheduled_for=ist("2026-05-30 16:00")).state == "skipped"


@pytest.mark.usefixtures("desk")
def test_without_a_decision_there_is_no_signal() -> None:
    with pytest.raises(Degraded, match="made no decision at the close of 29 May 2026"):
        signals.make(DAY)
    decided("hold", reason="no model yet", model="", lots_after=1)
    with pytest.raises(Skipped, match="no model yet"):
        signals.make(DAY)
    assert not Signal.on("nifty").objects.exists()


@pytest.mark.usefixtures("desk")
def test_an_owner_without_trades_explains_nothing() -> None:
    from markets.models import OwnerTrade

    OwnerTrade.on("nifty").objects.filter(came_by=CameBy.GENERATED).delete()
    decided()
    signal = signals.make(DAY)
    assert signal.neighbours == [] and "Most like it" not in signals.sentence(signal)


@pytest.mark.usefixtures("desk")
def test_the_command_shows_them() -> None:
    def said(*arguments: str) -> str:
        out = StringIO()
        call_command("signals", *arguments, stdout=out)
        return out.getvalue()

    assert "No signal yet" in said()
    with pytest.raises(CommandError, match="made no decision"):
        said("--make")
    decided()
    shown = said("--make")
    assert "Mon 01 Jun" in shown and "+3 lots" in shown and "88%" in shown
    assert "not a promise" in shown and "(simulated)" in shown
    [row] = json.loads(said("--json"))
    assert row["action"] == "buy" and np.isclose(row["confidence"], 0.88)
