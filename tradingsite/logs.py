"""A log in which the cause survives what follows from it.

A service's log is two files of 5 MB. One that repeats a traceback each second fills them within the
hour, and the line that says why is overwritten. So a message is written a few times; what comes
after is counted, and said as a count, after a minute and then ever more seldom.
"""

import logging
import re
import time
from dataclasses import dataclass
from typing import TextIO

# What differs between two lines that say the same: numbers, and the names of tasks.
_CHANGING = re.compile(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\d+")
SHOWN_CHARACTERS = 200
Key = tuple[object, ...]


@dataclass(slots=True)
class _Seen:
    """One message: how often it was written and hidden, and until when it is counted."""

    record: logging.LogRecord
    written: int
    hidden: int
    since: float
    window: float


class RepeatsCounted(logging.StreamHandler[TextIO]):
    """Write a message a few times a minute, then how often it was repeated."""

    FEW = 3
    FIRST_WINDOW_SECONDS = 60.0
    LONGEST_WINDOW_SECONDS = 3600.0
    MOST_MESSAGES = 1000

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._seen: dict[Key, _Seen] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        now = time.monotonic()
        self._say_counts(now)
        try:
            key = _key(record)
        except Exception:  # noqa: BLE001 - a bad message must cost no caller, as in logging itself
            self.handleError(record)
            return
        seen = self._seen.get(key)
        if seen is None:
            while len(self._seen) >= self.MOST_MESSAGES:
                self._end(next(iter(self._seen)), now)
            seen = self._seen[key] = _Seen(record, 0, 0, now, self.FIRST_WINDOW_SECONDS)
        if seen.written < self.FEW:
            seen.written += 1
            super().emit(record)
        else:
            seen.hidden += 1

    def close(self) -> None:
        """Say what was counted and not said yet."""
        with self.lock:  # type: ignore[union-attr]  # made by the base class
            for key in list(self._seen):
                self._end(key, time.monotonic())
        super().close()

    def _say_counts(self, now: float) -> None:
        for key, seen in list(self._seen.items()):
            if now - seen.since < seen.window:
                continue
            if not seen.hidden:
                del self._seen[key]
                continue
            self._say(seen, now)
            # It goes on: from now on only counts, each for twice as long.
            window = min(2 * seen.window, self.LONGEST_WINDOW_SECONDS)
            seen.hidden, seen.since, seen.window = 0, now, window

    def _end(self, key: Key, now: float) -> None:
        seen = self._seen.pop(key)
        if seen.hidden:
            self._say(seen, now)

    def _say(self, seen: _Seen, now: float) -> None:
        first = seen.record
        said = first.getMessage().partition("\n")[0][:SHOWN_CHARACTERS]
        text = f"repeated {seen.hidden} times in {now - seen.since:.0f} s: {said}"
        super().emit(logging.LogRecord(first.name, first.levelno, "", 0, text, None, None))


def _key(record: logging.LogRecord) -> Key:
    """Return what two records have in common that say the same."""
    if not (record.exc_info and record.exc_info[1]):
        return (record.name, record.levelno, _CHANGING.sub("#", record.getMessage()))
    # A task's traceback is the same one whichever run of it raised.
    error, trace = record.exc_info[1], record.exc_info[2]
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ()
    said = _CHANGING.sub("#", str(error).partition("\n")[0])
    return (record.name, record.levelno, record.msg, type(error), said, *place)
