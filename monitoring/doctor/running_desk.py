"""What the doctor asks of a desk that runs: its services, the market's clock, the queues."""

from __future__ import annotations

from collections.abc import Iterator

import redis
from django.conf import settings
from django.db import connection

from monitoring import checks, watch
from monitoring.findings import OK, WARN, Finding
from tradingsite import clock
from tradingsite.celery import QUEUES
from tradingsite.format import plural
from tradingsite.supervision import heartbeat
from tradingsite.supervision.services import wanted

NO_DESK = "no desk is running"
START = "make run"
MOST_WAITING = 50
CLOCK_SECONDS = 2.0
QUEUE_SECONDS = 3.0
# Whose messages wait where; training may take hours, so what waits for it is no news.
WORKERS = {"prod": "worker", "collect": "worker", "gpu": "gpu-worker", "pc": "pc-worker"}


def examine() -> Iterator[Finding]:
    """Yield how the running desk stands."""
    alive, silent = _services()
    if not alive:
        yield Finding("services", WARN, NO_DESK, START)
    elif silent:
        says = f"{len(alive)} report, {', '.join(silent)} {'do' if len(silent) > 1 else 'does'} not"
        yield Finding("services", WARN, says, "look at the overview, and at DATA_DIR/logs")
    else:
        yield Finding("services", OK, f"all {len(alive)} report")
    yield _clock(bool(alive))
    yield from _queues(silent)


def _services() -> tuple[list[str], list[str]]:
    """Return which of this machine's services report, and which do not."""
    words, now = heartbeat.last_words(), clock.real()
    alive: list[str] = []
    silent: list[str] = []
    for service in wanted(settings.MODE, settings.MACHINE):
        row = words.get(service.name)
        reports = (
            row is not None
            and row.state not in {"stopped", "refused"}
            and not checks.is_silent((now - row.beat_at).total_seconds())
        )
        (alive if reports else silent).append(service.name)
    return alive, silent


def _clock(runs: bool) -> Finding:
    simulated = clock.simulated()
    if simulated is not None:
        now = clock.market().astimezone(clock.IST)
        if simulated.anchor() is None:
            return Finding("market's clock", WARN, "has not begun", START)
        if watch.stands_still():
            do = "look at the simulator's log" if runs else START
            return Finding("market's clock", WARN, f"stands still at {now:%a %d %b %H:%M} IST", do)
        return Finding("market's clock", OK, f"{now:%a %d %b %H:%M} IST, {clock.speed():.0f}x")
    with connection.cursor() as cursor:
        before = clock.real()
        cursor.execute("SELECT clock_timestamp()")
        off = abs((cursor.fetchone()[0] - before).total_seconds())
    if off > CLOCK_SECONDS:
        says = f"this machine's and the database server's are {off:.0f} s apart"
        return Finding("clock", WARN, says, "let chrony or systemd-timesyncd set both")
    return Finding("clock", OK, "agrees with the database server's")


def _queues(silent: list[str]) -> Iterator[Finding]:
    prefix = str(settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("global_keyprefix", ""))
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=QUEUE_SECONDS) as server:
            waiting = {name: int(server.llen(f"{prefix}{name}")) for name in QUEUES}
    except redis.RedisError:
        return  # told already, by the queue's own finding
    told = ", ".join(f"{name} {count}" for name, count in waiting.items())
    is_well = True
    for name, count in waiting.items():
        worker = WORKERS[name]
        if count and worker in silent:
            says = f"{plural(count, 'message')} in {name} and no {worker} to take them"
            is_well = False
            yield Finding("queues", WARN, says, START)
        elif count > MOST_WAITING and name != "gpu":
            is_well = False
            says = f"{count} messages wait in {name}"
            yield Finding("queues", WARN, says, f"look at {worker}'s log")
    if is_well:
        yield Finding("queues", OK, f"waiting: {told}")
