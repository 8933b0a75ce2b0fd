"""Option quotes by the minute: the minute path, bytes a row, a whole day, and queries.

Everything is in a scratch database of its own, which is dropped at the end. The minute path and
raw COPY into a bare table store the same minutes by turns, so that a busy machine hits both. A
whole day comes from the simulator in another process, through the real client; each minute begins
when the one before is stored, and `day_speed` is what that makes of it. Figures of queries are from
a warm cache; buffers do not depend on the machine.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import _growth
from tradingsite.clock import Epoch

CHECKOUT = Path(__file__).resolve().parents[2]
NAME = "nightdesk_bench_ingest"
INSTRUMENTS = 730
# Of the market's clock inside a minute, so that a busy machine has three seconds for each.
SPEED = 20.0
DAY = dt.date(2026, 6, 1)
DAYS, MINUTES = 60, 480
RATIO_MINUTES = 200
KEYED = ("keyed_by_hand", "keyed_by_bytes")


def run() -> dict[str, float]:
    """Return the figures."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")
    os.environ["LOG_LEVEL"] = "ERROR"
    import django

    django.setup()
    from tradingsite.postgresql import timeouts

    timeouts.choose(timeouts.LONG)  # as in a worker: tasks have time limits of their own
    with tempfile.TemporaryDirectory() as folder, _scratch():
        figures = _ratio()
        figures |= _whole_day(Path(folder))
        with _simulator(_opens(), speed=1.0, wide=True) as (url, token, go):
            venue = partial(_growing_venue, url, token)
            figures |= _growth.measure(Path(folder), venue, go)
        figures |= _queries()
    return figures


# --- The minute path against raw COPY -------------------------------------------------------------


def _ratio() -> dict[str, float]:
    """Return how the minute path compares with COPY of the same rows.

    `ratio_to_copy` is against a bare table and the same encoded bytes, encoding included;
    `ratio_to_keyed_copy` against COPY as one writes it by hand with the driver, binary and a row at
    a time, into a table with the same partition, key and block ranges; `ratio_to_keyed_bytes` the
    same by our own encoded bytes. These two are of CPU time, the client's and its backend's. The
    minute path also writes the minute's row and is idempotent.
    """
    from django.db import connections

    from markets.options import partitions, storage
    from markets.options.spool import Spool

    day = dt.date(2026, 5, 29)
    opens = int(dt.datetime(2026, 5, 29, 3, 45, tzinfo=dt.UTC).timestamp())
    batches = list(_walk(opens, RATIO_MINUTES))
    known = storage.Known()
    known.ids(batches[0])
    known.ensure_day(day)
    with connections["options"].cursor() as cursor:
        cursor.execute("CREATE TABLE bare (LIKE options_quote)")
        for name in KEYED:
            _make_keyed(cursor, name, day)
    ids = known.ids(batches[0])
    numbers = np.array([ids[name] for name in batches[0].names])
    bare, by_rows, by_hand, by_bytes, path, spooled, took = (list[float]() for _ in range(7))
    cpu = _growth.cpu_of_both(connections["options"])
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for batch in batches:
            began = time.perf_counter()
            with connections["options"].cursor() as cursor:  # one statement, one commit
                encoded = storage.encode(batch.minute, numbers, batch.values)
                storage.copy_rows(cursor, encoded, "bare")
            bare.append(time.perf_counter() - began)
            began = time.perf_counter()
            _copy_by_rows(batch, numbers)
            by_rows.append(time.perf_counter() - began)
            kinds = [
                (by_hand, lambda: _copy_by_hand(batch, numbers)),  # noqa: B023 - called at once
                (by_bytes, lambda: _copy_by_bytes(batch, numbers)),  # noqa: B023
                (path, lambda: storage.store(batch, known)),  # noqa: B023
            ]
            for used, copy in (kinds[place] for place in random.permutation(3)):
                began, began_cpu = time.perf_counter(), cpu()
                copy()
                used.append(cpu() - began_cpu)
                if used is path:
                    took.append(time.perf_counter() - began)
            began = time.perf_counter()
            spool.put(batch).unlink()
            spooled.append(time.perf_counter() - began)
        again = sum(storage.store(batch, known) for batch in batches[:5])
    with connections["options"].cursor() as cursor:
        cursor.execute(f"DROP TABLE bare, {', '.join(KEYED)}")
    partitions.drop(day)
    medians = [float(np.median(each)) for each in (bare, took, spooled, by_rows)]
    keyed = [float(np.median(each)) for each in (by_hand, by_bytes, path)]
    return {
        "copy_bare_ms": medians[0] * 1_000,
        "copy_bare_by_rows_ms": medians[3] * 1_000,
        "minute_path_ms": medians[1] * 1_000,
        "spool_file_ms": medians[2] * 1_000,
        "ratio_to_copy": medians[0] / medians[1],
        "ratio_to_copy_by_rows": medians[3] / medians[1],
        "copy_keyed_cpu_ms": keyed[0] * 1_000,
        "minute_path_cpu_ms": keyed[2] * 1_000,
        "ratio_to_keyed_copy": keyed[0] / keyed[2],
        "ratio_to_keyed_bytes": keyed[1] / keyed[2],
        "rows_stored_twice": float(again),
    }


