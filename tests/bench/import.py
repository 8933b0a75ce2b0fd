"""Import 1.8 million one-minute bars, beside what one writes with pandas for the same.

Ours reads a CSV file, makes bars of 15m, 1h and 1d from each session's open and stores them, every
check on. What it is held against is `read_csv`, the same bars by a group-by, and COPY into a table
with the same columns, keys and indexes; it checks nothing and cannot be undone. Neither computes
features. The file is NIFTY's calendar since 2007 with made prices. Each import is a process of its
own with an empty table, and the two take turns; `ratio_to_pandas` is their seconds by ours, the
middle of the pairs, and `ratio_to_pandas_cpu` the same of the CPU time of the process and of its
database backend. Libraries are loaded before the clock starts, but count as memory: `peak_mb` is
the process's peak resident memory beyond what it held with Django set up.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
MARKET = "nifty"
MADE = ("15m", "1h", "1d")
PAIRS = 3
SEED = 7
INDIA_SECONDS = 19_800
BESIDE = "bar_by_pandas"
KINDS = ("ours", "pandas")


def run() -> dict[str, float]:
    """Return the figures, measured in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return _process("whole", folder)


def _process(kind: str, told: str) -> dict[str, float]:
    """Run a part of the bench in a fresh process; return the figures that it prints last."""
    code = f"import importlib; importlib.import_module('tests.bench.import').{kind}({told!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the process of {kind} failed: {done.stderr[-2_000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def whole(folder: str) -> None:
    """Make the file and the databases, import by turns, and print the figures."""
    import django

    django.setup()
    from django.db import connections

    from markets.models import Bar
    from tests.cloning import cloned

    file = Path(folder) / "nifty_1m.csv"
    rows = _write(file)
    table = Bar._meta.db_table
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with cloned():
        with connections[MARKET].cursor() as cursor:
            cursor.execute(f"CREATE TABLE {BESIDE} (LIKE {table} INCLUDING ALL)")
        for turn in range(PAIRS):
            with connections[MARKET].cursor() as cursor:
                cursor.execute(f"TRUNCATE {table}, {BESIDE} CASCADE")
            for kind in KINDS if turn % 2 else reversed(KINDS):
                found[kind].append(_process(kind, str(file)))
            stored = _require_same(table)
        connections[MARKET].close()
    middle = {
        f"{'pandas_' if kind == 'pandas' else ''}{name}": statistics.median(
            each[name] for each in found[kind]
        )
        for kind in KINDS
        for name in found[kind][0]
    }
    ratios = {
        f"ratio_to_pandas{ending}": statistics.median(
            theirs[name] / ours[name]
            for ours, theirs in zip(found["ours"], found["pandas"], strict=True)
        )
        for ending, name in (("", "seconds"), ("_cpu", "cpu_seconds"))
    }
    sizes = {"rows": float(rows), "bars_stored": float(stored)}
    print(json.dumps(ratios | middle | {"rows_per_s": rows / middle["seconds"]} | sizes))


def ours(file: str) -> None:
    """Import the file as the desk does, without features, and print what it took."""
    import django

    django.setup()
    beyond = _watched_memory()
    from unittest import mock

    import pyarrow.compute
    import pyarrow.csv  # noqa: F401 - loaded before the clock starts

    from markets import store
    from markets.imports import bars as bar_files
    from markets.imports import batches as import_batches

    with _measured(beyond), mock.patch.object(import_batches, "_features", return_value=0):
        calendar = store.load_calendar(MARKET)
        read = bar_files.read_files([Path(file)], "1m", calendar, bar_files.ReadOptions(MARKET))
        import_batches.import_bars(MARKET, read.bars, file=file)


