"""A log in which the cause survives what follows from it."""

import io
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from tradingsite import logs
from tradingsite.logs import RepeatsCounted


class Log:
    """A logger of its own that writes to memory, by a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(logs.time, "monotonic", lambda: self.now)
        self.stream = io.StringIO()
        self.handler = RepeatsCounted(self.stream)
        self.log = logging.Logger("desk")
        self.log.addHandler(self.handler)

    def lines(self) -> list[str]:
        """Return what was written since the last call."""
        written = self.stream.getvalue().splitlines()
        self.stream.seek(0)
        self.stream.truncate()
        return written


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    made = Log(monkeypatch)
    yield made
    made.handler.close()


def test_a_message_is_written_a_few_times_then_counted(log: Log) -> None:
    for number in range(120):
        log.log.warning("try %d of %d: refused", number, 120)
        log.now += 1.0
    assert log.lines() == [
        *(f"try {number} of 120: refused" for number in range(3)),
        "repeated 57 times in 60 s: try 0 of 120: refused",
    ]
    log.now += 60.0
    log.log.warning("something else")
    assert log.lines() == ["repeated 60 times in 120 s: try 0 of 120: refused", "something else"]


def test_what_has_stopped_is_said_to_have_been_repeated_and_is_new_when_it_comes_again(
    log: Log,
) -> None:
    for _ in range(5):
        log.log.warning("refused")
    log.now += 61.0
    log.log.info("on")
    log.log.warning("on")
    assert log.lines()[3:] == ["repeated 2 times in 61 s: refused", "on", "on"]
    log.now += 200.0
    log.log.warning("refused")
    assert log.lines() == ["refused"]


def test_other_words_are_another_message(log: Log) -> None:
    for word in ("token", "disk", "clock"):
        for _ in range(4):
            log.log.warning("%s is refused", word)
    assert len(log.lines()) == 9


def test_megabytes_of_tracebacks_leave_the_cause_in_sight(log: Log) -> None:
    log.log.error("the disk is full")

    def fail(depth: int) -> None:
        if depth:
            fail(depth - 1)
        raise ValueError(f"no token at {log.now}")

    for number in range(2_000):
        log.now += 1.0
        try:
            fail(20)
        except ValueError:
            log.log.exception(
                "Task %s[%s] raised", number, f"{number:08x}-0000-4000-8000-{number:012x}"
            )
    written = log.stream.getvalue()
    assert written.startswith("the disk is full\n")
    assert written.count("Traceback") == 3
    assert len(written) < 20_000
    assert "repeated 57 times in 60 s: Task 0[" in written


def test_another_error_of_the_same_place_is_another_message(log: Log) -> None:
    for words in ("no space left on device", "canceling statement due to lock timeout"):
        for _ in range(5):
            try:
                raise OSError(words)
            except OSError:
                log.log.exception("a task")
    assert log.stream.getvalue().count("Traceback") == 6


def test_what_was_counted_is_said_at_the_end(log: Log) -> None:
    for _ in range(10):
        log.log.warning("refused")
    log.handler.close()
    assert log.lines()[-1] == "repeated 7 times in 0 s: refused"


def test_it_remembers_so_many_messages_and_no_more(log: Log) -> None:
    log.handler.MOST_MESSAGES = 10
    for number in range(100):
        log.log.warning("x" * number)
    assert len(log.handler._seen) == 10


def test_a_message_that_cannot_be_made_costs_nobody_anything(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    log.log.warning("%d", "seven")
    assert "Logging error" in told.getvalue()


def test_many_threads_lose_no_count(log: Log) -> None:
    def flood() -> None:
        for _ in range(500):
            log.log.warning("refused")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.handler.close()
    assert log.lines()[-1] == "repeated 1997 times in 0 s: refused"


def test_every_process_logs_through_it() -> None:
    assert any(isinstance(handler, RepeatsCounted) for handler in logging.getLogger().handlers)
