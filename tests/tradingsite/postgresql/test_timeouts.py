"""An end to every wait: statements, locks, answers; and nothing is lost to one."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction

from tradingsite.models import Heartbeat
from tradingsite.postgresql import timeouts
from tradingsite.postgresql.base import Connection
from tradingsite.postgresql.timeouts import Timeouts
from tradingsite.supervision import serving
from tradingsite.supervision.heartbeat import Beat

pytestmark = pytest.mark.django_db(transaction=True)
QUICK = Timeouts(statement=1.0, lock=0.3, idle=15.0)


def setting(name: str) -> str:
    """Return what the server holds this connection to."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [name])
        return str(cursor.fetchone()[0])


@contextmanager
def locked(table: str) -> Iterator[psycopg.Connection[Any]]:
    """Hold a table's lock from a connection of one's own."""
    one = connection.settings_dict
    with psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=one["NAME"],
    ) as other:
        other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield other


def test_a_service_waits_for_seconds_and_long_work_says_that_it_is_long() -> None:
    with timeouts.during(timeouts.SERVICE):
        assert (setting("statement_timeout"), setting("lock_timeout")) == ("5s", "2s")
        assert setting("idle_in_transaction_session_timeout") == "15s"
        assert setting("client_connection_check_interval") == "2s"
        with timeouts.long():
            assert (setting("statement_timeout"), setting("lock_timeout")) == ("1h", "1min")
        assert setting("statement_timeout") == "5s"

        @timeouts.long()
        def lasting() -> str:
            return setting("lock_timeout")

        assert lasting() == lasting() == "1min"


def test_what_was_said_inside_a_transaction_that_failed_is_said_anew() -> None:
    with timeouts.during(QUICK):
        assert setting("lock_timeout") == "300ms"
        with (
            timeouts.during(timeouts.SERVICE),
            pytest.raises(ZeroDivisionError),
            transaction.atomic(),
        ):
            assert setting("lock_timeout") == "2s"
            raise ZeroDivisionError
        with timeouts.during(timeouts.SERVICE):
            assert setting("lock_timeout") == "2s"


def test_a_locked_table_and_a_long_statement_end() -> None:
    with timeouts.during(QUICK), locked("tradingsite_heartbeat"):
        began = time.monotonic()
        with pytest.raises(OperationalError, match="lock timeout") as ended:
            Heartbeat.objects.count()
        assert time.monotonic() - began < 2.0 and serving.is_slow(ended.value)
        with (
            pytest.raises(OperationalError, match="statement timeout") as slow,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT pg_sleep(30)")
        assert serving.is_slow(slow.value)


def test_a_server_that_stands_still_is_not_waited_for() -> None:
    with timeouts.during(Timeouts(statement=0.5, lock=0.3, idle=15.0)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(OperationalError, match=r"did not answer within 2\.5 s") as ended:
                Heartbeat.objects.count()
            assert time.monotonic() - began < 4.0
            assert not serving.is_slow(ended.value), "nobody knows what became of it"
        finally:
            os.kill(pid, signal.SIGCONT)
        connection.close()
        assert Heartbeat.objects.count() == 0


def test_a_page_waits_once_for_all_that_it_asks() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        port, began = deaf.getsockname()[1], time.monotonic()
        with timeouts.within(1.0):
            for _ in range(3):
                with pytest.raises(psycopg.OperationalError):
                    Connection.connect(host="127.0.0.1", port=port, dbname="x", user="x")
        assert time.monotonic() - began < 2.0


def test_a_step_that_a_lock_keeps_out_is_done_once_it_may() -> None:
    stop, done = threading.Event(), []

    def step() -> None:
        Heartbeat.objects.filter(service="nobody").update(state="seen")
        done.append(time.monotonic())
        stop.set()

    held = threading.Event()

    def hold() -> None:
        with locked("tradingsite_heartbeat"):
            held.set()
            time.sleep(1.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with timeouts.during(QUICK):
        serving.serve(Beat("a-service"), step, 0.0, stop)
    thread.join()
    assert len(done) == 1


def test_only_what_the_server_undid_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def failing(sql: str) -> Callable[[], None]:
        def act() -> None:
            tried.append(1)
            with connections["default"].cursor() as cursor:
                cursor.execute(sql)

        return act

    with timeouts.during(Timeouts(statement=0.2, lock=0.1, idle=15.0)):
        with pytest.raises(OperationalError):
            serving.persist(failing("SELECT pg_sleep(9)"), 1.0)
        assert len(tried) > 1
        tried.clear()
        with pytest.raises(OperationalError):
            serving.persist(failing("SELECT pg_terminate_backend(pg_backend_pid())"), 1.0)
        assert len(tried) == 1
    connections["default"].close()
