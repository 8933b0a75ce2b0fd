"""What the simulator itself can serve, so that later figures are not the simulator's.

It runs in a process of its own; every figure is for a second of that process's CPU time.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psutil
import requests

CHECKOUT = Path(__file__).resolve().parents[2]
SYMBOLS = 500
REQUESTS = 60
INSTRUMENTS = 730
CONNECTIONS = 3
SECONDS = 8.0
FREE = ("--kite-port", "0", "--exchange-port", "0", "--telegram-port", "0", "--news-port", "0")


def run() -> dict[str, float]:
    """Return quotes of 500 symbols a CPU second, full packets a CPU second, and the memory."""
    with _simulator() as (process, url):
        signed = requests.post(f"{url}/_sim/token", timeout=10).json()
        session = requests.Session()
        token = f"token {signed['api_key']}:{signed['access_token']}"
        session.headers["Authorization"] = token
        lines = session.get(f"{url}/instruments/NFO", timeout=10).text.splitlines()[1:]
        rows = [line.split(",") for line in lines]
        keys = [("i", f"NFO:{row[2]}") for row in rows[:SYMBOLS]]
        tokens = [int(row[0]) for row in rows[:INSTRUMENTS]]
        session.get(f"{url}/quote", params=keys, timeout=10)
        before, began = _cpu(process), time.perf_counter()
        for _ in range(REQUESTS):
            session.get(f"{url}/quote", params=keys, timeout=10).raise_for_status()
        quotes_cpu, quotes_wall = _cpu(process) - before, time.perf_counter() - began
        before = _cpu(process)
        address = f"{url}/?api_key={signed['api_key']}&access_token={signed['access_token']}"
        packets = asyncio.run(_listen(address, tokens))
        ticks_cpu = _cpu(process) - before
        return {
            "quote500_per_cpu_s": REQUESTS / quotes_cpu,
            "quote500_per_wall_s": REQUESTS / quotes_wall,
            "full_packets_per_cpu_s": packets / ticks_cpu,
            "ticker_core_share": ticks_cpu / SECONDS,
            "packets_per_s": packets / SECONDS,
            "rss_mb": process.memory_info().rss / 1e6,
        }


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _listen(address: str, tokens: list[int]) -> int:
    """Return how many full packets all connections together got."""
    async with aiohttp.ClientSession() as session:
        counts = await asyncio.gather(
            *(_count(session, address, tokens) for _ in range(CONNECTIONS))
        )
    return sum(counts)


async def _count(session: aiohttp.ClientSession, address: str, tokens: list[int]) -> int:
    count, ends_at = 0, time.monotonic() + SECONDS
    async with session.ws_connect(address, max_msg_size=0) as socket:
        await socket.send_json({"a": "subscribe", "v": tokens})
        await socket.send_json({"a": "mode", "v": ["full", tokens]})
        while (left := ends_at - time.monotonic()) > 0.0:
            try:
                message = await socket.receive(left)
            except TimeoutError:
                break
            if message.type == aiohttp.WSMsgType.BINARY and len(message.data) > 1:
                count += int.from_bytes(message.data[:2], "big")
    return count


@contextmanager
def _simulator() -> Iterator[tuple[psutil.Process, str]]:
    command = [sys.executable, "manage.py", "runsim", "--standalone", "--no-rate-limits", *FREE]
    process = subprocess.Popen(
        [command[0], "-u", *command[1:]], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    assert process.stdout is not None
    try:
        url = ""
        for line in process.stdout:
            if found := re.match(r"simulated kite +(http://\S+)", line):
                url = found[1]
            if "clock starts" in line:
                break
        yield psutil.Process(process.pid), url
    finally:
        process.terminate()
        process.wait(10)
