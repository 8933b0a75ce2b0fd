"""The faults: each does one thing to a desk, and says how soon it was said and was over.

What is promised stands with each as the most seconds; None promises nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil

from tests.chaos.desk import Desk, TooLate, ask, stopped

SERVICES = (
    *("nifty-bot", "btc-bot", "personal-bot", "nifty-notifier", "btc-notifier"),
    *("straddle-tracker", "server-monitor", "worker", "beat", "gpu-worker", "pc-worker"),
)
PATIENCE_SECONDS = 60.0


@dataclass
class Result:
    """What came of a fault: seconds, and which promises were broken."""

    said: float | None = None
    back: float | None = None
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, what: str, seconds: float, most: float) -> float:
        """Note a promise that was broken; return the seconds."""
        if seconds > most:
            self.broken.append(f"{what} after {seconds:.1f} s, promised {most:g} s")
        return seconds


@dataclass(frozen=True)
class Fault:
    """One fault by name."""

    name: str
    do: Callable[[Desk], Result]
    needs_disk: bool = False


def now() -> dt.datetime:
    """Return the real time, aware."""
    return dt.datetime.now(dt.UTC)


def watch(
    desk: Desk,
    said: Callable[[], Any] | None,
    back: Callable[[], Any],
    said_most: float,
    back_most: float,
) -> Result:
    """Wait until a fault was said and was over; what does not come is a broken promise."""
    result, began = Result(), time.monotonic()
    while result.back is None or (said is not None and result.said is None):
        seconds = time.monotonic() - began
        if said is not None and result.said is None and said():
            result.said = result.hold("said", seconds, said_most)
        if result.back is None and back():
            result.back = result.hold("back", seconds, back_most)
        if seconds > max(said_most, back_most) + PATIENCE_SECONDS:
            missing = [] if result.back is not None else ["never back"]
            missing += ["never said"] if said is not None and result.said is None else []
            result.broken += missing
            break
        time.sleep(0.1)
    return result


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
    said = lambda: desk.get("", 3.0)[0] == 503  # noqa: E731
    seen: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < 8.0 and not seen:
        if said():
            seen.append(time.monotonic() - began)
    since = now()
    back = lambda: all(desk.beats(name, since) for name in SERVICES)  # noqa: E731
    result = watch(desk, None, back, 0, 60)
    if result.back is not None:
        result.back += since.timestamp() - (now().timestamp() - (time.monotonic() - began))
        result.back = round(time.monotonic() - began, 1)
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


# --- Locks, disk, partitions ---------------------------------------------------------------------


def table_lock_and_kill(desk: Desk) -> Result:
    """Lock a table the bot needs for 20 s and kill the bot meanwhile; it must come back."""
    from django.db import connections

    process, since = desk.service("btc-bot"), now()
    assert process is not None
    with _another_connection("btc") as cursor:
        cursor.execute("BEGIN; LOCK TABLE bots_riskstate IN ACCESS EXCLUSIVE MODE")
        time.sleep(4.0)
        process.kill()
        began, slowest, told = time.monotonic(), 0.0, False
        while time.monotonic() - began < 16.0:
            asked = time.monotonic()
            status = desk.get("trading/", 10.0)[0]
            slowest = max(slowest, time.monotonic() - asked if status else 99.0)
            told = told or desk.noticed("btc-bot", since)
            time.sleep(1.0)
        cursor.execute("ROLLBACK")
    connections["btc"].close()
    since = now()
    result = watch(desk, None, lambda: desk.beats("btc-bot", since), 0, 60)
    result.hold("/trading/ answered", slowest, 5)
    result.notes.append(f"/trading/ in {slowest:.1f} s at most")
    return result


def lock_of_a_stranger(desk: Desk) -> Result:
    """Have a stranger hold the bot's own lock, and kill the bot: it waits, says so, comes back."""
    from tradingsite.locks import ProcessLock

    process, since = desk.service("btc-bot"), now()
    assert process is not None
    with _another_connection("btc") as cursor:
        process.kill()
        taken = False
        began = time.monotonic()
        while not taken and time.monotonic() - began < 20.0:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [ProcessLock("btc bot", "btc").key])
            taken = bool(cursor.fetchone()[0])
        if not taken:
            return Result(broken=["the stranger did not get the lock"])
        result = watch(desk, lambda: desk.noticed("held:btc-bot", since), lambda: True, 30, 60)
    again = now()
    after = watch(desk, None, lambda: desk.beats("btc-bot", again), 0, 60)
    result.back, result.broken = after.back, result.broken + after.broken
    return result


@contextlib.contextmanager
def _another_connection(alias: str) -> Iterator[Any]:
    import psycopg
    from django.conf import settings

    where = settings.DATABASES[alias]
    with psycopg.connect(
        host=where["HOST"],
        port=where["PORT"],
        dbname=where["NAME"],
        user=where["USER"],
        password=where["PASSWORD"],
        autocommit=True,
    ) as connection:
        yield connection.cursor()


