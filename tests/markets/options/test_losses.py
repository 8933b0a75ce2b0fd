"""Nothing that was received is lost: killed collectors, a killed PostgreSQL, a full disk."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

from markets.options import gaps, partitions, storage
from markets.options.models import Gap, Quote
from markets.options.spool import Spool
from tests.markets.options.desk import MONDAY, OptionsDesk, drop_days, options_desk, stored
from tests.markets.simulator.broker import ist
from tradingsite import clock, databases
from tradingsite.clock import Epoch
from tradingsite.embedded import launcher
from tradingsite.models import Notice
from tradingsite.supervision.serving import DATABASE_ERRORS

pytestmark = pytest.mark.django_db(databases=["options", "default"], transaction=True)


@pytest.fixture
def desk(tmp_path: Path, set_market: Callable[..., None]) -> Iterator[OptionsDesk]:
    with options_desk(tmp_path, set_market) as made:
        yield made
        drop_days()


def run_and_die(desk: OptionsDesk, at: str, failpoint: str) -> None:
    """Collect a minute in a process that is killed at a point of it."""
    desk.go(at)
    connections.close_all()  # the child would close ours

    def collect() -> None:
        os.environ["NIGHTDESK_FAILPOINT"] = failpoint
        desk.collector.collect(clock.from_seconds(ist(at)))

    child = multiprocessing.get_context("fork").Process(target=collect)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("failpoint", "is_stored"), [("after_fetch", False), ("after_commit", True)]
)
def test_a_killed_collector_loses_nothing_it_received(
    desk: OptionsDesk, failpoint: str, is_stored: bool
) -> None:
    first, second = "2026-06-01 10:00", "2026-06-01 10:01"
    run_and_die(desk, first, failpoint)
    shown = desk.sent()
    assert bool(stored(first)) is is_stored
    assert len(desk.collector.spool.waiting()) == 1
    outcome = desk.minute(second)
    assert outcome.replayed == 1 and outcome.missing == 0
    rows = stored(first)
    assert len(rows) == len(stored(second)) > 70
    assert {key: shown[key] for key in rows} == rows
    assert desk.collector.spool.waiting() == []
    assert not Gap.objects.filter(ts__gte=clock.from_seconds(ist(first))).exists()


def test_a_killed_postgresql_costs_no_minute(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, dict[str, tuple[int, ...]]] = {}

    def minute(at: str) -> Any:
        outcome = desk.minute(at)
        shown[at] = desk.sent()
        return outcome

    with private_server() as var:
        assert minute("2026-06-01 10:00").stored > 70
        with monkeypatch.context() as patch:
            patch.setattr(storage, "copy_rows", then_kill_backend(storage.copy_rows))
            assert minute("2026-06-01 10:01").waits  # killed between COPY and commit
        kill_server(var)
        for at in ("2026-06-01 10:02", "2026-06-01 10:03"):
            assert minute(at).waits
        assert len(desk.collector.spool.waiting()) == 3
        launcher.ensure(var)
        until_it_answers()
        outcome = minute("2026-06-01 10:04")
        assert (outcome.replayed, outcome.missing) == (3, 0)
        assert desk.collector.spool.waiting() == []
        for at, board in shown.items():
            rows = stored(at)
            assert {key: board[key] for key in rows} == rows and len(rows) > 70
        assert Quote.objects.count() == sum(len(stored(at)) for at in shown)
        assert not Gap.objects.filter(ts__gte=clock.from_seconds(ist("2026-06-01 10:00"))).exists()


def test_a_connection_that_dies_under_the_collector_is_made_again(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    with psycopg.connect(**server_of("options"), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert desk.minute("2026-06-01 10:01").waits
    outcome = desk.minute("2026-06-01 10:02")
    assert outcome.replayed == 1
    assert len(stored("2026-06-01 10:01")) > 70


def test_a_full_disk_costs_the_file_and_not_the_minute(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with Path("/dev/full").open("wb", buffering=0) as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert desk.minute("2026-06-01 10:00").stored > 70
    assert list(desk.collector.spool.folder.iterdir()) == []


def test_the_spool_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from markets.options import spool
    from markets.options.minute_batch import Batch

    monkeypatch.setattr(spool, "MOST_FILES", 2)
    kept = Spool(tmp_path)
    for number in (1, 2):
        kept.put(Batch.nothing(Epoch(60 * number), "test"))
    with pytest.raises(spool.SpoolFull, match="2 minutes wait"):
        kept.put(Batch.nothing(Epoch(180), "test"))


# --- A server of our own --------------------------------------------------------------------------


@contextlib.contextmanager
def private_server() -> Iterator[Path]:
    """Have the options database on an embedded server that a test may kill."""
    folder = Path(tempfile.mkdtemp(prefix="nightdesk-test-"))
    folder.chmod(0o755)
    connection = connections["options"]
    before = dict(connection.settings_dict)
    try:
        address = launcher.ensure(folder / "var").postgres
        with psycopg.connect(address + "/postgres", autocommit=True) as server:
            server.execute("CREATE DATABASE private_options")
        connection.close()
        ours = databases.settings_for(address, "single", "private_")["options"]
        connection.settings_dict |= {
            name: ours[name] for name in ("HOST", "PORT", "USER", "PASSWORD", "NAME")
        }
        call_command("migrate", "options", database="options", verbosity=0)
        yield folder / "var"
    finally:
        connection.close()
        connection.settings_dict |= before
        for process in processes_in(folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        while processes_in(folder):
            time.sleep(0.05)
        shutil.rmtree(folder)


def kill_server(var: Path) -> None:
    """Kill PostgreSQL, all of it."""
    for process in processes_in(var / "embedded" / "postgres"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    while processes_in(var / "embedded" / "postgres"):
        time.sleep(0.05)


def then_kill_backend(real: Callable[..., None]) -> Callable[..., None]:
    """Return a COPY after which the server's process of this connection is killed."""

    def copy(cursor: Any, encoded: bytes, *table: str) -> None:
        real(cursor, encoded, *table)
        os.kill(cursor.connection.info.backend_pid, signal.SIGKILL)
        time.sleep(0.2)

    return copy


