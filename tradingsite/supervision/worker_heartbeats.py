"""Heartbeats of the processes whose loops are not ours: Celery's workers and gunicorn's.

A Celery worker does it from its consumer's own loop, so that one that hangs falls silent; the web
server has no such moment, so a thread of its own does it. The supervisor says which service a
process is.
"""

import http.client
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_shutdown
from django.db import close_old_connections

from tradingsite.supervision.heartbeat import EVERY_SECONDS, Beat
from tradingsite.supervision.services import SERVICE_VARIABLE
from tradingsite.supervision.serving import DATABASE_ERRORS

ANSWER_SECONDS = 5.0
UNANSWERED_SECONDS = 30.0

log = logging.getLogger(__name__)


class _Pulse(bootsteps.StartStopStep):
    """Report while the consumer's loop runs; Celery's own heartbeat wants rights to publish."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    say: Callable[[], None]

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._entry: Any = None

    def start(self, consumer: Any) -> None:
        """Report at once, and every two seconds from now on."""
        self.say()
        self._entry = consumer.timer.call_repeatedly(EVERY_SECONDS, self.say)

    def stop(self, consumer: Any) -> None:
        """Report no more: the connection to the queue is gone, or the worker ends."""
        if self._entry is not None:
            self._entry.cancel()

    shutdown = stop


def service_name() -> str:
    """Return which service this process is, empty for one that was started by hand."""
    return os.environ.get(SERVICE_VARIABLE, "")


def report_celery(app: Celery) -> None:
    """Have a Celery worker report as its service; nothing where none was named."""
    if not service_name():
        return
    beat = Beat(service_name())

    class Pulse(_Pulse):
        """The step of this very worker: Celery makes an object of it."""

        say = staticmethod(lambda: report(beat, "running", "takes tasks"))

    def ended(**kwargs: Any) -> None:
        report(beat, "stopped")

    app.steps["consumer"].add(Pulse)
    worker_shutdown.connect(ended, weak=False)


def report_answers(address: str, port: int) -> None:
    """Report, from a thread, that this web server answers requests; it is asked each time.

    One that does not answer itself reports nothing, and ends after a while for a fresh one to
    begin. Nothing is done where no service was named.
    """
    if not service_name():
        return
    beat = Beat(service_name())

    def loop() -> None:
        pause = threading.Event()
        answered_at = time.monotonic()
        while True:
            if answers(address, port):
                answered_at = time.monotonic()
                report(beat, "running", "answers requests")
            elif time.monotonic() - answered_at > UNANSWERED_SECONDS:
                log.error("no answer to its own requests for %.0f s: ends", UNANSWERED_SECONDS)
                os._exit(1)  # no thread of it would answer a politer word either
            pause.wait(EVERY_SECONDS)

    threading.Thread(target=loop, name="heartbeat", daemon=True).start()


def answers(address: str, port: int) -> bool:
    """Return whether a web server answers a request, whatever it says, within some seconds."""
    connection = http.client.HTTPConnection(address, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Connection": "close"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def report(beat: Beat, state: str, detail: str = "") -> None:
    """Write a heartbeat, or none while PostgreSQL is away: its absence is the report then."""
    close_old_connections()
    try:
        beat.beat(state, detail)
    except DATABASE_ERRORS:
        close_old_connections()
