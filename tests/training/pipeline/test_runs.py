"""When the steps of a training run are done, by whom, and what is known when they go wrong.

A message twice, a lost lease, a dying worker, a flipped byte, a full disk: after each the desk must
know what happened and trade the model it had. Where a step's own work does not matter a light one
stands in for it; test_stages.py does them all for real.
"""

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client
from django.urls import reverse

from bots.modelstore import services as modelstore
from bots.modelstore.bundle import ENCODER
from bots.modelstore.keys import generate_keys, load_private_key
from bots.modelstore.models import Activation, ModelVersion
from markets import store
from markets.domain.features import schema_for
from markets.models import Source
from tests import histories
from tests.bots.modelstore.bundles import make_bundle
from tests.training.pipeline.runs import (
    SLOT,
    champion,
    finished,
    fresh,
    make_run,
    messages,
    the_notice,
    work_off,
)
from tradingsite import clock
from tradingsite.models import Notice
from tradingsite.registry import SLOTS
from tradingsite.scheduling import leases
from tradingsite.supervision.heartbeat import Beat
from training import tasks
from training.models import Copy, TrainingRun
from training.pipeline import dataset, folders, prod_steps
from training.pipeline import runs as pipeline_runs
from training.pipeline.runs import STAGES, STEPS

pytestmark = pytest.mark.django_db(databases=["default", "btc", "nifty"])

State = TrainingRun.State


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, settings: Any) -> Path:
    """Have a data folder of our own."""
    settings.PROD_DIR, settings.PC_DIR = tmp_path / "prod", tmp_path / "pc"
    return tmp_path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return a function that puts light steps in the place of the real ones.

    The list it returns fills with the numbers of the steps that ran.
    """

    def put(**bodies: Callable[[TrainingRun], str]) -> list[int]:
        ran: list[int] = []

        def light(number: int) -> Callable[[TrainingRun], str]:
            def step(run: TrainingRun) -> str:
                ran.append(number)
                body = bodies.get(STEPS[number - 1])
                return body(run) if body else f"did {STEPS[number - 1]}"

            return step

        for first, (task, real) in STAGES.items():
            replaced = tuple(light(first + place) for place in range(len(real)))
            monkeypatch.setitem(pipeline_runs.STAGES, first, (task, replaced))
        return ran

    return put


def test_only_one_run_of_a_slot_is_open_at_a_time(steps: Callable[..., list[int]]) -> None:
    steps()
    at = clock.real()
    first = pipeline_runs.enqueue(SLOT, "a job", at, timesteps=1, send=False)
    assert first is not None
    later = at + dt.timedelta(hours=2)
    assert pipeline_runs.enqueue(SLOT, "a job", later, timesteps=1, send=False) is None
    assert pipeline_runs.enqueue(SLOT, "trainbot", later, timesteps=1, send=False) is None
    assert pipeline_runs.enqueue(SLOTS["btc-1h"], "a job", at, timesteps=1, send=False) is not None
    pipeline_runs.run_in_place(first)
    assert (
        pipeline_runs.enqueue(SLOT, "a job", at, timesteps=1, send=False) is None
    )  # the same firing
    assert pipeline_runs.enqueue(SLOT, "a job", later, timesteps=1, send=False) is not None


@pytest.mark.usefixtures("queue")
def test_each_stage_asks_for_the_next_on_the_queue_of_its_machine(
    steps: Callable[..., list[int]],
) -> None:
    ran = steps()
    run = pipeline_runs.enqueue(SLOT, "a job", clock.real(), timesteps=1)
    assert run is not None
    seen = []
    for task, arguments, headers in messages():
        assert arguments == [run.pk]
        assert headers["expires"]  # a message gives no right, and does not wait for ever
        seen.append((task.rpartition(".")[2], headers["queue"]))
        getattr(tasks, seen[-1][0])(*arguments)
    assert seen == [
        ("export_and_ship", "prod"),
        ("train_on_pc", "gpu"),
        ("verify_and_activate", "prod"),
        ("archive_on_pc", "pc"),
        ("clean_up", "prod"),
    ]
    assert ran == [1, 2, 3, 4, 5, 6, 7]
    assert fresh(run).state == State.DONE


@pytest.mark.usefixtures("queue")
def test_a_message_delivered_twice_does_nothing(steps: Callable[..., list[int]]) -> None:
    def again(run: TrainingRun) -> str:
        # While the stage runs, its message comes once more.
        assert pipeline_runs.advance(run.pk, 1) is None
        return "exported"

    ran = steps(export=again)
    run = make_run()
    tasks.export_and_ship(run.pk)
    before = list(run.steps.values())
    tasks.export_and_ship(run.pk)
    tasks.clean_up(run.pk)  # nor does one that is early
    assert ran == [1, 2]
    assert list(run.steps.values()) == before
    assert [task for task, _, _ in messages()] == ["training.tasks.train_on_pc"]
    pipeline_runs.run_in_place(run)
    assert pipeline_runs.advance(run.pk, 7) is None
    assert ran == [1, 2, 3, 4, 5, 6, 7]


def test_a_message_that_waited_for_another_workers_stage_does_nothing(
    steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = steps()
    run = make_run()
    claim = leases.claim

    def late(row: Any, **where: Any) -> Any:
        # Between this worker's look and its claim another one does the whole stage.
        monkeypatch.setattr(leases, "claim", claim)
        pipeline_runs.advance(run.pk, 1)
        return claim(row, **where)

    monkeypatch.setattr(leases, "claim", late)
    assert pipeline_runs.advance(run.pk, 1) is None
    assert ran == [1, 2]
    assert fresh(run).lease_until is None
    assert pipeline_runs.advance(run.pk, 3) is not None


def take_over(run: TrainingRun) -> TrainingRun:
    """Let a run's lease lapse and another worker claim it."""
    TrainingRun.objects.filter(pk=run.pk).update(lease_until=clock.real() - dt.timedelta(seconds=1))
    other = leases.claim(run)
    assert other is not None
    leases.write(other, lease_owner="another worker")
    return other


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