def disk_full(desk: Desk) -> Result:
    """Fill the disk to the last byte for 25 s, then make room."""
    since, filler = now(), desk.folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        said = watch(desk, lambda: desk.noticed("disk", since), lambda: True, 60, 60)
        time.sleep(max(0.0, 25.0 - (said.said or 0.0)))
    finally:
        filler.unlink()
    again = now()
    after = watch(desk, None, lambda: all(desk.beats(n, again) for n in SERVICES), 0, 60)
    return Result(said.said, after.back, [], said.broken + after.broken)


def lost_partition(desk: Desk) -> Result:
    """Drop the day's partition of option quotes: told, and made again."""
    from django.db import connections

    from markets.options import partitions
    from tradingsite import clock

    since = now()
    name = partitions.name_of(clock.trading_date(clock.market()))
    with connections["options"].cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {name}")

    def back() -> bool:
        with connections["options"].cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [name])
            return cursor.fetchone()[0] is not None

    result = watch(desk, None, lambda: ask(back), 0, 90)
    told = desk.noticed("partition", since)
    result.notes.append("told" if told else "no notice (the exchange may be closed)")
    return result


# --- Second ones, slow ones ----------------------------------------------------------------------


def seconds(desk: Desk) -> Result:
    """Start what runs already a second time: refused or waiting, never beside the first."""
    result = Result()
    up = desk.manage("up")
    began = time.monotonic()
    try:
        code = up.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        code = -1
    result.said = time.monotonic() - began
    if code != 78:
        result.broken.append(f"a second up ended with {code}")
    for words in (("runbot", "btc"), ("runmonitor",), ("runnotifier", "btc"), ("runsim",)):
        first, since = _holder(words), now()
        second = desk.manage(*words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            second.wait(8)
        if first and _holder(words) not in (first, None):
            result.broken.append(f"a second {' '.join(words)} took over")
        if second.poll() is None:
            second.send_signal(signal.SIGTERM)
            second.wait(30)
            told = desk.noticed("held:", since)
            result.notes.append(f"{words[0]} waits{', told' if told else ''}")
        else:
            result.notes.append(f"{words[0]} ends with {second.poll()}")
    return result


def _holder(words: tuple[str, ...]) -> int | None:
    from tradingsite import heartbeat

    names = {"runbot": "btc-bot", "runmonitor": "server-monitor", "runnotifier": "btc-notifier"}
    row = (ask(heartbeat.last_words) or {}).get(names.get(words[0], "simulator"))
    return row.pid if row else None


def slow_clients(desk: Desk) -> Result:
    """Open twelve connections that never finish their request: the page must still answer."""
    host, port = desk.address.removeprefix("http://").rstrip("/").split(":")
    slow, result, worst = [], Result(), 0.0
    try:
        for _ in range(12):
            each = socket.create_connection((host, int(port)), timeout=5)
            each.sendall(
                b"POST /trading/btc/halt/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9"
            )
            slow.append(each)
        began = time.monotonic()
        while time.monotonic() - began < 15.0:
            asked = time.monotonic()
            status = desk.get("healthz", 8.0)[0]
            worst = max(worst, time.monotonic() - asked if status else 99.0)
            time.sleep(0.5)
    finally:
        for each in slow:
            each.close()
    result.back = result.hold("the page answered", worst, 5)
    result.notes.append("back: the slowest answer meanwhile")
    return result


FAULTS: tuple[Fault, ...] = (
    *(Fault(f"SIGKILL {name}", partial(kill_service, name)) for name in SERVICES),
    Fault("SIGKILL dashboard", kill_dashboard),
    Fault("SIGKILL simulator", kill_simulator),
    Fault("SIGKILL Valkey", kill_valkey),
    Fault("SIGKILL one backend", kill_backend),
    Fault("SIGKILL postmaster", kill_postmaster),
    Fault("SIGSTOP PostgreSQL 15 s", freeze_postgres),
    Fault("SIGSTOP btc-bot", partial(freeze_service, "btc-bot", 60.0)),
    Fault("SIGSTOP simulator", partial(freeze_service, "simulator", 15.0)),
    Fault("table lock 20 s + SIGKILL", table_lock_and_kill),
    Fault("a stranger holds the lock", lock_of_a_stranger),
    Fault("slow clients", slow_clients),
    Fault("second up, bot, monitor ...", seconds),
    Fault("partition dropped", lost_partition),
    Fault("heartbeat in the future", forged_heartbeat),
    Fault("monitor restarted, alarms open", monitor_restarted_with_alarms),
    Fault("disk full 25 s", disk_full, needs_disk=True),
)
