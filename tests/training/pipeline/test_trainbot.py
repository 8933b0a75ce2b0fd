"""The trainbot command: whom it trains, where, and what it says."""

import datetime as dt
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bots.modelstore import services as modelstore
from markets import store
from markets.models import Source
from tests import histories
from tests.training.pipeline.runs import (
    SLOT,
    TIMESTEPS,
    champion,
    fresh,
    make_run,
    messages,
    work_off,
)
from tradingsite import clock
from tradingsite.models import Heartbeat
from tradingsite.scheduling import leases
from training.management.commands import trainbot
from training.models import TrainingRun
from training.pipeline import follow
from training.pipeline import runs as pipeline_runs
from training.pipeline.run_report import owner_similarity
from training.pipeline.runs import STAGES

# The last is for the slots of the market that is left out for having no bars.
pytestmark = pytest.mark.django_db(databases=["default", "btc", "nifty"])

State = TrainingRun.State
real = pytest.mark.django_db(databases=["default", "btc", "pc_btc"], transaction=True)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> None:
    """Have data folders of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"


@pytest.fixture
def learnable() -> None:
    """Have enough of BTC's 4h bars to learn from."""
    store.save_bars("btc", "4h", histories.four_hours(1_100), Source.IMPORTED)
    store.rebuild_features("btc", "4h")


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the desk's workers report that they are up, and steps that take no time."""
    now = clock.real()
    for name in trainbot.WORKERS:
        Heartbeat.objects.create(service=name, pid=1, started_at=now, beat_at=now, state="working")

    def step(run: TrainingRun) -> str:
        baselines = {"buy_and_hold": {"net_return": 0.01}}
        metrics = {"holdout": {"net_return": 0.025, "trades": 12}, "baselines": baselines}
        leases.write(run, metrics=metrics, model_number=champion(number=7).number)
        return "light"

    for first, (task, steps) in STAGES.items():
        monkeypatch.setitem(pipeline_runs.STAGES, first, (task, (step,) * len(steps)))


def train(*arguments: str) -> tuple[str, str]:
    """Run the command and return what it says, and what it says of errors."""
    said, aside = StringIO(), StringIO()
    call_command("trainbot", *arguments, stdout=said, stderr=aside)
    return said.getvalue(), aside.getvalue()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "name a bot (and a timeframe), or give --all"),
        (("btc", "--all"), "name a bot (and a timeframe), or give --all"),
        (("gold",), "invalid choice: 'gold'"),
        (("btc", "15m"), "there is no slot btc 15m; the slots are: nifty 15m"),
        (("btc", "--until", "yesterday"), "'yesterday' is not a day like 2024-05-31"),
        (("btc", "--timesteps", "0"), "'0' is not a positive number of steps"),
        (("btc", "--timesteps", "many"), "'many' is not a positive number of steps"),
        (("btc", "4h"), "btc-4h: btc has no 4h bars: import or generate some first"),
        (("personal", "1d"), "personal-1d: the owner traded nothing by hand yet"),
        (("personal",), "there is nothing to train"),
        (("--all",), "there is nothing to train"),
    ],
)
def test_what_it_cannot_do_is_said(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CommandError) as refused:
        train(*arguments)
    assert reason in str(refused.value)
    assert not TrainingRun.objects.exists()


def test_the_help_says_where_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("trainbot", "--help")
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Ctrl-C ends the following, not the training" in said
    for option in ("--all", "--until", "--timesteps", "--seed", "--here"):
        assert option in said


@pytest.mark.usefixtures("queue", "learnable", "workers")
def test_with_workers_up_it_follows_the_run_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: done.extend(work_off()))
    said, aside = train("--all", "--until", "2025-05-31", "--timesteps", "123", "--seed", "5")
    assert done[0] == "export_and_ship" and done[-1] == "clean_up"
    assert said == (
        "btc-4h v7 is active. Held out, after charges and slippage: +2.50% in 12 orders; "
        "flat +0.00%, buy-and-hold +1.00%.\n"
    )
    left_out = {line.partition(" ")[0] for line in aside.splitlines()}
    assert left_out == {"nifty-15m", "nifty-1h", "nifty-1d", "personal-1d", "btc-1h"}
    run = TrainingRun.objects.get()
    assert (run.timesteps, run.seed, run.trigger) == (123, 5, "trainbot")
    assert run.until == dt.datetime(2025, 5, 31, 23, 59, 59, tzinfo=clock.IST)


