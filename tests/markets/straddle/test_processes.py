"""The straddle tracker as it runs: a parent, its child, the simulated broker, a real database."""

import datetime as dt
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from django.db.models import QuerySet
from psycopg import sql

from markets import tasks
from markets.straddle.models import Gap, Series, Tick, Wanted
from tests.histories import seed_days
from tests.markets.simulator.broker import ist
from tests.markets.straddle.processes import Tracker, tracking
from tests.waiting import wait_for
from tradingsite.clock import IST
from tradingsite.models import Heartbeat, JobRun
from tradingsite.postgresql.migrate import open_server

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "nifty", "straddle"])


def at(time: str) -> str:
    """Return a firing's time of the session's day."""
    return dt.datetime.fromisoformat(f"2026-06-01 {time}").replace(tzinfo=IST).isoformat()


def heartbeat() -> tuple[str, str]:
    """Return what the service last said."""
    row = Heartbeat.objects.filter(service="straddle-tracker").first()
    return (row.state, row.detail) if row else ("", "")


def close_the_database(name: str) -> psycopg.Connection[tuple[object, ...]]:
    """Let nobody into the straddles' database, and throw everybody out."""
    server = open_server()
    server.execute(
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name))
    )
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
    )
    return server


def test_a_session_through_all_that_can_go_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One test, because each start of a real process costs seconds.
    seed_days("nifty")
    with tracking(tmp_path, monkeypatch) as tracker:
        tracker.start()
        assert wait_for(lambda: heartbeat()[0] == "idle", 20.0)
        assert heartbeat()[1] == "the session is open, and its job has not asked for the ticker"
        assert tracker.child() == 0
        tasks.start_straddle.delay(scheduled_for=at("09:15"))
        assert wait_for(lambda: tracker.child() != 0, 5.0)
        assert wait_for(lambda: Tick.objects.count() >= 9, 20.0)
        assert Series.objects.count() == 9
        assert tracker.has_state("connected")
        assert tracker.state().child_pid == tracker.child()

        _check_it_re_centres_and_an_outage_loses_nothing(tracker)
        _check_a_killed_child_is_started_again(tracker)
        _check_faults_of_the_feed_are_outlived(tracker)

        tasks.stop_straddle.delay(scheduled_for=at("15:30"))
        assert wait_for(lambda: tracker.child() == 0, 5.0)
        assert wait_for(lambda: heartbeat()[0] == "idle")
        assert not _open().exists()
        # SIGTERM finds a child that has hardly begun.
        Wanted.objects.update(is_wanted=True)
        assert wait_for(lambda: tracker.child() != 0, 5.0)
        assert tracker.end() == 0
        assert tracker.has_no_orphan(1.0)
        assert heartbeat()[0] == "stopped"
    jobs = JobRun.objects.order_by("id").values_list("job", "state")
    assert list(jobs) == [("straddle-start", "done"), ("straddle-stop", "done")]
    assert tracker.state().child_pid is None


def _check_it_re_centres_and_an_outage_loses_nothing(tracker: Tracker) -> None:
    tracker.market.pace = 40
    assert wait_for(lambda: Series.objects.filter(end="re-centred").exists(), 15.0)
    tracker.market.pace = 1
    child, name = tracker.child(), connections["straddle"].settings_dict["NAME"]
    connections["straddle"].close()
    with close_the_database(name) as server:
        time.sleep(2.5)
        server.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
        )
    before, frames = Tick.objects.count(), len(tracker.frames)
    assert wait_for(lambda: Tick.objects.count() > before + 40, 20.0)
    assert tracker.child() == child
    # Whatever was sent up to here, and nothing else.
    assert not Gap.objects.exclude(reason="nothing followed the straddle").exists()
    for row in Series.objects.all():
        ticks = list(row.ticks.order_by("ts", "number"))
        stored = [(tick.ts.timestamp(), tick.call, tick.put, tick.spot) for tick in ticks]
        sent = tracker.sent_of(row, frames)
        assert stored[: len(sent)] == sent, row
        assert all(tick.premium == tick.call + tick.put for tick in ticks)
        for tick in ticks[::5]:
            if not tick.ts.microsecond:
                assert (tick.call, tick.put, tick.spot) == tracker.quoted(row, tick.ts)
    for underlying in ("NIFTY", "BANKNIFTY", "SENSEX"):
        rows = Series.objects.filter(underlying=underlying, width=0).order_by("since")
        assert rows.count() >= 1
        assert all(first.until == then.since for first, then in pairwise(rows))


def _check_a_killed_child_is_started_again(tracker: Tracker) -> None:
    killed, since = tracker.child(), set(_open().values_list("since", flat=True))
    os.kill(killed, signal.SIGKILL)
    assert wait_for(lambda: tracker.child() not in (0, killed), 5.0)
    before = Tick.objects.count()
    assert wait_for(lambda: Tick.objects.count() > before, 20.0)
    # An underlying or two may have moved on meanwhile; with the others the series go on.
    assert set(_open().values_list("since", flat=True)) & since
    assert Gap.objects.filter(reason="nothing followed the straddle").count() == 2
    assert _open().count() == 9


def _check_faults_of_the_feed_are_outlived(tracker: Tracker) -> None:
    child = tracker.child()
    tracker.broker.fault("absurd_price", match="NIFTY 50")
    assert wait_for(lambda: not tracker.broker.kite.faults.waiting())
    tracker.broker.fault("frozen_socket", seconds=30.0)
    gaps = Gap.objects.filter(reason__startswith="no ticks came for")
    assert wait_for(gaps.exists, 20.0)
    tracker.broker.fault("token_expired")
    tracker.broker.fault("dropped_socket")
    assert tracker.has_state("waiting for a new token")
    assert wait_for(lambda: heartbeat()[0] == "waiting")
    tracker.sign_in()
    assert tracker.has_state("connected", 15.0)
    assert tracker.child() == child
    assert tracker.state().absurd == 1
    assert not Tick.objects.filter(spot__gt=10_000_000).exists()


def test_a_child_without_its_parent_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking(tmp_path, monkeypatch) as tracker:
        tracker.tokens.forget()
        child = tracker.start_child(ist("2026-06-01 09:15"), ist("2026-06-01 15:30"))
        assert child.stdin and child.stdout
        said = child.stdout.readline().decode()
        assert "waits for the broker's list: there is no token of the day" in said
        child.stdin.close()
        assert child.wait(5.0) == 0


def _open() -> QuerySet[Series]:
    return Series.objects.filter(until__isnull=True)