def pandas(file: str) -> None:
    """Import the file as one writes it with pandas and COPY, and print what it took."""
    import django

    django.setup()
    beyond = _watched_memory()
    import io

    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]
    from django.db import connections, transaction

    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    with _measured(beyond), transaction.atomic(using=MARKET):
        read = pd.read_csv(file, parse_dates=["date"])
        at = read.pop("date").to_numpy().astype("datetime64[s]").astype(np.int64) - INDIA_SECONDS
        day = pd.Series((at + INDIA_SECONDS) // 86_400)
        by_day = pd.Series(at).groupby(day)
        opened = by_day.transform("first").to_numpy()
        closed = by_day.transform("last").to_numpy() + 60
        for timeframe, length in zip(MADE, (900, 3_600, 86_400), strict=True):
            opens = opened + (at - opened) // length * length
            made = read.groupby(opens, sort=True).agg(how)
            ends = pd.Series(closed).groupby(opens).first().to_numpy()
            made.insert(0, "closes_at", np.minimum(made.index.to_numpy() + length, ends))
            made.insert(0, "opens_at", made.index)
            for name in ("opens_at", "closes_at"):
                made[name] = pd.to_datetime(made[name], unit="s", utc=True)
            made["timeframe"], made["source"] = timeframe, "imported"
            text = io.StringIO()
            made.to_csv(text, index=False, header=False)
            columns = ", ".join(made.columns)
            with (
                connections[MARKET].cursor() as cursor,
                cursor.copy(f"COPY {BESIDE} ({columns}) FROM STDIN (FORMAT csv)") as copy,
            ):
                copy.write(text.getvalue())


@contextmanager
def _measured(beyond: Any) -> Iterator[None]:
    """Print the seconds of the block, its CPU time with the backend's, and the peak memory."""
    from django.db import connections

    from tests.bench._growth import cpu_of_both

    cpu = cpu_of_both(connections[MARKET])
    began, began_cpu = time.perf_counter(), cpu()
    yield
    figures = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu() - began_cpu}
    print(json.dumps(figures | {"peak_mb": beyond()}))


def _watched_memory() -> Any:
    """Return a function that tells by how many MB the peak of memory exceeds what is held now."""
    # Else a process begins with the peak of the one that started it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    start = _peak_kb()
    return lambda: (_peak_kb() - start) / 1_024


def _peak_kb() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("the system does not tell the peak of memory")


def _write(file: Path) -> int:
    """Write the minutes of the calendar since 2007 with prices of a random walk; return the rows.

    Minutes in a pause, or in which the index has no price, are not among them.
    """
    import numpy as np

    from markets.domain.calendar import NseCalendar, nse_sessions

    sessions = nse_sessions()
    calendar = NseCalendar(sessions)
    at = np.concatenate([calendar.bar_opens("1m", each.date) for each in sessions])
    random = np.random.default_rng(SEED)
    moves = 4e-4 * random.standard_normal(len(at) + 1)
    # About a level that rises from 4,000 to 25,000, and never far from it.
    swing = np.cumsum(moves) - np.linspace(0.0, moves.sum(), len(moves))
    level = np.linspace(np.log(4_000.0), np.log(25_000.0), len(moves))
    price = np.exp(level + swing).round(2)
    opened, closed = price[:-1], price[1:]
    reach = opened * 2e-4 * random.random((2, len(at)))
    high = (np.maximum(opened, closed) + reach[0]).round(2)
    low = (np.minimum(opened, closed) - reach[1]).round(2)
    volume = random.integers(0, 10**6, len(at))
    wall = (at + INDIA_SECONDS).astype("datetime64[s]").astype(dt.datetime).tolist()
    columns = [each.tolist() for each in (opened, high, low, closed, volume)]
    with file.open("w", encoding="ascii") as stream:
        stream.write("date,open,high,low,close,volume\n")
        for time_, *values in zip(wall, *columns, strict=True):
            o, h, low_, c, v = values
            stream.write(f"{time_},{o:.2f},{h:.2f},{low_:.2f},{c:.2f},{v}\n")
    return len(at)


def _require_same(table: str) -> int:
    """Return how many bars are stored; raise RuntimeError where the two imports disagree."""
    from django.db import connections

    columns = "timeframe, opens_at, open, high, low, close, volume"
    with connections[MARKET].cursor() as cursor:
        cursor.execute(
            f"SELECT (SELECT count(*) FROM {table}), "  # noqa: S608
            f"(SELECT count(*) FROM (SELECT {columns} FROM {table} "
            f"EXCEPT SELECT {columns} FROM {BESIDE}) AS ours), "
            f"(SELECT count(*) FROM (SELECT {columns} FROM {BESIDE} "
            f"EXCEPT SELECT {columns} FROM {table}) AS theirs)"
        )
        stored, ours_alone, theirs_alone = cursor.fetchone()
    if ours_alone or theirs_alone or not stored:
        raise RuntimeError(
            f"{stored:,} bars: {ours_alone:,} are ours alone and {theirs_alone:,} only pandas'"
        )
    return int(stored)
