"""What each service last said of itself, in the control database."""

import datetime as dt
import os
import time

from tradingsite import clock, version
from tradingsite.models import Heartbeat

EVERY_SECONDS = 2.0
DETAIL_CHARACTERS = 200
ALIVE_SECONDS = 20.0
"""Silence after which a service is taken for dead: several beats, for a busy machine."""


class Beat:
    """Write one service's heartbeat: at once when its state changes, else every two seconds."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._started_at = clock.real()
        # As it began: what changes on the disk later is not what this process runs.
        self._code, self._config = version.commit(), version.config()
        self._state = ""
        self._written = 0.0

    def beat(self, state: str, detail: str = "") -> None:
        """Say how the service stands: one word, and a sentence for people."""
        now = time.monotonic()
        if state == self._state and now - self._written < EVERY_SECONDS:
            return
        Heartbeat.objects.bulk_create(
            [
                Heartbeat(
                    service=self.service,
                    pid=os.getpid(),
                    started_at=self._started_at,
                    beat_at=clock.real(),
                    state=state,
                    detail=detail[:DETAIL_CHARACTERS],
                    code=self._code,
                    config=self._config,
                )
            ],
            update_conflicts=True,
            unique_fields=["service"],
            update_fields=[
                *("pid", "started_at", "beat_at", "state", "detail", "code", "config"),
            ],
        )
        self._state = state
        self._written = now


def is_alive(service: str, apart_from: int = 0) -> bool:
    """Return whether a service has reported lately, by any process but the given one."""
    since = clock.real() - dt.timedelta(seconds=ALIVE_SECONDS)
    rows = Heartbeat.objects.filter(service=service, beat_at__gt=since).exclude(state="stopped")
    return rows.exclude(pid=apart_from).exists()
