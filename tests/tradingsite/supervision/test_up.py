"""The `up` command, whole, with three real services on the test databases."""

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from tradingsite.models import Heartbeat, Notice
from tradingsite.supervision.startup import fingerprint

ONLY = "worker,dashboard,server-monitor"
PATIENCE_SECONDS = 40.0


class Running:
    """One `up`, with what it has shown so far."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", *arguments],
            cwd=settings.BASE_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.shown: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """Return everything shown."""
        return "".join(self.shown)

    def until(self, true: Callable[[], Any]) -> None:
        """Wait for something to hold."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not true():
            assert time.monotonic() < deadline and self.process.poll() is None, self.text
            time.sleep(0.1)

    def end(self) -> int:
        """Ask it to stop and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.shown.extend(iter(self.process.stdout.readline, ""))


@pytest.fixture
def desk() -> Iterator[Running]:
    """Start the desk, and make sure that it ends."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    (settings.DATA_DIR / "migrated").write_text(fingerprint(settings.INSTALLED_APPS))
    running = Running("--only", ONLY, "--no-train")
    yield running
    if running.process.poll() is None:
        running.process.kill()


def pid_of(service: str) -> int:
    """Return the process a service last reported from, 0 before it did."""
    row = Heartbeat.objects.filter(service=service, state="running").first()
    return row.pid if row else 0


@pytest.mark.django_db(transaction=True)
def test_the_desk_comes_up_restarts_what_dies_and_stops_clean(desk: Running) -> None:
    desk.until(lambda: "Nightdesk is up after" in desk.text)
    address = re.search(r"Dashboard (http://\S+/)", desk.text)
    assert address
    with urllib.request.urlopen(f"{address[1]}healthz", timeout=5) as answer:  # noqa: S310
        assert answer.status == 200
    desk.until(lambda: all(pid_of(name) for name in ONLY.split(",")))

    second = Running("--only", ONLY)
    assert second.process.wait(PATIENCE_SECONDS) == 78
    assert f"runs already (process {desk.process.pid} at {address[1]})" in second.text

    worker = pid_of("worker")
    psutil.Process(worker).kill()
    desk.until(lambda: pid_of("worker") not in {0, worker})
    assert "ended (signal 9, Killed). It starts again in 1 s." in desk.text
    assert Notice.objects.filter(key="restart:worker", severity="warning").count() == 1

    family = psutil.Process(desk.process.pid).children(recursive=True)
    assert len(family) >= 4
    assert desk.end() == 0
    assert desk.text.splitlines()[-1].startswith("stopped")
    assert not [one for one in family if one.is_running()]
    assert not (settings.DATA_DIR / "up.lock").read_text()
    logs = {path.name for path in (settings.DATA_DIR / "logs").iterdir()}
    assert "worker.log" in logs


def test_an_unknown_service_is_answered_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match="no service nonsense; they are: simulator, worker"):
        call_command("up", only="nonsense,beat")


def test_a_fresh_start_needs_a_second_word() -> None:
    with pytest.raises(CommandError, match="--fresh --yes"):
        call_command("up", fresh=True)
