"""The pages before slow clients and databases that do not answer: a real server, real sockets."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connections

from tests.test_architecture import ROOT
from tests.waiting import wait_for
from tradingsite.models import Heartbeat
from tradingsite.supervision import worker_heartbeats
from tradingsite.supervision.services import SERVICE_VARIABLE

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
SAYS_WITHIN_SECONDS = 3.0
THREADS = 4


class Web:
    """The dashboard as a process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "web.log"
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "WEB_PORT": str(self.port),
            SERVICE_VARIABLE: "dashboard",
        }
        command = [sys.executable, "-m", "gunicorn", "tradingsite.wsgi"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "-c", "python:tradingsite.web.gunicorn_config"],
                cwd=ROOT,
                env=env,
                stderr=log,
            )

    def ask(self, path: str = "/healthz", timeout: float = 15.0) -> tuple[int, str, float]:
        """Return the status and text of a page, and how long it took."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        return answer.status, text, time.monotonic() - began

    def answers(self) -> bool:
        """Say whether it is up."""
        assert self.process.poll() is None, self.log.read_text()
        return worker_heartbeats.answers("127.0.0.1", self.port)

    def open(self, data: bytes) -> socket.socket:
        """Return a connection that has sent something."""
        held = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        held.sendall(data)
        return held


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    running = Web(tmp_path)
    try:
        assert wait_for(running.answers, 40.0)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(20)


@contextmanager
def hand(alias: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a connection of one's own to a database."""
    one = connections[alias].settings_dict
    with psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname=one["NAME"],
    ) as connection:
        yield connection


def backends() -> list[int]:
    """Return the server's processes that serve this test's databases to anybody but this one."""
    prefix = connections["default"].settings_dict["NAME"].removesuffix("default")
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE starts_with(datname, %s) "
            "AND backend_type = 'client backend' AND client_port NOT IN "
            "(SELECT coalesce(client_port, 0) FROM pg_stat_activity WHERE pid = pg_backend_pid())",
            [prefix],
        )
        return [row[0] for row in cursor.fetchall()]


def test_slow_clients_keep_nobody_out_and_end(web: Web) -> None:
    starts = (
        b"",
        b"GET /healthz HT",
        b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\na",
        b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    )
    held = [web.open(start) for start in starts for _ in range(2 * THREADS)]
    # One more asks properly, and begins a second request behind the first.
    held.append(web.open(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea"))
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.3):
            for each in held[THREADS : 2 * THREADS * 3]:
                try:
                    each.send(b"x")
                except OSError:
                    return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for _ in range(5):
            status, _, seconds = web.ask()
            assert status == 200 and seconds < SAYS_WITHIN_SECONDS
        assert wait_for(lambda: Heartbeat.objects.filter(service="dashboard").exists(), 10.0)
        seen = Heartbeat.objects.get().beat_at
        assert wait_for(lambda: Heartbeat.objects.get().beat_at > seen, 10.0)
        # Each of them is shown the door in the end, whatever it drips.
        for each in held[:2]:
            each.settimeout(20)
            assert each.recv(1) == b""
    finally:
        stop.set()
        dripping.join()
        for each in held:
            each.close()


def test_requests_of_every_form_are_answered(web: Web) -> None:
    two = web.open(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2)
    two.settimeout(5)
    seen = b""
    while seen.count(b"200 OK") < 2:
        part = two.recv(4096)
        assert part, seen
        seen += part
    two.close()
    slowly = web.open(b"")
    for byte in b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n":
        slowly.sendall(bytes([byte]))
        time.sleep(0.005)
    assert b"200 OK" in slowly.recv(4096)
    expects = web.open(
        b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n"
    )
    assert b"100 Continue" in expects.recv(4096)
    expects.sendall(b"a=b")
    assert wait_for(lambda: b"HTTP/1.1 4" in expects.recv(4096), 5.0)
    large = web.open(
        b"POST /login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n"
    )
    assert b"413" in large.recv(4096)


def test_a_locked_table_and_a_frozen_server_are_said_within_three_seconds(web: Web) -> None:
    with hand("default") as locker:
        locker.execute("LOCK TABLE tradingsite_heartbeat IN ACCESS EXCLUSIVE MODE")
        status, text, seconds = web.ask("/")
        assert status == 503 and "database does not answer" in text
        assert seconds < SAYS_WITHIN_SECONDS
    with hand("nifty") as locker:
        locker.execute("LOCK TABLE bots_riskstate IN ACCESS EXCLUSIVE MODE")
        for path in ("/", "/trading/"):
            status, text, seconds = web.ask(path)
            assert "does not answer" in text and seconds < SAYS_WITHIN_SECONDS, (path, seconds)
    assert web.ask("/")[0] == 200
    frozen = backends()
    assert frozen
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        status, text, seconds = web.ask("/")
        assert seconds < SAYS_WITHIN_SECONDS
        assert status == 200 or "database does not answer" in text
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert wait_for(lambda: web.ask("/")[0] == 200, 10.0)


def test_the_heartbeat_is_an_answer() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        began = time.monotonic()
        assert not worker_heartbeats.answers("127.0.0.1", deaf.getsockname()[1])
        assert time.monotonic() - began < worker_heartbeats.ANSWER_SECONDS + 1.0
    assert settings.DATABASES["default"]["ENGINE"] == "tradingsite.postgresql"
