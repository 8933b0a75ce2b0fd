"""A model that does worse live than its recipe ever did goes back, where that is asked for."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from bots.models import Decision, PnlSnapshot
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from tests.desk import ist
from tests.training.pipeline.runs import SLOT
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling.jobs import NotWanted
from training import recipes, tasks
from training.evaluation.refit_gate import RefitRange
from training.selection import demotion
from training.selection.demotion import LivePerformance, demotion_reason

pytestmark = pytest.mark.django_db(databases=["default", "btc"])

BEGAN = ist("2026-06-01 09:30")
ALLOWED = RefitRange(250, -0.10, 0.20)


@pytest.mark.parametrize(
    ("net_return", "bars", "goes"),
    [
        (-0.5, demotion.MIN_BARS - 1, False),  # too early to tell
        (-0.10, 250, False),
        (-0.11, 250, True),
        (-0.04, 25, True),  # a tenth of the bars, a third of the loss
        (-0.03, 25, False),
        (0.30, 250, False),  # too good is no reason to go back
    ],
)
def test_the_bound_grows_with_the_root_of_the_bars(
    net_return: float, bars: int, goes: bool
) -> None:
    assert bool(demotion_reason(LivePerformance(net_return, bars), ALLOWED)) is goes


def test_a_recipe_that_never_lost_allows_no_gain_to_be_a_loss() -> None:
    assert demotion_reason(LivePerformance(-0.001, 250), RefitRange(250, 0.05, 0.3))
    assert not demotion_reason(LivePerformance(0.001, 250), RefitRange(250, 0.05, 0.3))


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[ModelVersion]:
    """Have two versions of a slot, of which the second trades, and a recipe of known range."""
    made: list[ModelVersion] = []
    settings.DEMOTE_SLOTS = SLOT.slug
    monkeypatch.setattr(recipes, "range_of", lambda recipe: ALLOWED)
    monkeypatch.setattr(modelstore, "verify_version", lambda version: None)
    monkeypatch.setattr(modelstore, "restore_files", lambda version: None)
    monkeypatch.setattr(modelstore, "previous", lambda slot: made[0])
    made += [
        ModelVersion.objects.create(
            slot=SLOT.slug,
            number=number,
            run_id=number,
            state=state,
            path=f"{SLOT.slug}/v{number}",
            manifest_sha256="0" * 64,
            trained_from=BEGAN,
            trained_until=BEGAN,
            created_at=BEGAN,
        )
        for number, state in ((1, "retired"), (2, "active"))
    ]
    Activation.objects.create(
        slot=SLOT.slug, model=made[1], at=BEGAN, market_at=BEGAN, by="a test", reason="newest"
    )
    return made


def trade(bars: int, equity: str, model: str = "btc-4h v2") -> None:
    """Have the bot decide some bars and stand at an equity after them."""
    closes = [BEGAN + dt.timedelta(hours=4 * bar) for bar in range(1, bars + 1)]
    Decision.on("btc").objects.bulk_create(
        Decision.on("btc")(
            slot=SLOT.slug,
            bar_closes_at=at,
            decided_at=at,
            action="hold",
            lots_before=0,
            lots_after=0,
            price=Decimal(60_000),
            model=model,
        )
        for at in closes
    )
    for at, value in ((BEGAN, "100"), (closes[-1], equity)):
        PnlSnapshot.on("btc").objects.create(
            slot=SLOT.slug,
            at=at,
            equity=Decimal(value),
            unrealised=0,
            charges=0,
            lots=0,
            mark=60_000,
        )


def test_what_it_did_is_counted_from_its_switch(versions: list[ModelVersion]) -> None:
    trade(30, "340")  # four lots of 0.01 BTC at 60,000 are 2,400
    live = demotion.live_performance(SLOT.slug, versions[1])
    assert live == LivePerformance(pytest.approx(0.1), 30)  # type: ignore[arg-type]  # compares as one


def test_a_bad_one_goes_back_and_says_so(versions: list[ModelVersion]) -> None:
    trade(30, "-200")
    tasks.demote.delay(scheduled_for=ist("2026-06-08 10:40").isoformat())
    run = JobRun.objects.get()
    assert run.state == "done" and "btc-4h v2 went back to v1" in run.detail
    assert modelstore.active(SLOT.slug) == versions[0]
    switch = modelstore.rollback_lock(SLOT.slug)
    assert switch is not None and switch.by == "automatic demotion"
    assert "-12.50% over 30 live bars" in switch.reason
    notice = Notice.objects.get(key=f"demotion:{SLOT.slug}")
    assert notice.severity == "critical" and "New models wait" in notice.text


def test_a_good_or_a_young_one_stays(versions: list[ModelVersion]) -> None:
    trade(30, "90")
    assert "-0.42% over 30 bars" in demotion.review_slot(SLOT.slug)
    assert modelstore.active(SLOT.slug) == versions[1]


def test_only_where_it_is_asked_for(versions: list[ModelVersion], settings: Any) -> None:
    trade(30, "-200")
    settings.DEMOTE_SLOTS = ""
    with pytest.raises(NotWanted):
        demotion.require_participants(BEGAN)
    settings.DEMOTE_SLOTS = "btc-9h"
    with pytest.raises(ValueError, match="DEMOTE_SLOTS names btc-9h"):
        demotion.participating_slots()
    assert modelstore.active(SLOT.slug) == versions[1]
