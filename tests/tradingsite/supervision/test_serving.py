"""The loop of the long-running processes: it stops when asked and outlives PostgreSQL."""

import os
import signal
import threading
import time
from itertools import pairwise

import pytest
from django.db import OperationalError, connections

from tradingsite.models import Heartbeat
from tradingsite.supervision import heartbeat, serving
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve, stopping


@pytest.mark.django_db
def test_a_heartbeat_is_written_when_the_state_changes_else_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    beat = Beat("a-service")
    for second, state, detail in (
        (0.0, "starting", "a"),
        (0.5, "running", "b"),
        (1.0, "running", "c"),
        (2.6, "running", "d"),
    ):
        now[0] = 100.0 + second
        beat.beat(state, detail)
        row = Heartbeat.objects.get()
        assert (row.state, row.pid) == (state, os.getpid())
        assert row.detail == {"c": "b"}.get(detail, detail)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_finish_and_says_stopped(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    steps: list[str] = []

    def step() -> None:
        steps.append("began")
        os.kill(os.getpid(), number)
        steps.append("finished")

    try:
        serve(Beat("a-service"), step, every_seconds=30.0)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert steps == ["began", "finished"]
    assert Heartbeat.objects.get().state == "stopped"


@pytest.mark.django_db(transaction=True)
def test_a_restart_of_the_database_is_lived_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "FIRST_PAUSE_SECONDS", 0.01)
    stop = threading.Event()
    seen: list[int] = []

    def step() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            seen.append(cursor.fetchone()[0])
            if len(seen) == 3:
                stop.set()
            if len(seen) == 2:
                # What a client sees of a server that goes down in the middle of its statement.
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    serve(Beat("a-service"), step, every_seconds=0.0, stop=stop)
    assert len(seen) == 3
    assert seen[1] == seen[0] != seen[2]


@pytest.mark.django_db
def test_a_database_that_stays_away_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(serving, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(type(connections["default"]), "close", lambda self: None)
    tried = []

    def step() -> None:
        tried.append(time.monotonic())
        raise OperationalError("connection refused")

    with pytest.raises(SystemExit) as ended:
        serve(Beat("a-service"), step, every_seconds=0.0, stop=threading.Event())
    assert ended.value.code == 1
    assert len(tried) > 2
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses[-1] > pauses[0]


def test_the_event_of_stopping_is_set_by_a_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = stopping()
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1.0)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
