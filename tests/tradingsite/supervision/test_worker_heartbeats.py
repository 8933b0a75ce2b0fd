"""Heartbeats of Celery's workers and the web server; `test_up` sees the real ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.signals import worker_shutdown
from django.db import OperationalError
from kombu.asynchronous.timer import Timer

from tradingsite.models import Heartbeat
from tradingsite.supervision import worker_heartbeats
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.services import SERVICE_VARIABLE


@pytest.fixture(autouse=True)
def keep_the_transaction(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing renew the connection of the test's transaction, and leave no receiver behind."""
    monkeypatch.setattr(worker_heartbeats, "close_old_connections", lambda: None)
    before = list(worker_shutdown.receivers)
    yield
    worker_shutdown.receivers = before


class Consumer:
    """Stand in for Celery's consumer: a loop that a test turns, on kombu's own timer."""

    def __init__(self) -> None:
        self.timer = Timer()


@pytest.mark.django_db
def test_a_worker_reports_as_the_service_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICE_VARIABLE, "gpu-worker")
    app = Celery("of a test", set_as_current=False)
    worker_heartbeats.report_celery(app)
    (step,) = app.steps["consumer"]
    pulse, consumer = step(Consumer()), Consumer()
    pulse.start(consumer)
    assert Heartbeat.objects.get().service == "gpu-worker"
    assert Heartbeat.objects.get().state == "running"
    assert len(consumer.timer.queue) == 1, "and goes on"
    pulse.stop(consumer)
    assert consumer.timer.queue[0].entry.cancelled
    worker_shutdown.send(sender=None)
    assert Heartbeat.objects.get().state == "stopped"


@pytest.mark.django_db
def test_a_worker_started_by_hand_does_not_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVICE_VARIABLE, raising=False)
    app = Celery("of a test", set_as_current=False)
    worker_heartbeats.report_celery(app)
    assert not app.steps["consumer"]
    worker_heartbeats.report_answers("127.0.0.1", 1)
    assert Heartbeat.objects.count() == 0


def test_without_a_database_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[object] = []

    def away(self: Any, state: str, detail: str = "") -> None:
        did.append((self.service, state, detail))
        raise OperationalError("the server closed the connection")

    def renew() -> None:
        did.append("renews")

    monkeypatch.setattr(Beat, "beat", away)
    monkeypatch.setattr(worker_heartbeats, "close_old_connections", renew)
    worker_heartbeats.report(Beat("worker"), "running", "at work")
    # Twice: an old connection is not used, and the one that failed is not kept for the next task.
    assert did == ["renews", ("worker", "running", "at work"), "renews"]


def test_a_fault_that_is_not_the_databases_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, state: str, detail: str = "") -> None:
        raise KeyError(state)

    monkeypatch.setattr(Beat, "beat", wrong)
    with pytest.raises(KeyError):
        worker_heartbeats.report(Beat("worker"), "running")
