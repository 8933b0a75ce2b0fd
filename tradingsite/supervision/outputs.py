"""Where the supervised programs' lines go: the terminal, and one log file each."""

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LOG_BYTES = 5_000_000
LINE_BYTES = 16_384
# A terminal that takes nothing for this long (Ctrl-S, a sleeping pager) must not stop the desk.
BLOCKED_SECONDS = 0.5


class Lines:
    """Cut a stream of bytes into lines; an endless one is cut where it becomes too long."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """Return the lines that are complete now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES:
            whole.append(self._rest)
            self._rest = b""
        return (line.decode(errors="replace").rstrip("\r") for line in whole)

    def rest(self) -> Iterator[str]:
        """Return the unfinished last line, if any."""
        if self._rest:
            yield self._rest.decode(errors="replace")
        self._rest = b""


class LineLog:
    """A log file that keeps one older file of the same size, so that it never fills the disk."""

    def __init__(self, path: Path, limit_bytes: int = LOG_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: IO[bytes] | None = None
        self.problem = ""
        """Why nothing is being kept, like a full disk; empty while all is well."""

    def write(self, line: str) -> None:
        """Append a line; a disk that takes none is remembered in `problem`, never raised."""
        data = f"{line}\n".encode()
        try:
            file = self._file or self._open()
            if file.tell() + len(data) > self._limit_bytes and file.tell():
                self.close()
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                file = self._open()
            file.write(data)
            self.problem = ""
        except OSError as error:
            self.problem = str(error)

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> IO[bytes]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab", buffering=0)
        return self._file


class Terminal:
    """Write lines to a stream that may be slow, closed, or no terminal at all."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream: IO[str] | None = stream
        self._number: int | None = None
        with contextlib.suppress(OSError, ValueError):
            self._number = stream.fileno()
        self._blocked = False
        self._lost = 0
        self.coloured = stream.isatty() and "NO_COLOR" not in os.environ

    def write(self, line: str) -> None:
        """Show a line, unless nobody reads: then it is counted, and the log files have it."""
        if self._stream is None:
            return
        if not self._ready():
            self._lost += 1
            return
        if self._lost:
            line = f"({self._lost} lines not shown; the log files have them)\n{line}"
            self._lost = 0
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None  # nobody reads any more
        except OSError:  # a file on a disk that is full, which must not end what it tells of
            self._lost += 1

    def _ready(self) -> bool:
        if self._number is None:
            return True
        wait = 0.0 if self._blocked else BLOCKED_SECONDS
        self._blocked = not select.select([], [self._number], [], wait)[1]
        return not self._blocked
