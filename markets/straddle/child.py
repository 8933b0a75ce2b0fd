"""The tracker's child as its parent sees it: started, heard, and ended within five seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from django.conf import settings

from markets.straddle.reports import Report

COMMAND = (sys.executable, "-m", "django", "runstraddle", "--child")
# It imports Twisted and asks for the broker's list before it has anything to say.
FIRST_REPORT_SECONDS = 45.0
SILENT_SECONDS = 10.0
STOP_SECONDS = 4.0


class Child:
    """One process, from its start to its end; it leaves by itself when its parent is gone."""

    def __init__(self, arguments: Sequence[str], command: Sequence[str] = COMMAND) -> None:
        """Start the process."""
        self.report = Report()
        self.started_at = self._heard_at = time.monotonic()
        self._has_spoken = False
        self._rest = b""
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
            stdout=subprocess.PIPE,
            cwd=settings.BASE_DIR,
        )
        os.set_blocking(self._output.fileno(), False)

    @property
    def pid(self) -> int:
        """Return the process's number."""
        return self._process.pid

    @property
    def lived_seconds(self) -> float:
        """Return how long ago it was started."""
        return time.monotonic() - self.started_at

    def look(self) -> str:
        """Read what it said; return why it must be ended and started anew, "" while all is well."""
        self._read()
        code = self._process.poll()
        if code is not None:
            return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        silent_seconds = time.monotonic() - self._heard_at
        if silent_seconds > (SILENT_SECONDS if self._has_spoken else FIRST_REPORT_SECONDS):
            return f"said nothing for {silent_seconds:.0f} s"
        return ""

    def stop(self) -> None:
        """End it: by its own good order, and by force where that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._read()
        self._output.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        return self._process.stdout

    def _read(self) -> None:
        try:
            while data := os.read(self._output.fileno(), 65_536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    if report := Report.read(line):
                        self.report = report
                        self._heard_at, self._has_spoken = time.monotonic(), True
        except BlockingIOError:
            return