@pytest.mark.usefixtures("queue", "learnable", "workers")
def test_ctrl_c_ends_the_following_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupted)
    _, aside = train("btc", "4h")
    assert "No longer following; the training goes on in its workers." in aside
    run = TrainingRun.objects.get()
    assert run.state == State.QUEUED
    assert [task for task, _, _ in messages()] == ["training.tasks.export_and_ship"]


@pytest.mark.usefixtures("queue", "learnable", "workers")
def test_a_run_that_is_going_is_not_begun_again() -> None:
    run = make_run()
    with pytest.raises(CommandError, match=rf"btc-4h: run {run.pk} of btc-4h is still going; wait"):
        train("btc", "4h")
    with pytest.raises(CommandError, match="nothing to train"):
        train("btc")
    assert fresh(run).state == State.QUEUED
    assert list(messages()) == []


@pytest.mark.usefixtures("learnable")
def test_without_workers_a_run_that_is_held_is_waited_for() -> None:
    run = make_run()
    assert leases.claim(run) is not None
    with pytest.raises(CommandError, match="is still going"):
        train("btc", "4h")
    assert fresh(run).state == State.QUEUED


@pytest.mark.usefixtures("learnable")
def test_without_workers_a_run_left_lying_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[TrainingRun] = []

    monkeypatch.setattr(follow, "run_here", here.append)
    left = make_run()
    with pytest.raises(CommandError, match="1 of 1 runs did not end with a model"):
        train("btc", "4h")
    assert fresh(left).state == State.FAILED
    assert fresh(left).detail == "it was left lying; a new run takes its place"
    assert [run.pk for run in here] == [TrainingRun.objects.latest("pk").pk] != [left.pk]


@pytest.mark.usefixtures("learnable")
def test_ctrl_c_where_it_runs_here_says_what_becomes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(run: TrainingRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "run_here", interrupted)
    with pytest.raises(CommandError, match="stopped; workers, or the next trainbot, begin again"):
        train("btc", "4h")


@real
@pytest.mark.usefixtures("learnable")
def test_without_workers_it_trains_here() -> None:
    said, aside = train("btc", "4h", "--until", "2025-05-18", "--timesteps", str(TIMESTEPS))
    assert "No worker serves the queues (worker, gpu-worker, pc-worker not up)" in aside
    assert said.startswith("btc-4h v1 is active. Held out, after charges and slippage: ")
    version = modelstore.active(SLOT.slug)
    assert version is not None
    assert version.trained_until < dt.datetime(2025, 5, 19, tzinfo=clock.IST)


@real
@pytest.mark.usefixtures("learnable")
def test_a_run_that_is_refused_here_ends_with_its_reason() -> None:
    said = StringIO()
    with pytest.raises(CommandError, match="1 of 1 runs did not end with a model"):
        call_command("trainbot", "btc", "4h", "--until", "2025-04-10", "--here", stdout=said)
    assert said.getvalue().startswith("btc-4h: refused. 5")
    assert "to train on, at least 500 are needed" in said.getvalue()


@real
@pytest.mark.usefixtures("learnable")
def test_an_error_here_is_shown_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(run: TrainingRun) -> str:
        raise RuntimeError("nobody thought of this")

    task, steps = STAGES[1]
    monkeypatch.setitem(pipeline_runs.STAGES, 1, (task, (breaks, *steps[1:])))
    said = StringIO()
    with pytest.raises(CommandError, match="1 of 1 runs"):
        call_command("trainbot", "btc", "4h", stdout=said)
    assert said.getvalue() == "btc-4h: failed. RuntimeError: nobody thought of this\n"


def test_a_personal_model_says_how_like_the_owner_it_is() -> None:
    like = {
        "decisions": 141,
        "recall": 0.38,
        "precision": None,
        "overlap": 0.35,
        "long_share": 0.22,
        "short_share": 0.35,
        "owner_long_share": 0.14,
        "owner_short_share": 0.31,
        "net_return": -0.07,
    }
    said = owner_similarity(
        {
            "model": like,
            "clone": like | {"precision": 0.47},
            "always_hold": {"overlap": 0.55},
            "just_copy_me": {"net_return": 0.02},
        }
    )
    assert "(141 trades of his)" in said and "makes 38% of his trades, none of its own" in said
    assert "47% of its own are his" in said and "long 22% (he 14%)" in said
    assert "always hold  same side 55%" in said and "just copy me  net +2.00%" in said
