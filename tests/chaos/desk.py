"""A whole desk of the script's own: its folder, its ports, its processes, what it says."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
FIRST_WEB_PORT, FIRST_SIM_PORT = 8_400, 9_301
DISK_BYTES = 1_500 << 20
POLL_SECONDS = 0.2
SERVICE = "NIGHTDESK_SERVICE"


class TooLate(Exception):
    """Something did not happen in its time."""


class Desk:
    """Run `manage.py up` in a folder of its own, on a small disk where root may make one."""

    def __init__(self, checkout: Path = CHECKOUT, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nightdesk-chaos-"))
        self.folder.chmod(0o755)  # a root's servers run as another user
        self.has_own_disk = self._mount()
        self.data = self.folder / "var"
        self.data.mkdir()
        self.checkout = checkout
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DATA_DIR": str(self.data),
            "WEB_PORT": str(FIRST_WEB_PORT),
            "SIM_PORT": str(FIRST_SIM_PORT),
            "TRAIN_TIMESTEPS": "1500",
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self.log = self.folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.address = ""

    # --- Its life --------------------------------------------------------------------------------

    def start(self, *arguments: str, patience: float = 300.0) -> float:
        """Start it and return the seconds until its page answers; raise TooLate."""
        began = time.monotonic()
        up = self.process = self.manage("up", *arguments, log=self.log)
        self.until(lambda: up.poll() is not None or self._found_address(), patience)
        if up.poll() is not None:
            raise TooLate(f"the desk ended: {self.log.read_text()[-2_000:]}")
        return time.monotonic() - began

    def manage(self, *words: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command of the desk's."""
        with (log or Path(os.devnull)).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "manage.py", *words],
                cwd=self.checkout,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self) -> float:
        """Press Ctrl-C and return the seconds until it has ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return time.monotonic() - began

    def remove(self) -> None:
        """Remove every trace; call it whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        stopping = self.manage("embedded", "stop")
        with contextlib.suppress(subprocess.TimeoutExpired):
            stopping.wait(60)
        embedded = (self.data / "embedded").resolve()
        if self.has_own_disk:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)
        shutil.rmtree(embedded, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> None:
        """Let this process ask the desk's databases, by its own settings."""
        os.environ.update(self.environment, DJANGO_SETTINGS_MODULE="tradingsite.settings")
        import django

        django.setup()

    # --- Its processes ---------------------------------------------------------------------------

    def service(self, name: str) -> psutil.Process | None:
        """Return a service's own process."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if child.environ().get(SERVICE) == name:
                    return child
        return None

    def server(self, name: str) -> psutil.Process:
        """Return the process of the embedded postgres or valkey."""
        from tradingsite.embedded import launcher

        (found,) = (each for each in launcher.status(self.data) if each.name == name)
        return psutil.Process(found.pid)

    # --- What it says ----------------------------------------------------------------------------

    def get(self, path: str, timeout: float = 5.0) -> tuple[int, str]:
        """Return the status and the text of a page, 0 where it did not answer."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=timeout) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError:
            return 0, ""

    def until(self, true: Callable[[], Any], patience: float) -> float:
        """Return the seconds until something holds; raise TooLate."""
        began = time.monotonic()
        while not true():
            if time.monotonic() - began > patience:
                raise TooLate(f"not within {patience:.0f} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def noticed(self, word: str, since: dt.datetime) -> bool:
        """Return whether a notice whose key or text has a word came since an instant."""
        from django.db.models import Q

        from tradingsite.models import Notice

        rows = Notice.objects.filter(last_at__gte=since)
        return bool(
            ask(lambda: rows.filter(Q(key__icontains=word) | Q(text__icontains=word)).exists())
        )

    def beats(self, name: str, since: dt.datetime) -> bool:
        """Return whether a service reports since an instant that it runs."""
        from tradingsite.supervision import heartbeat

        row = (ask(heartbeat.last_words) or {}).get(name)
        gone = {"stopped", "blocked", "refused", "failing"}
        return row is not None and row.beat_at >= since and row.state not in gone

    def began(self, name: str, since: dt.datetime) -> bool:
        """Return whether a new process of a service reports since an instant."""
        from tradingsite.supervision import heartbeat

        row = (ask(heartbeat.last_words) or {}).get(name)
        return row is not None and row.started_at >= since and self.beats(name, since)

    def _found_address(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            import json

            record = json.loads((self.data / "up.lock").read_text())
            self.address = record.get("address", "")
        return bool(self.address) and self.get("healthz")[0] == 200

    def _mount(self) -> bool:
        if os.geteuid() != 0 or shutil.which("mount") is None:
            return False
        options = f"size={DISK_BYTES},mode=0755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "chaos", str(self.folder)],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0


def ask(question: Callable[[], Any]) -> Any:
    """Return a question's answer, None while the database gives none."""
    from django.db import InterfaceError, OperationalError, connections

    try:
        return question()
    except (OperationalError, InterfaceError):
        connections.close_all()
        return None


@contextlib.contextmanager
def stopped(*processes: psutil.Process) -> Iterator[None]:
    """Hold processes still with SIGSTOP while the block runs."""
    for each in processes:
        each.suspend()
    try:
        yield
    finally:
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
