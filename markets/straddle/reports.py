"""What the tracker's child says of itself, in a line of text, to the parent that started it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """Say how the child stands."""

    state: str = "starting"
    """The stream's, or starting."""
    sentence: str = ""
    message_at: float | None = None
    """When the last message with ticks came, real epoch seconds."""
    stored: int = 0
    waiting: int = 0
    lost: int = 0
    empty: int = 0
    absurd: int = 0
    stale: int = 0
    silent: str = ""
    """The legs of which nothing comes for long, while others tick."""

    def send(self, descriptor: int) -> None:
        """Write the line to a pipe that does not block; one that nobody empties takes no more."""
        line = json.dumps(asdict(self)) + "\n"
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            # Shorter than a pipe's atomic size, so it goes whole or not at all.
            os.write(descriptor, line.encode())

    @classmethod
    def read(cls, line: bytes) -> Report | None:
        """Return the report of a line, None where a library has written something else."""
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError):
            return None
