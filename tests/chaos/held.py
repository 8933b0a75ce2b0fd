"""Locks that are held, a disk that is full, what is lost, second ones and slow ones."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests.chaos.desk import Desk, ask
from tests.chaos.outcome import PATIENCE_SECONDS, SERVICES, Result, now, watch

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
    from tradingsite.supervision import heartbeat

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
