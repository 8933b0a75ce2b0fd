"""How the cost of a minute of option quotes grows with the number of instruments.

The simulator lists wider chains and answers the unmodified client; the collector judges, works out
volatilities, spools and stores, as in a session. CPU is this process's, so without the simulator's
and PostgreSQL's; the seconds of a minute are real ones, at the pace that Kite allows.
"""

from __future__ import annotations

import datetime as dt
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

DAY = dt.date(2026, 6, 1)
MINUTES = 6
# Of each scale: expiries and strikes each side of NIFTY, BANKNIFTY and SENSEX.
SCALES = {
    1: ((4, 25), (2, 20), (2, 19)),
    3: ((4, 75), (2, 60), (2, 57)),
    10: ((6, 152), (3, 152), (3, 149)),
}
LISTED_EACH_SIDE = 160
WIDE = "wide"


def cpu_of_both(connection: Any) -> Callable[[], float]:
    """Return a function that tells the CPU seconds of this process and of its backend."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        file = Path(f"/proc/{cursor.fetchone()[0]}/schedstat")
    return lambda: time.process_time() + int(file.read_text().split()[0]) / 1e9


def widen_the_list() -> None:
    """Have the simulator of this process list as many strikes as the largest scale asks for."""
    from dataclasses import replace

    from markets.simulator import listing

    wide = [replace(each, strikes_each_side=LISTED_EACH_SIDE) for each in listing.CHAINS]
    listing.CHAINS = (wide[0], wide[1], wide[2])


def measure(folder: Path, venue: Callable[..., Any], go: Callable[[int], None]) -> dict[str, float]:
    """Return the figures of all scales, and print them as a table."""
    from markets.domain.calendar import NseCalendar, nse_sessions
    from markets.options import chain, partitions, storage

    calendar = NseCalendar(nse_sessions())
    session = calendar.session_on(DAY)
    assert session is not None
    found: dict[int, dict[str, float]] = {}
    wanted, real_store = chain.wanted, storage.store
    for place, (scale, sizes) in enumerate(SCALES.items()):
        names = zip(("NIFTY", "BANKNIFTY", "SENSEX"), sizes, strict=True)
        chains = tuple(chain.Chain(name, *size) for name, size in names)
        chain.wanted = partial(wanted, most=10_000)
        commits: list[float] = []

        def timed(batch: Any, known: Any, commits: list[float] = commits) -> int:
            began = time.perf_counter()
            stored = real_store(batch, known)
            commits.append(time.perf_counter() - began)
            return stored

        storage.store = timed
        try:
            first = session.opens_at + 60 * (60 + 20 * place)
            place_of = folder / str(scale)
            place_of.mkdir()
            found[scale] = _scale(place_of, partial(venue, calendar), go, first, chains, calendar)
            found[scale]["store_ms"] = float(np.median(commits)) * 1_000
        finally:
            chain.wanted, storage.store = wanted, real_store
    partitions.drop(DAY)
    _print(found)
    one, ten = found[1], found[10]
    return {
        "cost_growth_3x": found[3]["cpu_ms"] / one["cpu_ms"],
        "cost_growth_10x": ten["cpu_ms"] / one["cpu_ms"],
        "instruments_10x": ten["instruments"],
        "cpu_ms_1x": one["cpu_ms"],
        "cpu_ms_10x": ten["cpu_ms"],
        "minute_s_10x": ten["minute_s"],
        "store_ms_10x": ten["store_ms"],
        "rss_mb_10x": ten["rss_mb"],
        "minutes_missed_10x": ten["missed"],
    }


def _scale(
    folder: Path,
    venue: Callable[..., Any],
    go: Callable[[int], None],
    first: int,
    chains: Any,
    calendar: Any,
) -> dict[str, float]:
    from markets.options.collector import Collector
    from markets.options.models import CollectedMinute
    from tradingsite import clock

    free = venue(folder, paced=False)
    collector = Collector(free, calendar, folder / "spool", chains)
    cpu, stored = [], []
    for number in range(MINUTES + 1):
        go(first + 60 * number)
        time.sleep(0.25)  # the simulator keeps its quotes for a fifth of a second
        began = time.process_time()
        outcome = collector.collect(clock.from_seconds(first + 60 * number))
        cpu.append(time.process_time() - began)
        stored.append(outcome.stored)
        if outcome.reason:
            print(outcome, file=sys.stderr)
    # One more at the broker's pace.
    collector.venue = paced = venue(folder, paced=True)
    paced.instruments()
    go(first + 60 * (MINUTES + 1))
    began = time.monotonic()
    outcome = collector.collect(clock.from_seconds(first + 60 * (MINUTES + 1)))
    seconds = time.monotonic() - began
    row = CollectedMinute.objects.get(ts=clock.from_seconds(first + 60))
    return {
        "instruments": float(row.asked),
        "calls": float(-(-row.asked // 500)),
        # The first minute also reads the list and makes rows of the instruments. The least of the
        # others is what it costs; what is above it, others on the machine have added.
        "cpu_ms": float(np.min(cpu[1:])) * 1_000,
        "minute_s": seconds,
        "rss_mb": psutil.Process().memory_info().rss / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "missed": float(sum(not each for each in [*stored, outcome.stored])),
    }


def _print(found: dict[int, dict[str, float]]) -> None:
    rows = (
        ("instruments", "instruments", "{:,.0f}"),
        ("calls of quotes, one a second", "calls", "{:.0f}"),
        ("CPU of the collector, ms", "cpu_ms", "{:,.0f}"),
        ("  a quote, us", "", "{:.0f}"),
        ("a minute at Kite's pace, s", "minute_s", "{:.1f}"),
        ("its transaction, ms", "store_ms", "{:.1f}"),
        ("memory, MB", "rss_mb", "{:.0f}"),
    )
    for title, key, form in rows:
        values = [
            each[key] if key else 1_000 * each["cpu_ms"] / each["instruments"]
            for each in found.values()
        ]
        print(
            f"{title:32}" + "".join(f"{form.format(each):>10}" for each in values), file=sys.stderr
        )
    ten = found[10]
    most = 55.0 / max(ten["minute_s"], 0.1) * ten["instruments"]
    print(f"first to break: the calls of quotes, at some {most:,.0f} instruments", file=sys.stderr)
