"""The loop every long-running process of ours lives in: it ends cleanly and outlives PostgreSQL.

A step is one short piece of work that can be done again. SIGTERM and SIGINT let the running step
finish. While PostgreSQL is away the step is tried again with a growing pause; after
`PATIENCE_SECONDS` the process exits, and whoever supervises it starts a fresh one. While another
process holds the role's lock it waits, for ever if need be, and says who that is.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

import psycopg
from django.db import InterfaceError, OperationalError, connections

from tradingsite import notices
from tradingsite.locks import LockHeld
from tradingsite.supervision import heartbeat
from tradingsite.supervision.heartbeat import Beat

PATIENCE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 4.0
AGAIN_SECONDS = 0.1
HELD_PAUSE_SECONDS = (2.0, 5.0, 10.0, 30.0)
"""Between tries for a lock that another process holds; the last of them for as long as it does."""
# COPY goes past Django's cursor, so psycopg's own errors come through.
DATABASE_ERRORS = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)

# A statement that was ended because it, or the lock it wants, took too long: the server is there.
_SLOW = frozenset({"55P03", "57014", "40P01"})
T = TypeVar("T")

log = logging.getLogger(__name__)


def serve(
    beat: Beat,
    step: Callable[[], object],
    every_seconds: float,
    stop: threading.Event | None = None,
) -> None:
    """Call a step again and again until a signal or the event says stop.

    Raises SystemExit(1) when PostgreSQL has been away for too long.
    """
    stop = stop or stopping()
    outage, held = _Outage(beat.service), _Held(beat)
    while not stop.is_set():
        started = time.monotonic()
        try:
            try:
                step()
            except LockHeld as error:
                pause = held.pause_after(error)
            else:
                held.over()
                pause = max(every_seconds - (time.monotonic() - started), 0.0)
            outage.over()
        except DATABASE_ERRORS as error:
            pause = outage.pause_after(error)
            if is_slow(error):
                _say_slow(beat, error)
        stop.wait(pause)
    _leave(beat, held)


def stopping() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


def is_slow(error: Exception) -> bool:
    """Return whether PostgreSQL itself ended a statement, which has then changed nothing."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _SLOW


def persist(act: Callable[[], T], seconds: float) -> T:
    """Do a transaction again while locks keep it out; raise its error after some seconds.

    Only for what changes nothing where it fails, as a transaction does: an answer that never came
    is no such failure, for the commit may have.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return act()
        except DATABASE_ERRORS as error:
            if not is_slow(error) or time.monotonic() >= until:
                raise
            log.warning("PostgreSQL keeps a transaction out, again: %s", first_line(error))
            time.sleep(AGAIN_SECONDS)


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _say_slow(beat: Beat, error: Exception) -> None:
    try:
        beat.beat("blocked", f"waits for PostgreSQL and tries again: {first_line(error)}")
    except DATABASE_ERRORS as second:
        log.warning("%s: no heartbeat either: %s", beat.service, first_line(second))


class _Held:
    """Wait for a lock that another process holds, with one critical notice for as long as that."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._key = f"held:{beat.service}"
        self._tries = 0
        self._may_be_told = True
        """A process before this one may have been killed while it waited."""

    def pause_after(self, error: LockHeld) -> float:
        pause = HELD_PAUSE_SECONDS[min(self._tries, len(HELD_PAUSE_SECONDS) - 1)]
        if not self._tries:
            log.warning("%s waits: %s", self._beat.service, error)
        self._tries += 1
        self._may_be_told = True
        text = f"{error}. It is tried again every {HELD_PAUSE_SECONDS[-1]:.0f} s"
        notices.notify(
            "infrastructure", "critical", self._key, f"{self._beat.service} cannot start: {text}."
        )
        # The heartbeat is the holder's own while that works.
        if not heartbeat.is_alive(self._beat.service, apart_from=os.getpid()):
            self._beat.beat("blocked", str(error))
        return pause

    def over(self) -> None:
        if self._tries:
            log.warning("%s has its lock and goes on", self._beat.service)
        if self._may_be_told:
            notices.resolve(self._key)
        self._tries, self._may_be_told = 0, False

    def leave(self) -> None:
        """Say the last word: none but the end of the waiting where the role is another's."""
        if self._tries:
            notices.resolve(self._key)
        else:
            self._beat.beat("stopped")


class _Outage:
    def __init__(self, service: str) -> None:
        self._service = service
        self._since: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def pause_after(self, error: Exception) -> float:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            log.warning("%s: PostgreSQL fails, trying again: %s", self._service, first_line(error))
        if is_slow(error):
            return self._next_pause()  # a fresh process would not be quicker, and holds no lock
        connections.close_all()
        if now - self._since >= PATIENCE_SECONDS:
            log.error(
                "%s: PostgreSQL has been away for %.0f s, giving up: start it, then this service",
                self._service,
                now - self._since,
            )
            sys.exit(1)
        return self._next_pause()

    def _next_pause(self) -> float:
        pause = self._pause
        self._pause = min(self._pause * 2.0, LONGEST_PAUSE_SECONDS)
        return pause

    def over(self) -> None:
        if self._since is not None:
            away = time.monotonic() - self._since
            log.warning("%s: PostgreSQL is back after %.1f s", self._service, away)
            self._since = None
            self._pause = FIRST_PAUSE_SECONDS


def _leave(beat: Beat, held: _Held) -> None:
    try:
        held.leave()
    except DATABASE_ERRORS as error:
        log.warning("%s: stopped without a last heartbeat: %s", beat.service, error)
    connections.close_all()