def sealed_run(steps: Callable[..., list[int]]) -> TrainingRun:
    """Return a run whose first four steps are done: a signed bundle lies in PC's outbox."""
    private = Path(settings.PC_DIR) / "keys" / "signing.pem"
    generate_keys(private, modelstore.keys_folder())

    def seal(run: TrainingRun) -> str:
        manifest = {"slot": SLOT.slug, "bot": "btc", "market": "btc", "timeframe": "4h"}
        manifest |= {"run_id": str(run.pk), "schema_hash": schema_for("btc", "4h").hash}
        make_bundle(folders.outbox(run), load_private_key(private), **manifest)
        return "signed"

    steps(hash=seal, verify=prod_steps.verify_and_activate)
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    return run


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


class Killed(BaseException):
    """Ends a stage as a kill does: nothing is caught, nothing written, the lease stays."""


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


def test_a_failure_tells_its_cause_and_not_the_last_line_of_what_postgresql_says(
    steps: Callable[..., list[int]],
) -> None:
    def full(run: TrainingRun) -> str:
        raise OperationalError(
            "could not extend file: No space left on device\nHINT:  Check free disk space.\n"
            "CONTEXT:  COPY markets_bar, line 3010"
        )

    steps(export=full)
    run = make_run()
    with pytest.raises(OperationalError):
        pipeline_runs.advance(run.pk, 1)
    assert (
        f"run {run.pk} failed: OperationalError: could not extend file: No space left on device. "
    ) in the_notice().text
    assert "CONTEXT" in fresh(run).detail


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


