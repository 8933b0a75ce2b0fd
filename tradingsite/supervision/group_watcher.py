"""The supervisor's watcher: a small process that ends what a killed supervisor leaves behind.

It reads process group numbers from its standard input, `+123` as one starts and `-123` as one
ends. When the input closes (the supervisor ended, by whatever means) it ends the groups still on
the list. It runs as a plain script, without the project on its path.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable


class GroupWatcher:
    """The supervisor's side: tell the watcher which groups live, and replace it if it dies."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    @property
    def pid(self) -> int:
        """Return the watcher's process number, 0 before its start."""
        return self._process.pid if self._process else 0

    def add(self, group: int) -> None:
        """Have a process group ended should the supervisor die."""
        self._groups.add(group)
        if self._process is None:
            self._start()
        else:
            self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """Forget a group that has ended: its number may soon be somebody else's."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def check(self) -> None:
        """Start the watcher again if it died."""
        if self._process is not None and self._process.poll() is not None:
            os.close(self._pipe)
            self._start()

    def close(self) -> None:
        """Let the watcher go, which ends the groups still on its list."""
        if self._process is not None:
            os.close(self._pipe)
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        reader, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self._grace_seconds)],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # no Ctrl-C reaches it
        )
        os.close(reader)
        self._tell("".join(f"+{group}\n" for group in self._groups))

    def _tell(self, lines: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died, and `check` replaces it
            os.write(self._pipe, lines.encode())


def watch(lines: Iterable[str], grace_seconds: float) -> None:
    """Follow the list until it ends, then end the groups on it: SIGTERM, and SIGKILL in the end."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(group)
    _signal_all(groups, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while any(map(_exists, groups)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal_all(groups, signal.SIGKILL)


def _signal_all(groups: Iterable[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    watch(sys.stdin, float(sys.argv[1]))