def test_a_dropped_partition_costs_what_was_in_it_and_no_minute_more(desk: OptionsDesk) -> None:
    for minute in range(3):
        desk.minute(f"2026-06-01 10:0{minute}")
    held = [len(stored(f"2026-06-01 10:0{minute}")) for minute in range(3)]
    with connections["options"].cursor() as cursor:  # by hand, behind the collector's back
        cursor.execute(f"DROP TABLE {partitions.name_of(MONDAY)}")
    outcome = desk.minute("2026-06-01 10:03")
    assert (outcome.waits, outcome.reason) == (False, "")
    assert len(stored("2026-06-01 10:03")) == outcome.stored > 70
    assert desk.collector.spool.waiting() == []
    notice = Notice.objects.get()
    assert notice.severity == "critical" and "the 3 minutes stored" in notice.text
    assert [number for _, number in gaps.gone(MONDAY)] == held
    desk.minute("2026-06-01 10:04")
    assert Notice.objects.get().count == 1


def test_a_partition_dropped_while_a_minute_waits_in_the_spool_is_made_again(
    desk: OptionsDesk,
) -> None:
    run_and_die(desk, "2026-06-01 10:00", "after_fetch")
    desk.collector._known.ensure_day(MONDAY)
    partitions.drop(MONDAY)
    assert desk.collector.replay() == 1
    assert len(stored("2026-06-01 10:00")) > 70
    assert list(desk.collector.spool.folder.iterdir()) == []


def test_the_second_collector_of_a_minute_makes_it_again_too(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    other = desk.another()
    other.collect(clock.from_seconds(ist("2026-06-01 10:00")))
    partitions.drop(MONDAY)
    # The minute has its row already: the quotes go by way of the temporary table.
    assert other.collect(clock.from_seconds(ist("2026-06-01 10:00"))).stored > 70
    assert len(stored("2026-06-01 10:00")) > 70


def until_it_answers() -> None:
    """Wait for the end of the crash recovery."""
    ends_at = time.monotonic() + 20.0
    while True:
        try:
            connections["options"].ensure_connection()
            return
        except DATABASE_ERRORS:
            assert time.monotonic() < ends_at, "PostgreSQL did not come back"
            time.sleep(0.1)


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return every process that works in a folder or below."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, FileNotFoundError):
            if Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process)
    return found


def server_of(alias: str) -> dict[str, Any]:
    """Return the parameters of a connection to a database."""
    one = connections[alias].settings_dict
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    return {**{name: one[key] for name, key in names.items()}, "dbname": one["NAME"]}
