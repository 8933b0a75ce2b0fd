"""Which training runs there are, and that each of their stages is done once.

Where a step's own work does not matter a light one stands in for it; test_steps.py does them all
for real.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from markets import store
from markets.models import Source
from tests import histories
from tests.training.pipeline.runs import (
    SLOT,
    fresh,
    make_run,
    messages,
)
from tradingsite import clock
from tradingsite.registry import SLOTS
from tradingsite.scheduling import leases
from training import tasks
from training.models import TrainingRun
from training.pipeline import runs as pipeline_runs

pytestmark = [
    pytest.mark.django_db(databases=["default", "btc", "nifty"]),
    pytest.mark.usefixtures("desk"),
]

State = TrainingRun.State


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
