"""What the tracker's two processes take: the bench `straddle`, once Django is set up."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil
import pytest
from django.db import connections

from markets.straddle.models import Series, Tick, Wanted
from tests.cloning import cloned
from tests.histories import seed_days
from tests.markets.straddle.processes import Tracker, tracking
from tests.waiting import wait_for
from tradingsite import clock

MEASURED_SECONDS = 30.0
SYNTHETIC_TICKS = 200_000
MIB = 2**20


def measure() -> dict[str, float]:
    """Return what both processes take, and what a stored tick does."""
    with cloned(), tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        seed_days("nifty")
        with tracking(Path(home), patch) as tracker:
            figures = _measure(tracker)
            tracker.end()
        figures["bytes_per_tick"] = _bytes_per_tick()
        connections.close_all()
    return figures


def _measure(tracker: Tracker) -> dict[str, float]:
    tracker.start()
    since = clock.from_seconds(tracker.market.now)
    Wanted.objects.create(is_wanted=True, since=since, job="bench", job_run=0)
    assert wait_for(lambda: Tick.objects.count() > 50, 30.0)
    assert tracker.process is not None
    processes = {
        "parent": psutil.Process(tracker.process.pid),
        "child": psutil.Process(tracker.child()),
    }
    before, ticks, began = _cpu(processes), Tick.objects.count(), time.monotonic()
    time.sleep(MEASURED_SECONDS)
    took = time.monotonic() - began
    figures = {
        f"{name}_core_share": (seconds - before[name]) / took
        for name, seconds in _cpu(processes).items()
    }
    figures |= {f"{name}_rss_mib": each.memory_info().rss / MIB for name, each in processes.items()}
    figures["ticks_stored_per_s"] = (Tick.objects.count() - ticks) / took
    return figures


def _cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(each.cpu_times()[:2]) for name, each in processes.items()}


def _bytes_per_tick() -> float:
    """Return what a tick takes on disk with its key, many of nine series having come in turn."""
    table = Tick._meta.db_table
    series = Series.objects.order_by("id").values_list("pk", flat=True)[:9]
    with connections["straddle"].cursor() as cursor:
        cursor.execute(f"TRUNCATE {table}")
        cursor.execute(
            f"INSERT INTO {table} (series_id, ts, number, call, put, premium, spot) "  # noqa: S608
            f"SELECT %s + n %% 9, now() + n / 18 * interval '1 s', n / 9 %% 2, n, n, n, n "
            f"FROM generate_series(0, %s) n ON CONFLICT DO NOTHING",
            [series[0], SYNTHETIC_TICKS],
        )
        cursor.execute(f"SELECT pg_total_relation_size('{table}')::float8 / count(*) FROM {table}")  # noqa: S608
        return float(cursor.fetchone()[0])
