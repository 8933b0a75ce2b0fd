"""Heartbeats of the processes whose loops are not ours: Celery's workers and gunicorn's.

A Celery worker tells the time every two seconds anyway, and that signal is used; the web server
has no such moment, so a thread of its own does it. The supervisor says which service a process is.
"""

import os
import threading
from typing import Any

from celery.signals import heartbeat_sent, worker_shutdown
from django.db import close_old_connections

from tradingsite.heartbeat import EVERY_SECONDS, Beat
from tradingsite.services import SERVICE_VARIABLE
from tradingsite.serving import DATABASE_ERRORS


def service_name() -> str:
    """Return which service this process is, empty for one that was started by hand."""
    return os.environ.get(SERVICE_VARIABLE, "")


def report_celery() -> None:
    """Have a Celery worker report as its service; nothing where none was named."""
    if not service_name():
        return
    beat = Beat(service_name())

    def alive(**kwargs: Any) -> None:
        report(beat, "running", "takes tasks")

    def ended(**kwargs: Any) -> None:
        heartbeat_sent.disconnect(alive)
        report(beat, "stopped")

    heartbeat_sent.connect(alive, weak=False)
    worker_shutdown.connect(ended, weak=False)


def report_from_thread(detail: str) -> None:
    """Report from a thread until the process ends; nothing where no service was named."""
    if not service_name():
        return
    beat = Beat(service_name())

    def loop() -> None:
        pause = threading.Event()
        while True:
            report(beat, "running", detail)
            pause.wait(EVERY_SECONDS)

    threading.Thread(target=loop, name="heartbeat", daemon=True).start()


def report(beat: Beat, state: str, detail: str = "") -> None:
    """Write a heartbeat, or none while PostgreSQL is away: its absence is the report then."""
    close_old_connections()
    try:
        beat.beat(state, detail)
    except DATABASE_ERRORS:
        close_old_connections()
