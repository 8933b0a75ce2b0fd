"""The loop every long-running process of ours lives in: it ends cleanly and outlives PostgreSQL.

A step is one short piece of work that can be done again. SIGTERM and SIGINT let the running step
finish. While PostgreSQL is away the step is tried again with a growing pause; after
`PATIENCE_SECONDS` the process exits, and whoever supervises it starts a fresh one.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import psycopg
from django.db import InterfaceError, OperationalError, connections

from tradingsite.heartbeat import Beat

PATIENCE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 4.0
# COPY goes past Django's cursor, so psycopg's own errors come through.
DATABASE_ERRORS = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)

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
    outage = _Outage(beat.service)
    while not stop.is_set():
        started = time.monotonic()
        try:
            step()
            outage.over()
            pause = max(every_seconds - (time.monotonic() - started), 0.0)
        except DATABASE_ERRORS as error:
            pause = outage.pause_after(error)
        stop.wait(pause)
    _leave(beat)


def stopping() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


class _Outage:
    def __init__(self, service: str) -> None:
        self._service = service
        self._since: float | None = None
        self._pause = FIRST_PAUSE_SECONDS

    def pause_after(self, error: Exception) -> float:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            reason = str(error).strip().splitlines() or [type(error).__name__]
            log.warning("%s: PostgreSQL is away, trying again: %s", self._service, reason[0])
        connections.close_all()
        if now - self._since >= PATIENCE_SECONDS:
            log.error(
                "%s: PostgreSQL has been away for %.0f s, giving up: start it, then this service",
                self._service,
                now - self._since,
            )
            sys.exit(1)
        pause = self._pause
        self._pause = min(self._pause * 2.0, LONGEST_PAUSE_SECONDS)
        return pause

    def over(self) -> None:
        if self._since is not None:
            away = time.monotonic() - self._since
            log.warning("%s: PostgreSQL is back after %.1f s", self._service, away)
            self._since = None
            self._pause = FIRST_PAUSE_SECONDS


def _leave(beat: Beat) -> None:
    try:
        beat.beat("stopped")
    except DATABASE_ERRORS as error:
        log.warning("%s: stopped without a last heartbeat: %s", beat.service, error)
    connections.close_all()