def _make_keyed(cursor: Any, name: str, day: dt.date) -> None:
    """Make a table with the quotes' columns, a partition of the day, its key and block ranges."""
    from markets.options import partitions

    start, end = (each.isoformat() for each in partitions.bounds(day))
    cursor.execute(
        f"CREATE TABLE {name} (LIKE options_quote) PARTITION BY RANGE (ts); "
        f"CREATE INDEX ON {name} USING brin (ts) WITH (pages_per_range = 8); "
        f"CREATE TABLE {name}_day PARTITION OF {name} "
        f"(PRIMARY KEY (ts, instrument_id) WITH (fillfactor = 100)) "
        f"FOR VALUES FROM ('{start}') TO ('{end}')"
    )


def _copy_by_hand(batch: Any, numbers: Any) -> None:
    """Copy a minute as one writes it with the driver: binary, a row at a time, one commit."""
    from django.db import connections

    ts = dt.datetime.fromtimestamp(batch.minute, dt.UTC)
    types = ["timestamptz", *["int4"] * 4, "int8", "int4", "int2", "int2"]
    with (
        connections["options"].cursor() as cursor,
        cursor.copy(f"COPY {KEYED[0]} FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.set_types(types)
        for number, row in zip(numbers.tolist(), batch.values.tolist(), strict=True):
            copy.write_row((ts, number, *row))


def _copy_by_bytes(batch: Any, numbers: Any) -> None:
    from django.db import connections

    from markets.options import storage

    with connections["options"].cursor() as cursor:
        encoded = storage.encode(batch.minute, numbers, batch.values)
        storage.copy_rows(cursor, encoded, KEYED[1])


def _copy_by_rows(batch: Any, numbers: Any) -> None:
    from django.db import connections

    ts = dt.datetime.fromtimestamp(batch.minute, dt.UTC)
    with (
        connections["options"].cursor() as cursor,
        cursor.copy("COPY bare FROM STDIN") as copy,
    ):
        for number, row in zip(numbers.tolist(), batch.values.tolist(), strict=True):
            copy.write_row((ts, number, *row))


def _walk(opens: int, minutes: int) -> Iterator[Any]:
    """Give minutes of quotes that move as options' do."""
    from decimal import Decimal

    from markets.options.minute_batch import Batch
    from markets.venues.base import VenueInstrument

    random = np.random.default_rng(7)
    names = tuple(f"NIFTY 2026-06-30 {20_000 + 50 * each} CE" for each in range(INSTRUMENTS))
    described = {
        name: VenueInstrument(
            *(name, name, 0, "CE", "NIFTY", dt.date(2026, 6, 30)),
            *(Decimal(name.split()[2]), Decimal(65), Decimal("0.05")),
        )
        for name in names
    }
    price = random.integers(200, 60_000, INSTRUMENTS)
    volume = random.integers(0, 10**6, INSTRUMENTS) * 65
    for number in range(minutes):
        price = np.maximum(price + random.integers(-40, 41, INSTRUMENTS) * 5, 5)
        volume = volume + random.integers(0, 400, INSTRUMENTS) * 65
        spread = random.integers(1, 6, INSTRUMENTS) * 5
        columns = [price, price - spread, price + spread, volume, volume // 2]
        columns += [random.integers(900, 2_500, INSTRUMENTS), np.full(INSTRUMENTS, 2)]
        values = np.stack(columns, axis=1).astype(np.int64)
        yield Batch(Epoch(opens + 60 * number), names, values, {}, described)


# --- A whole day through the simulator ------------------------------------------------------------


def _whole_day(folder: Path) -> dict[str, float]:
    """Return what a day of the simulator leaves: rows, commits, bytes."""
    from django.db import connections

    from markets.domain.calendar import NseCalendar, nse_sessions
    from markets.options import days, parquet, partitions, storage
    from markets.options.collector import Collector, TooLate
    from markets.simulator.world import BOARD_SECONDS

    calendar = NseCalendar(nse_sessions())
    session = calendar.session_on(DAY)
    assert session is not None
    with _simulator(session.opens_at - 120) as (url, token, go):
        venue = _Counted(_venue(url, token, folder, calendar))
        collector = Collector(venue, calendar, folder / "spool")
        commits, real_store = [], storage.store

        def timed(batch: Any, known: Any) -> int:
            began = time.perf_counter()
            stored = real_store(batch, known)
            commits.append(time.perf_counter() - began)
            return stored

        storage.store = timed
        late = 0
        try:
            began = time.monotonic()
            for minute in range(session.opens_at - 120, session.closes_at + 1, 60):
                go(minute)
                # The simulator keeps its quotes for a fifth of a real second.
                time.sleep(BOARD_SECONDS + 0.01)
                try:
                    collector.collect(dt.datetime.fromtimestamp(minute, dt.UTC))
                except TooLate:
                    late += 1
            seconds = time.monotonic() - began
        finally:
            storage.store = real_store
    with connections["options"].cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT (instrument_id, ts)) FROM options_quote")
        rows, distinct = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM options_gap WHERE filled_at IS NULL")
        gaps = cursor.fetchone()[0]
        cursor.execute(
            "SELECT reason, count(*) FROM options_gap GROUP BY 1 ORDER BY 2 DESC LIMIT 5"
        )
        for reason, count in cursor.fetchall():
            print(f"{count} gaps: {reason}", file=sys.stderr)
    live = sum(partitions.size(DAY))
    partitions.close(DAY)
    reindexed = sum(partitions.size(DAY))
    path = folder / "day.parquet"
    began = time.perf_counter()
    held = days.load(DAY)
    parquet.write(held, path)
    assert parquet.read(path).sha256() == held.sha256()
    archived = time.perf_counter() - began
    partitions.drop(DAY)
    minutes = (session.closes_at - session.opens_at) // 60 + 1
    return {
        "day_minutes": float(minutes),
        "day_speed": (minutes + 2) * 60.0 / seconds,
        "minutes_late": float(late),
        "rows_sent": float(venue.sent),
        "rows_stored": float(rows),
        "rows_doubled": float(rows - distinct),
        "gaps_open": float(gaps),
        "p50_commit_ms": float(np.percentile(commits, 50)) * 1_000,
        "p99_commit_ms": float(np.percentile(commits, 99)) * 1_000,
        "bytes_per_row_live": live / rows,
        "bytes_per_row_reindexed": reindexed / rows,
        "bytes_per_row_archived": path.stat().st_size / rows,
        "archive_and_verify_s": archived,
    }


class _Counted:
    """A venue that counts the quotes that reached us in a session's minutes."""

    def __init__(self, venue: Any) -> None:
        self._venue = venue
        self.sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._venue, name)

    def quotes(self, names: Any) -> Any:
        """Return the venue's quotes; those asked for only to learn the spots are not stored."""
        found = self._venue.quotes(names)
        self.sent += len(found) if len(names) > 3 else 0
        return found


def _opens() -> int:
    from markets.domain.calendar import NseCalendar, nse_sessions

    session = NseCalendar(nse_sessions()).session_on(DAY)
    assert session is not None
    return session.opens_at


def _growing_venue(
    url: str, token: dict[str, str], calendar: Any, folder: Path, *, paced: bool
) -> Any:
    return _venue(url, token, folder / f"paced-{paced}", calendar, paced=paced)


def _venue(
    url: str, token: dict[str, str], folder: Path, calendar: Any, *, paced: bool = False
) -> Any:
    from markets.simulator import credentials
    from markets.venues.kite.token import KiteConfig, TokenStore
    from markets.venues.kite.venue import KiteVenue
    from markets.venues.limiter import KINDS, KITE_RULES, RateLimiter, Rule

    store = TokenStore(folder / "token.json")
    store.save(token["access_token"], credentials.KITE_USER_ID)
    config = KiteConfig(
        credentials.KITE_API_KEY,
        credentials.KITE_API_SECRET,
        root=url,
        ws_root=url.replace("http", "ws"),
    )
    # At this speed a minute lasts half a second, and the broker's second is not ours.
    rules = KITE_RULES if paced else (Rule("all", 100_000, 1.0, KINDS),)
    limiter = RateLimiter(folder / "limits", rules)
    return KiteVenue(config, store, limiter, calendar)


@contextmanager
def _simulator(
    at: int, speed: float = SPEED, *, wide: bool = False
) -> Iterator[tuple[str, dict[str, str], Callable[[int], None]]]:
    """Serve the simulated broker from another process; yield a function that moves both clocks."""
    import requests

    from tradingsite import clock

    with tempfile.TemporaryDirectory() as folder:
        simulated = clock.SimulatedClock(Path(folder) / "clock.json")

        def go(minute: int) -> None:
            simulated.write(clock.Anchor(float(minute), time.time(), speed))

        go(at)
        clock.simulate(simulated.path)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.bench.ingest", str(simulated.path)),
                *([_growth.WIDE] if wide else []),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            token = requests.post(f"{url}/_sim/token", timeout=10).json()
            yield url, token, go
        finally:
            clock.simulate(None)
            process.terminate()
            process.wait(10)


async def _serve(path: str, *, wide: bool) -> None:
    """Serve the simulated broker on the clock of a file, and print its address."""
    if wide:
        _growth.widen_the_list()
    from aiohttp import web

    from markets.simulator.kite.app import Kite
    from markets.simulator.world import World
    from tradingsite import clock

    clock.simulate(Path(path))
    kite = Kite(World.build(clock.market_seconds), has_limits=False, owner_trades=False)
    # Two calls of 500 names, which make long addresses.
    runner = web.AppRunner(kite.app(), access_log=None, max_line_size=131_072)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


# --- Queries over 21 million rows -----------------------------------------------------------------


def _queries() -> dict[str, float]:
    """Return times and buffers of the three queries, over 60 days in as many partitions."""
    from django.db import connections

    from markets.options import partitions

    days = [DAY + dt.timedelta(days=number) for number in range(DAYS)]
    began = time.perf_counter()
    with connections["options"].cursor() as cursor:
        for day in days:
            _fill(cursor, day)
        cursor.execute("ANALYZE options_quote")
        seconds = time.perf_counter() - began
        start, end = partitions.bounds(days[30])
        minute = start + dt.timedelta(hours=11)
        of_day = "instrument_id = 365 AND ts >= %s AND ts < %s"
        asked: dict[str, tuple[str, list[Any]]] = {
            "one_day": (of_day, [start, end]),
            "chain_minute": (
                "ts = %s AND instrument_id = ANY(%s)",
                [minute, list(range(300, 380))],
            ),
            "sixty_days": (of_day, [partitions.bounds(DAY)[0], partitions.bounds(days[-1])[1]]),
        }
        figures = {"query_rows": float(DAYS * MINUTES * INSTRUMENTS), "query_load_s": seconds}
        for name, (where, values) in asked.items():
            figures |= _explain(cursor, name, where, values)
    return figures


def _fill(cursor: Any, day: dt.date) -> None:
    """Make a closed day: rows in the order of minutes, then its key."""
    from markets.options import partitions

    name, (start, end) = partitions.name_of(day), partitions.bounds(day)
    # Unlogged, because only what is asked is measured here.
    cursor.execute(f"CREATE UNLOGGED TABLE {name} (LIKE options_quote)")
    cursor.execute(
        f"INSERT INTO {name} SELECT %s + minute * interval '1 minute', "  # noqa: S608
        "instrument, 100 * instrument + minute, 99 * instrument, 101 * instrument, "
        "65 * minute, 650, 1300, 2 "
        f"FROM generate_series(0, {MINUTES - 1}) AS minute, "
        f"generate_series(1, {INSTRUMENTS}) AS instrument",
        [start + dt.timedelta(hours=9, minutes=15)],
    )
    bounds = f"FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
    cursor.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (instrument_id, ts) WITH (fillfactor=100)")
    cursor.execute(f"ALTER TABLE options_quote ATTACH PARTITION {name} FOR VALUES {bounds}")


def _explain(cursor: Any, name: str, where: str, values: list[Any]) -> dict[str, float]:
    query = f"SELECT * FROM options_quote WHERE {where}"  # noqa: S608
    best: dict[str, float] = {}
    for _ in range(5):
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", values)
        told = cursor.fetchone()[0]
        [plan] = told if isinstance(told, list) else json.loads(told)
        top = plan["Plan"]
        text = json.dumps(plan)
        found = {
            f"{name}_ms": float(plan["Execution Time"]),
            f"{name}_buffers": float(top["Shared Hit Blocks"] + top["Shared Read Blocks"]),
            f"{name}_partitions": float(len(set(re.findall(r"options_quote_\d{8}\b", text)))),
            f"{name}_rows": float(top["Actual Rows"]),
        }
        best = min((each for each in (best, found) if each), key=lambda each: each[f"{name}_ms"])
    return best


@contextmanager
def _scratch() -> Iterator[None]:
    """Have the options database be a new one of our own while the block runs."""
    import psycopg
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections
    from psycopg import sql

    from tradingsite import databases
    from tradingsite.embedded import launcher

    url = os.environ.get("DATABASE_URL") or launcher.ensure(settings.DATA_DIR).postgres
    with psycopg.connect(f"{url}/postgres", autocommit=True) as server:
        name = sql.Identifier(f"{NAME}_options")
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("CREATE DATABASE {}").format(name))
        connection = connections["options"]
        connection.close()
        connection.settings_dict |= databases.settings_for(url, "single", f"{NAME}_")["options"]
        try:
            call_command("migrate", "options", database="options", verbosity=0)
            yield
        finally:
            connection.close()
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], wide=_growth.WIDE in sys.argv))
