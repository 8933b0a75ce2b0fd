"""Workers that die, lose their lease or never hear of their stage: the run goes on or ends."""

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from tests.training.pipeline.runs import (
    SLOT,
    champion,
    finished,
    fresh,
    make_run,
    messages,
    sealed_run,
    the_notice,
    work_off,
)
from tradingsite import clock
from tradingsite.models import Notice
from tradingsite.scheduling import leases
from tradingsite.supervision.heartbeat import Beat
from training.models import TrainingRun
from training.pipeline import prod_steps
from training.pipeline import runs as pipeline_runs

pytestmark = [
    pytest.mark.django_db(databases=["default", "btc", "nifty"]),
    pytest.mark.usefixtures("desk"),
]

State = TrainingRun.State


def take_over(run: TrainingRun) -> TrainingRun:
    """Let a run's lease lapse and another worker claim it."""
    TrainingRun.objects.filter(pk=run.pk).update(lease_until=clock.real() - dt.timedelta(seconds=1))
    other = leases.claim(run)
    assert other is not None
    leases.write(other, lease_owner="another worker")
    return other


class Killed(BaseException):
    """Ends a stage as a kill does: nothing is caught, nothing written, the lease stays."""


def test_a_worker_that_lost_its_lease_writes_nothing_more(steps: Callable[..., list[int]]) -> None:
    def lose(run: TrainingRun) -> str:
        take_over(run)
        return "done too late"

    ran = steps(export=lose)
    run = make_run()
    assert pipeline_runs.advance(run.pk, 1) is None
    stored = fresh(run)
    assert ran == [1]  # its next step is not even begun
    assert finished(run) == []
    assert (stored.lease_owner, stored.state) == ("another worker", State.RUNNING)


@pytest.mark.parametrize("error", [OSError("its files are gone"), ValueError("so are its wits")])
def test_a_worker_that_lost_its_lease_cannot_fail_the_run(
    steps: Callable[..., list[int]], error: Exception
) -> None:
    def lose(run: TrainingRun) -> str:
        take_over(run)
        raise error

    steps(export=lose)
    run = make_run()
    assert pipeline_runs.advance(run.pk, 1) is None
    assert fresh(run).state == State.RUNNING
    assert not Notice.objects.exists()


def test_a_worker_that_lost_its_lease_cannot_switch_the_model(
    steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sealed_run(steps)
    load_test = prod_steps._load_test

    def lose(folder: Path) -> None:
        load_test(folder)
        take_over(run)

    monkeypatch.setattr(prod_steps, "_load_test", lose)
    assert pipeline_runs.advance(run.pk, 5) is None
    assert not ModelVersion.objects.exists()
    assert not modelstore.models_folder().exists()
    assert fresh(run).model_number is None
    # Whoever took it over does it, from the start of the stage.
    monkeypatch.setattr(prod_steps, "_load_test", load_test)
    TrainingRun.objects.filter(pk=run.pk).update(lease_until=None)
    pipeline_runs.advance(run.pk, 5)
    assert ModelVersion.objects.count() == Activation.objects.count() == 1
    assert fresh(run).model_number == 1


@pytest.mark.usefixtures("queue")
def test_a_run_that_keeps_dying_is_failed_and_the_old_model_trades(
    steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(run: TrainingRun) -> str:
        raise Killed

    steps(train=dies)
    old = champion()
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.01)
    for attempt in range(1, pipeline_runs.MAX_ATTEMPTS + 1):
        with pytest.raises(Killed):
            pipeline_runs.advance(run.pk, 3)
        assert fresh(run).attempts == attempt
        time.sleep(0.02)
        assert pipeline_runs.recover_lapsed() == 1
    asked = [task for task, _, _ in messages()]
    assert asked == ["training.tasks.train_on_pc"] * (pipeline_runs.MAX_ATTEMPTS - 1)
    stored = fresh(run)
    assert stored.state == State.FAILED
    assert stored.detail == "its worker died 3 times in step train"
    assert the_notice().severity == "critical"
    assert the_notice().text == (
        f"btc-4h training run {run.pk} failed: its worker died 3 times in step train. "
        "Nothing was activated; v1 keeps trading."
    )
    assert modelstore.active(SLOT.slug) == old
    assert pipeline_runs.recover_lapsed() == 0
    assert pipeline_runs.enqueue(SLOT, "a job", clock.real(), timesteps=1, send=False) is not None


@pytest.mark.usefixtures("queue")
def test_a_worker_that_dies_after_the_last_step_leaves_no_open_run(
    steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps()
    run = make_run()
    for first in (1, 3, 5, 6):
        pipeline_runs.advance(run.pk, first)

    def dies(row: Any, **fields: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(leases, "LEASE_SECONDS", 0.01)
        patched.setattr(leases, "release", dies)
        with pytest.raises(Killed):
            pipeline_runs.advance(run.pk, 7)
    assert finished(run) == [1, 2, 3, 4, 5, 6, 7] and fresh(run).state == State.RUNNING
    time.sleep(0.02)
    assert pipeline_runs.recover_lapsed() == 1
    assert work_off() == ["clean_up"]
    assert fresh(run).state == State.DONE


@pytest.mark.usefixtures("queue")
def test_a_lost_message_is_sent_again_after_a_while(steps: Callable[..., list[int]]) -> None:
    steps()
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    assert pipeline_runs.recover_lapsed() == 0  # it may be waiting for a busy worker
    ago = clock.real() - pipeline_runs.RESEND_AFTER - dt.timedelta(seconds=1)
    run.steps.update(finished_at=ago)
    assert pipeline_runs.recover_lapsed() == 1
    assert work_off() == ["train_on_pc", "verify_and_activate", "archive_on_pc", "clean_up"]
    assert fresh(run).state == State.DONE
    assert pipeline_runs.recover_lapsed() == 0


@pytest.mark.usefixtures("queue")
def test_a_stage_that_waits_is_asked_for_now_and_then_and_its_want_said_once(
    steps: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    steps()
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    true, minutes = clock.real, [4.0]
    monkeypatch.setattr(clock, "real", lambda: true() + dt.timedelta(minutes=minutes[0]))
    asked = 0
    for _ in range(60):  # a quarter of an hour of the monitor's looks
        asked += pipeline_runs.recover_lapsed()
        minutes[0] += 0.25
    assert asked == len(list(messages())) == 5
    said = [record.getMessage() for record in caplog.records if "no worker" in record.getMessage()]
    assert said == [f"{run} has no worker: no GPU worker is running; it waits for one"]


@pytest.mark.usefixtures("queue")
def test_a_busy_worker_is_not_called_missing(
    steps: Callable[..., list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    steps()
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    run.steps.update(finished_at=clock.real() - 2 * pipeline_runs.RESEND_AFTER)
    Beat("gpu-worker").beat("running", "takes tasks")
    assert pipeline_runs.recover_lapsed() == 1 and pipeline_runs.recover_lapsed() == 0
    assert not [each for each in caplog.records if each.name == "training.pipeline.runs"]
