"""A role's lock: who waits for it, who is said to hold it, and that it comes back."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from tests.desk import ist
from tests.test_architecture import ROOT
from tests.waiting import wait_for
from tradingsite import locks
from tradingsite.locks import LockHeld, ProcessLock, life
from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision import serving
from tradingsite.supervision.heartbeat import Beat

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
HOLDER = """
import django, sys, time
django.setup()
from tradingsite.locks import ProcessLock
ProcessLock(sys.argv[1], "btc").ensure()
print("held", flush=True)
time.sleep(60)
"""
# Every service of PROD that is one process, with the lock that it takes.
SERVICES = {
    "btc-bot": (("runbot", "btc"), "btc bot", "btc"),
    "btc-notifier": (("runnotifier", "btc"), "btc notifier", "btc"),
    "straddle-tracker": (("runstraddle",), "straddle tracker", "straddle"),
    "server-monitor": (("runmonitor",), "server monitor", "default"),
    "simulator": (("runsim",), "simulator", "default"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(serving, "HELD_PAUSE_SECONDS", (0.05, 0.1))


@contextmanager
def stranger(role: str, alias: str, name: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Hold a role's lock from a connection of one's own."""
    one = settings.DATABASES[alias]
    with psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=connections[alias].settings_dict["NAME"],
        application_name=name,
        autocommit=True,
    ) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [ProcessLock(role, alias).key])
        yield connection


def refusal(role: str = "a role") -> str:
    """Return what a process that wants the lock is told."""
    with pytest.raises(LockHeld) as held:
        ProcessLock(role, "btc").ensure()
    return str(held.value)


def test_who_holds_a_lock_is_said_with_whether_it_lives() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "a role"], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    said = refusal()
    assert said.startswith(f"the lock of the a role is held by a role pid {holder.pid} on ")
    assert f"(alive; kill {holder.pid} ends it): backend " in said and ", idle" in said
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    mine = ProcessLock("a role", "btc")
    assert wait_for(lambda: _taken(mine), 3.0)
    mine.release()


def test_a_dead_process_a_stranger_and_another_machine_are_told_apart() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with stranger("a role", "btc", f"a role pid {child.pid} on {locks._host()} since 09:00:00"):
        assert "gone; its connection ends once the server notices" in refusal()
    with stranger("a role", "btc", "a role pid 12 on elsewhere since 09:00:00"):
        assert "alive or not is to be seen on elsewhere" in refusal()
    with stranger("a role", "btc") as other:
        assert f"SELECT pg_terminate_backend({other.info.backend_pid}) ends it" in refusal()
    assert life("psql", 7).startswith("not one of ours")


def test_a_service_waits_for_its_lock_says_so_and_goes_on() -> None:
    lock, steps = ProcessLock("a role", "btc"), []
    stop = threading.Event()

    def step() -> None:
        lock.ensure()
        steps.append(time.monotonic())
        stop.set()

    beat = Beat("a-service")
    with stranger("a role", "btc") as other:
        thread_sees: list[tuple[str, str]] = []

        def let_go() -> None:
            assert wait_for(lambda: Heartbeat.objects.exists() and beats(3), 20.0)
            row = Heartbeat.objects.get(service="a-service")
            thread_sees.append((row.state, row.detail))
            connections.close_all()
            other.execute("SELECT pg_advisory_unlock_all()")

        def beats(count: int) -> bool:
            return Notice.objects.filter(key="held:a-service", count__gte=count).exists()

        timer = threading.Timer(0.1, let_go)
        timer.start()
        serving.serve(beat, step, 0.0, stop)
        timer.join()
    assert len(steps) == 1
    assert thread_sees[0][0] == "blocked" and "pg_terminate_backend" in thread_sees[0][1]
    notice = Notice.objects.get(key="held:a-service")
    assert notice.severity == "critical" and notice.count > 2 and notice.resolved_at is not None
    assert "a-service cannot start: the lock of the a role is held by" in notice.text


def test_a_second_process_leaves_the_firsts_heartbeat_alone() -> None:
    Beat("a-service").beat("running", "the first one's")
    Heartbeat.objects.update(pid=os.getpid() + 1)
    stop = threading.Event()
    lock = ProcessLock("a role", "btc")
    with stranger("a role", "btc"):
        threading.Timer(0.5, stop.set).start()
        serving.serve(Beat("a-service"), lock.ensure, 0.0, stop)
    row = Heartbeat.objects.get(service="a-service")
    assert (row.state, row.detail) == ("running", "the first one's")
    assert Notice.objects.get(key="held:a-service").resolved_at is not None, "it waits no more"


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_ends_for_a_held_lock(
    service: str, tmp_path: Path, set_market: Callable[..., None]
) -> None:
    command, role, alias = SERVICES[service]
    set_market(ist("2026-06-01 10:00"))
    with stranger(role, alias):
        process = subprocess.Popen(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.desk_settings",
                "DESK_TEST_HOME": str(tmp_path),
                "DESK_TEST_KITE": "http://127.0.0.1:1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            key = f"held:{service}"
            assert wait_for(lambda: Notice.objects.filter(key=key).exists(), 20.0)
            assert process.poll() is None, process.stderr and process.stderr.read()
        finally:
            process.terminate()
            _, said = process.communicate(timeout=10)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def _taken(lock: ProcessLock) -> bool:
    try:
        return lock.ensure()
    except LockHeld:
        return False
