"""Processes that are killed, or held still."""

from __future__ import annotations

import contextlib
import datetime as dt
import time

import psutil

from tests.chaos.desk import Desk, TooLate, ask, stopped
from tests.chaos.outcome import PATIENCE_SECONDS, SERVICES, Result, now, watch

# --- Killed --------------------------------------------------------------------------------------


def kill_service(name: str, desk: Desk) -> Result:
    """SIGKILL a service."""
    process = desk.service(name)
    if process is None:
        return Result(broken=[f"{name} did not run before"])
    since = now()
    process.kill()
    key = f"restart:{name}"
    return watch(desk, lambda: desk.noticed(key, since), lambda: desk.began(name, since), 5, 30)


def kill_dashboard(desk: Desk) -> Result:
    """SIGKILL the web server with its workers."""
    process, since = desk.service("dashboard"), now()
    assert process is not None
    for each in [*process.children(recursive=True), process]:
        each.kill()
    key = "restart:dashboard"
    return watch(
        desk, lambda: desk.noticed(key, since), lambda: desk.get("healthz", 1.0)[0] == 200, 5, 30
    )


def kill_simulator(desk: Desk) -> Result:
    """SIGKILL the simulator; the market stands, then goes on."""
    process, since = desk.service("simulator"), now()
    assert process is not None
    process.kill()
    back = lambda: desk.began("simulator", since)  # noqa: E731
    return watch(desk, lambda: desk.noticed("restart:simulator", since), back, 5, 30)


def kill_valkey(desk: Desk) -> Result:
    """SIGKILL Valkey: said, and the queue works again."""
    since = now()
    desk.server("valkey").kill()

    def back() -> bool:
        import redis
        from django.conf import settings

        with contextlib.suppress(redis.RedisError):
            return bool(redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1).ping())
        return False

    time.sleep(0.2)
    result = watch(desk, lambda: desk.noticed("valkey", since), back, 30, 30)
    began = time.monotonic()
    try:
        desk.until(lambda: desk.beats("worker", now() - dt.timedelta(seconds=3)), PATIENCE_SECONDS)
        result.notes.append(f"worker reports after {time.monotonic() - began:.1f} s")
    except TooLate:
        result.broken.append("the worker reports no more")
    return result


def kill_backend(desk: Desk) -> Result:
    """SIGKILL one backend: PostgreSQL ends all of them and recovers."""
    master = desk.server("postgres")
    backend = next(c for c in master.children() if "postgres: nightdesk" in " ".join(c.cmdline()))
    return _postgres_gone(desk, backend)


def kill_postmaster(desk: Desk) -> Result:
    """SIGKILL the postmaster."""
    return _postgres_gone(desk, desk.server("postgres"))


def _postgres_gone(desk: Desk, process: psutil.Process) -> Result:
    process.kill()
    seen: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < 8.0 and not seen:
        if desk.get("", 3.0)[0] == 503:
            seen.append(time.monotonic() - began)
    since = now()
    back = lambda: all(desk.beats(name, since) for name in SERVICES)  # noqa: E731
    result = watch(desk, None, back, 0, 60)
    if result.back is not None:
        result.back = time.monotonic() - began
    result.said = seen[0] if seen else None
    result.notes.append("" if seen else "over before a page was asked")
    return result


# --- Held still ----------------------------------------------------------------------------------


def freeze_postgres(desk: Desk) -> Result:
    """SIGSTOP PostgreSQL for 15 s: the page says so within its time."""
    master, result = desk.server("postgres"), Result()
    with stopped(master, *master.children()):
        began = time.monotonic()
        status = 0
        while status != 503 and time.monotonic() - began < 12.0:
            status = desk.get("", 6.0)[0]
        seconds = time.monotonic() - began
        result.said = result.hold("said by the page", seconds if status == 503 else 99.0, 5)
        time.sleep(max(0.0, 15.0 - seconds))
    since = now()
    after = watch(desk, None, lambda: all(desk.beats(n, since) for n in SERVICES), 0, 40)
    result.back, result.broken = after.back, result.broken + after.broken
    return result


def freeze_service(name: str, seconds: float, desk: Desk) -> Result:
    """SIGSTOP a service until it is said, then let it go on."""
    process, since = desk.service(name), now()
    assert process is not None
    with stopped(process):
        word = "stands still" if name == "simulator" else f"service:{name}"

        def said() -> bool:
            return desk.noticed(word, since) or (
                name == "simulator" and "stands still" in desk.get("", 5.0)[1]
            )

        result = watch(desk, said, lambda: True, seconds, seconds)
    again = now()
    after = watch(desk, None, lambda: desk.beats(name, again), 0, 30)
    result.back, result.broken = after.back, result.broken + after.broken
    return result


def forged_heartbeat(desk: Desk) -> Result:
    """Put a heartbeat a year ahead, and hold its service still: it must be told all the same."""
    from tradingsite.models import Heartbeat

    name = "straddle-tracker"
    process, since = desk.service(name), now()
    assert process is not None
    with stopped(process):
        time.sleep(3.0)
        Heartbeat.objects.filter(service=name).update(beat_at=now() + dt.timedelta(days=365))
        result = watch(
            desk,
            lambda: desk.noticed(f"service:{name}", since) or desk.noticed("heartbeat", since),
            lambda: True,
            60,
            60,
        )
    again = now()
    after = watch(desk, None, lambda: desk.beats(name, again), 0, 30)
    result.back = after.back
    return result


def monitor_restarted_with_alarms(desk: Desk) -> Result:
    """Restart the monitor while an alarm of its own is open: the alarm ends with its matter."""
    from tradingsite.models import Notice

    name, since = "btc-notifier", now()
    process, monitor = desk.service(name), desk.service("server-monitor")
    assert process is not None and monitor is not None
    key = f"service:{name}"
    with stopped(process):
        result = watch(desk, lambda: desk.noticed(key, since), lambda: True, 60, 60)
        monitor.kill()
        desk.until(lambda: desk.began("server-monitor", since), PATIENCE_SECONDS)
    opened = Notice.objects.filter(key=key, resolved_at__isnull=True)
    after = watch(desk, None, lambda: ask(lambda: not opened.exists()), 0, 90)
    result.back, result.broken = after.back, result.broken + after.broken
    result.notes.append("back: the alarm's end")
    return result
