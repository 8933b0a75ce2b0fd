"""A real Valkey of the test's own that is killed, and what the monitor says of it."""

import datetime as dt
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pytest_django import Settings

from monitoring.queue import QueueWatch
from tradingsite import clock, notices
from tradingsite.embedded.programs import valkey_program
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Valkey:
    """One server, started and killed at will."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ("--port", str(self.port), "--save", "", "--dir", str(self.folder))
        self.process = subprocess.Popen(
            [valkey_program(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < until
                    time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def valkey(tmp_path: Path, settings: Settings) -> Iterator[Valkey]:
    """Return the server that the settings name."""
    server = Valkey(tmp_path)
    settings.REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    server.start()
    yield server
    server.kill()


def test_a_killed_server_is_told_and_so_is_its_return(valkey: Valkey) -> None:
    watch = QueueWatch()
    assert watch.look() and not Notice.objects.exists()
    valkey.kill()
    assert not watch.look() and not watch.look()
    notice = Notice.objects.get(key="queue:away")
    assert (notice.severity, notice.count) == ("critical", 1)
    assert "Valkey, the queue, does not answer" in notice.text
    valkey.start()
    assert watch.look()
    notice.refresh_from_db()
    assert notice.resolved_at is not None
    assert "answers again after" in Notice.objects.get(key="queue:restarted").text


def test_one_that_was_back_before_anybody_looked_is_told_too(valkey: Valkey) -> None:
    watch = QueueWatch()
    watch.look()
    valkey.kill()
    valkey.start()
    assert watch.look() and watch.look()
    notice = Notice.objects.get()
    assert (notice.key, notice.count) == ("queue:restarted", 1)
    assert "had ended and runs again" in notice.text


def test_one_that_died_together_with_the_monitor_is_told(valkey: Valkey) -> None:
    long_ago = clock.real() - dt.timedelta(minutes=1)
    assert QueueWatch(clock.real() + dt.timedelta(seconds=1)).look()
    assert not Notice.objects.exists()
    watch = QueueWatch(long_ago)
    assert watch.look() and watch.look()
    assert Notice.objects.get().count == 1


def test_a_monitor_that_starts_ends_the_alarm_of_before(valkey: Valkey) -> None:
    valkey.kill()
    QueueWatch().look()
    valkey.start()
    assert QueueWatch().look()
    assert notices.open_keys("queue:") == {"queue:restarted"}


def test_a_server_that_hangs_is_told_within_seconds(valkey: Valkey) -> None:
    watch = QueueWatch()
    watch.look()
    assert valkey.process is not None
    os.kill(valkey.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert not watch.look()
    assert time.monotonic() - began < 10
    os.kill(valkey.process.pid, signal.SIGCONT)
    assert watch.look()
