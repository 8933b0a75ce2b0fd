"""Core share of the desk's stream of ticks: 730 options in full mode, once a second.

The simulated broker runs in another process; what is measured is everything this process spends on
the stream: Twisted, autobahn, kiteconnect, the parse and the desk's own ticks. `parse_ms_library`
is what kiteconnect's parser alone would take for each frame.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from aiohttp import web

from markets.simulator.faults import Faults
from markets.simulator.kite.packets import Sheet
from markets.simulator.kite.ticker import TICKER_FAULTS, Ticker
from markets.simulator.world import World
from markets.venues.base import Tick
from markets.venues.kite.packets import parse
from markets.venues.kite.ticker import KiteStream
from tradingsite.clock import IST

INSTRUMENTS = 730
# A second each; the first ones find imports and connections still being made.
WARMING_FRAMES, MEASURED_FRAMES = 3, 20
REPEATS = 30
TOKEN = "anything"


def run() -> dict[str, float]:
    """Return the share of one core that the stream takes, and what a frame takes to parse."""
    from kiteconnect import KiteTicker

    logging.getLogger("kiteconnect").setLevel(logging.CRITICAL)  # it reports the end as an error
    frames: SimpleQueue[int] = SimpleQueue()

    def take(ticks: list[Tick]) -> None:
        frames.put(len(ticks))

    with _simulator() as server:
        names = {token: f"instrument {token}" for token in server["tokens"]}
        stream = KiteStream("key", lambda: TOKEN, names, take, server["url"]).start()
        for _ in range(WARMING_FRAMES):
            frames.get()
        cpu, real = time.process_time(), time.monotonic()
        ticks = sum(frames.get() for _ in range(MEASURED_FRAMES))
        cpu, real = time.process_time() - cpu, time.monotonic() - real
        stream.close()
    frame = base64.b64decode(server["frame"])
    library, now = KiteTicker("key", TOKEN), dt.datetime.now(dt.UTC)
    return {
        "core_share": cpu / real,
        "ticks_per_s": ticks / real,
        "frames": float(MEASURED_FRAMES),
        "parse_ms_library": _best_ms(lambda: library._parse_binary(frame)),
        "parse_ms_ours": _best_ms(lambda: parse(frame, names, now)),
        "encode_ms_simulator": server["encode_ms"],
    }


def _best_ms(act: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        began = time.thread_time()
        act()
        best = min(best, time.thread_time() - began)
    return best * 1_000


@contextmanager
def _simulator() -> Iterator[dict[str, Any]]:
    """Run the simulated ticker in a process; yield what it says of itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.ticks"],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def _serve() -> None:
    began, opens = time.time(), dt.datetime(2026, 6, 1, 11, 0, tzinfo=IST).timestamp()
    world = World.build(lambda: opens + time.time() - began)
    ticker = Ticker(world, Faults(TICKER_FAULTS), lambda *_: True, ticks_per_second=1.0)
    app = web.Application()
    app.router.add_get("/", ticker.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    board = world.board()
    rows = board.listing.rows
    options = [place for place, row in enumerate(rows) if row.is_option][:INSTRUMENTS]
    places, everything = np.array(options), {"full": np.arange(INSTRUMENTS)}
    said = {
        "url": f"ws://127.0.0.1:{runner.addresses[0][1]}",
        "tokens": [rows[place].token for place in options],
        "frame": base64.b64encode(Sheet.of(board, places).frame(everything)).decode(),
        "encode_ms": _best_ms(lambda: Sheet.of(board, places).frame(everything)),
    }
    print(json.dumps(said), flush=True)
    await ticker.run()


if __name__ == "__main__":
    asyncio.run(_serve())
