"""The simulator as a process: its ports, its help, and what it says when a port is taken."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from django.conf import settings
from django.core.management import CommandError, call_command
from kiteconnect import KiteConnect

from markets.simulator import credentials
from markets.simulator.servers import Ports, PortTaken, Servers, services_of
from tests.markets.simulator.broker import shared_world
from tradingsite import clock

STANDALONE = (sys.executable, "manage.py", "runsim", "--standalone")
FREE = ("--kite-port", "0", "--exchange-port", "0", "--telegram-port", "0", "--news-port", "0")


@contextmanager
def running(*options: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """Start the simulator by itself on free ports; yield its process and its addresses."""
    # Databases out of reach, so that it is plain that none is needed.
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1"}
    process = subprocess.Popen(
        [*STANDALONE, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=settings.BASE_DIR,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    addresses: dict[str, str] = {}
    try:
        for line in process.stdout:
            if found := re.match(r"simulated (\w+) +(http://\S+)", line):
                addresses[found[1]] = found[2]
            if "clock starts" in line:
                break
        assert set(addresses) == {"kite", "exchange", "telegram", "news"}
        yield process, addresses
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_the_simulator_stands_alone_runs_its_clock_and_ends_clean() -> None:
    with running(*FREE, "--at", "2026-06-01 10:00", "--speed", "60") as (process, addresses):
        token = requests.post(f"{addresses['kite']}/_sim/token", timeout=5).json()
        client = KiteConnect(token["api_key"], root=addresses["kite"])
        client.set_access_token(token["access_token"])
        first = client.quote(["NSE:INFY"])["NSE:INFY"]["timestamp"]
        assert first.date().isoformat() == "2026-06-01" and first.hour == 10
        time.sleep(1.1)
        later = client.quote(["NSE:INFY"])["NSE:INFY"]["timestamp"]
        assert 55 <= (later - first).total_seconds() <= 600
        assert (
            b"Nightdesk simulated news"
            in requests.get(f"{addresses['news']}/rss", timeout=5).content
        )
        for name in ("exchange", "telegram"):
            assert requests.get(f"{addresses[name]}/_sim/{name}", timeout=5).ok
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_taken_port_is_named_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        servers = Servers(services_of(shared_world()[0], None), Ports(0, 0, 0, taken))
        with pytest.raises(PortTaken, match=f"news service cannot have port {taken}") as refused:
            servers.start()
        assert "--news-port" in str(refused.value)
        for address in servers.addresses.values():
            with pytest.raises(requests.exceptions.ConnectionError):
                requests.get(address, timeout=1)


def test_help_prints_the_credentials_and_where_faults_are_put(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        call_command("runsim", "--help")
    text = capsys.readouterr().out
    for word in (
        credentials.KITE_API_KEY,
        credentials.KITE_TOTP_SECRET,
        credentials.EXCHANGE_PRIVATE_KEY,
        "/_sim/fault",
        "default 8801",
    ):
        assert word in text


def test_wrong_times_are_refused_and_real_modes_have_no_simulator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CommandError, match="--at takes a time"):
        call_command("runsim", "--standalone", "--at", "noon")
    monkeypatch.setattr(clock, "_simulated", None)
    with pytest.raises(CommandError, match="only MODE=simulated"):
        call_command("runsim")
