"""What each service last said of itself, in the control database.

PC writes into a table of its own: it can keep none of PROD's services alive, nor say that one of
its own will live next year.
"""

import datetime as dt
import os
import time

from django.conf import settings

from tradingsite import clock, version
from tradingsite.models import Heartbeat, PcHeartbeat, Said

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
        table: type[Said] = PcHeartbeat if settings.MACHINE == "pc" else Heartbeat
        table._default_manager.bulk_create(
            [
                table(
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
    found, around = last_words().get(service), dt.timedelta(seconds=ALIVE_SECONDS)
    return (
        found is not None
        and abs(clock.real() - found.beat_at) < around
        and found.state != "stopped"
        and found.pid != apart_from
    )


def last_words() -> dict[str, Said]:
    """Return what each service last said, by its name; PC's own services by PC's word.

    PC's word is held within bounds: no beat is later than now, and what it says is marked.
    """
    if settings.MACHINE != "prod":
        table = PcHeartbeat if settings.MACHINE == "pc" else Heartbeat
        return {row.service: row for row in table._default_manager.all()}
    said: dict[str, Said] = {row.service: row for row in Heartbeat.objects.all()}
    now = clock.real()
    for row in PcHeartbeat.objects.all():
        if row.beat_at > now + dt.timedelta(seconds=ALIVE_SECONDS):
            row.state, row.detail = "failed", "its beat lies in the future"
        row.beat_at, row.started_at = min(row.beat_at, now), min(row.started_at, now)
        row.detail = f"PC says: {row.detail}"[:DETAIL_CHARACTERS]
        said[row.service] = row
    return said