def test_a_model_file_corrupted_before_activation_is_refused_and_quarantined(
    desk: Path, steps: Callable[..., list[int]]
) -> None:
    old = champion()
    run = sealed_run(steps)
    graph = desk / "pc" / "link" / "outbox" / f"{SLOT.slug}-run{run.pk}" / ENCODER
    body = bytearray(graph.read_bytes())
    body[len(body) // 2] ^= 1
    graph.write_bytes(body)
    pipeline_runs.run_in_place(run)
    stored = fresh(run)
    assert stored.state == State.REFUSED
    assert "encoder.onnx: its sha256 is not the one in the manifest" in stored.detail
    assert finished(run) == [1, 2, 3, 4]
    (quarantined,) = (desk / "prod" / "quarantine").iterdir()
    assert (quarantined / ENCODER).read_bytes() == bytes(body)
    assert f"The files are in {quarantined}" in stored.detail
    assert the_notice().severity == "critical"
    assert the_notice().text.endswith("Nothing was activated; v1 keeps trading.")
    assert modelstore.active(SLOT.slug) == old
    assert ModelVersion.objects.count() == 1
    assert not (desk / "prod" / "models").exists()


def test_a_model_that_hangs_in_its_load_test_is_refused(
    desk: Path, steps: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(run: TrainingRun) -> str:
        prod_steps._load_test(desk)
        return "it ended after all"

    steps(verify=verify)
    monkeypatch.setattr(prod_steps, "LOAD_TEST_SECONDS", 0.01)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.REFUSED
    assert "the load test did not end within 0.01 s" in run.detail


def test_no_disk_space_for_the_export_is_told_and_nothing_changes(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = champion()
    monkeypatch.setattr(dataset, "RESERVE_MB", 10**9)
    run = pipeline_runs.run_in_place(make_run())
    assert run.state == State.REFUSED
    text = the_notice().text
    assert "was refused: no disk space for the export:" in text and "Make room" in text
    assert text.endswith("run it again. Nothing was activated; v1 keeps trading.")
    assert modelstore.active(SLOT.slug) == old
    assert not list((desk / "prod").glob("exports/*"))


def test_an_unforeseen_error_fails_the_run_with_its_traceback(
    steps: Callable[..., list[int]],
) -> None:
    def breaks(run: TrainingRun) -> str:
        raise RuntimeError("nobody thought of this")

    steps(archive=breaks)
    champion()
    run = make_run()
    with pytest.raises(RuntimeError, match="nobody thought"):
        pipeline_runs.run_in_place(run)
    stored = fresh(run)
    assert stored.state == State.FAILED and stored.lease_until is None
    assert "Traceback" in stored.detail
    assert the_notice().text == (
        f"btc-4h training run {run.pk} failed: RuntimeError: nobody thought of this. "
        "Nothing was activated; v1 keeps trading."
    )


def test_a_failure_after_activation_does_not_say_that_nothing_was_activated(
    steps: Callable[..., list[int]],
) -> None:
    def verify(run: TrainingRun) -> str:
        ModelVersion.objects.filter(pk=champion().pk).update(run_id=run.pk)
        return "active"

    def breaks(run: TrainingRun) -> str:
        raise OSError("the archive is away")

    steps(verify=verify, archive=breaks)
    with pytest.raises(OSError, match="archive is away"):
        pipeline_runs.run_in_place(make_run())
    assert the_notice().text.endswith("was activated before: v1 trades.")


@pytest.fixture
def learnable() -> None:
    """Have 4h bars of BTC, enough for feature rows."""
    store.save_bars("btc", "4h", histories.four_hours(600), Source.IMPORTED)
    store.rebuild_features("btc", "4h")


@pytest.mark.usefixtures("learnable")
def test_what_cannot_be_trained_is_said() -> None:
    assert pipeline_runs.untrainable_reason(SLOT) is None
    assert pipeline_runs.untrainable_reason(SLOTS["btc-1h"]) == (
        "btc has no 1h bars: import or generate some first"
    )
    assert "traded nothing by hand" in str(pipeline_runs.untrainable_reason(SLOTS["personal-1d"]))


@pytest.mark.usefixtures("queue", "learnable")
def test_a_first_model_is_asked_for_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    btc = {slug: slot for slug, slot in SLOTS.items() if slot.market == "btc"}
    monkeypatch.setattr(pipeline_runs, "SLOTS", btc)  # the other databases are not in this test
    assert pipeline_runs.enqueue_missing(timesteps=1) == 1
    run = TrainingRun.objects.get()
    assert (run.slot, run.trigger, run.state) == ("btc-4h", "first start", State.QUEUED)
    assert pipeline_runs.enqueue_missing(timesteps=1) == 0
    assert [task for task, _, _ in messages()] == ["training.tasks.export_and_ship"]


def test_a_run_is_cancelled_from_the_admin(client: Client) -> None:
    client.force_login(User.objects.create_superuser("owner"))
    run = make_run()
    address = reverse("admin:training_trainingrun_changelist")
    asked = {"action": "cancel", "_selected_action": [run.pk]}
    page = client.post(address, asked, follow=True).content.decode()
    assert f"run {run.pk} of {SLOT.slug} is cancelled" in page
    assert fresh(run).state == State.CANCELLED and "cancelled by owner" in fresh(run).detail
    assert "is cancelled already" in client.post(address, asked, follow=True).content.decode()
    # Who may only look may not end a run.
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_trainingrun"))
    client.force_login(viewer)
    other = make_run()
    client.post(address, {"action": "cancel", "_selected_action": [other.pk]}, follow=True)
    assert fresh(other).state == State.QUEUED


def test_a_slot_is_trained_again_only_on_new_bars() -> None:
    store.save_bars("btc", "4h", histories.four_hours(300), Source.IMPORTED)
    store.rebuild_features("btc", "4h")
    closes_at = clock.from_seconds(int(store.load_features("btc", "4h").closes_at[-1]))
    assert pipeline_runs.nothing_new(SLOT, closes_at) is None  # it was never trained
    make_run(state=State.DONE, until=closes_at - dt.timedelta(hours=1))
    assert pipeline_runs.nothing_new(SLOT, closes_at) is None
    assert pipeline_runs.nothing_new(SLOT, closes_at - dt.timedelta(minutes=1)) is not None
    make_run(state=State.FAILED, until=closes_at)
    assert pipeline_runs.nothing_new(SLOT, closes_at) is None  # what failed taught nothing
    make_run(state=State.DONE, until=closes_at)
    assert pipeline_runs.nothing_new(SLOT, closes_at + dt.timedelta(hours=2)) == (
        "no new bar since its last training"
    )


def test_a_copy_that_was_lost_is_sent_anew_once_and_then_refused(
    steps: Callable[..., list[int]],
) -> None:
    def stale(run: TrainingRun) -> str:
        raise dataset.StaleCopy("PC has other rows")

    steps(train=stale)
    Copy.objects.create(slot=SLOT.slug, holding={"4h": []}, at=clock.real())
    run = make_run()
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    assert (fresh(run).state, finished(run)) == (State.RUNNING, []), "it begins again"
    pipeline_runs.advance(run.pk, 1)
    pipeline_runs.advance(run.pk, 3)
    assert fresh(run).state == State.REFUSED, "a whole export that does not fit ends it"
