"""One limiter for all processes of an account, on a real file and against a server that counts."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from markets.venues.base import RateLimited
from markets.venues.limiter import KITE_RULES, RateLimiter, Rule, first_free
from tests.markets.simulator.served import served
from tests.test_architecture import ROOT

CLIENT = """
import sys, time
from pathlib import Path
import requests
from markets.venues.limiter import RateLimiter
address, path, calls, start = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
limiter, session = RateLimiter(path), requests.Session()
session.get(address + "/warm")
time.sleep(max(0.0, start - time.monotonic()))
for _ in range(calls):
    limiter.acquire("other")
    session.get(address + "/count")
"""
FAST = (Rule("pairs", 2, 0.2, ("a", "b")), Rule("b alone", 1, 0.4, ("b",)))


def most_within(times: list[float], seconds: float) -> int:
    """Return the most instants that any stretch of time holds."""
    return max(sum(1 for each in times if first <= each < first + seconds) for first in times)


def test_four_processes_at_once_keep_the_limit_and_use_it(tmp_path: Path) -> None:
    arrived: list[float] = []

    async def count(request: web.Request) -> web.Response:
        arrived.append(time.monotonic())
        return web.Response()

    async def warm(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/count", count), web.get("/warm", warm)])
    calls, processes = 8, 4
    with served(app) as address:
        start = time.monotonic() + 2.0
        arguments = [address, str(tmp_path / "limits"), str(calls), str(start)]
        running = [
            subprocess.Popen([sys.executable, "-c", CLIENT, *arguments], cwd=ROOT)
            for _ in range(processes)
        ]
        assert [each.wait(30) for each in running] == [0] * processes
    assert len(arrived) == calls * processes
    assert most_within(arrived, 1.0) <= 10
    # The first ten go at once, the others ten at a time, one window after those before them.
    assert arrived[-1] - arrived[0] < 1.2 * 1.1 * ((calls * processes - 1) // 10)


def test_each_kind_has_rules_of_its_own(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path / "limits")
    began = time.monotonic()
    for kind in ("quote", "historical", "historical", "historical", "orders"):
        limiter.acquire(kind)
    assert time.monotonic() - began < 0.5
    assert limiter.headroom() == {
        "quotes a second": 0,
        "historical a second": 0,
        "orders a minute": 399,
        "orders a day": 4999,
        "calls a second": 5,
    }
    with pytest.raises(RateLimited, match=r"'quote' for 1\.\d s; waiting was allowed for 0\.5 s"):
        limiter.acquire("quote", timeout_s=0.5)
    assert time.monotonic() - began < 0.9  # it does not wait for what cannot come
    limiter.acquire("quote")
    assert time.monotonic() - began > 1.05
    with pytest.raises(ValueError, match="unknown kind 'orderz'; the known ones are historical"):
        limiter.acquire("orderz")


def test_orders_end_for_the_minute_and_for_the_day(tmp_path: Path) -> None:
    minute = Rule("orders a minute", 5, 60.0, ("orders",))
    limiter = RateLimiter(tmp_path / "limits", (*KITE_RULES, minute))
    for _ in range(5):
        limiter.acquire("orders")
    with pytest.raises(RateLimited, match=r"for (59\.\d|60\.\d) s"):
        limiter.acquire("orders", timeout_s=30.0)
    limiter.acquire("other")  # what is not an order goes on


def test_who_came_first_goes_first(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path / "limits", FAST)
    order: list[int] = []

    def call(number: int) -> None:
        limiter.acquire("a")
        order.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert order == sorted(order)


def test_a_slow_kind_that_waits_does_not_hold_up_another(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path / "limits", FAST)
    limiter.acquire("b")
    waiting = threading.Thread(target=limiter.acquire, args=("b",))
    waiting.start()
    time.sleep(0.05)
    began = time.monotonic()
    limiter.acquire("a")
    assert time.monotonic() - began < 0.1
    waiting.join()


def test_a_pause_holds_for_everybody(tmp_path: Path) -> None:
    RateLimiter(tmp_path / "limits").pause(0.4)
    began = time.monotonic()
    other = RateLimiter(tmp_path / "limits")
    assert set(other.headroom().values()) == {0}
    other.acquire("orders")
    assert 0.35 < time.monotonic() - began < 0.8


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\0" * 300])
def test_a_damaged_file_costs_one_window_and_no_more(
    tmp_path: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "limits"
    limiter = RateLimiter(path)
    for _ in range(10):
        limiter.acquire("other")
    whole = path.read_bytes()
    path.write_bytes(damage or whole[:-5])  # as one that was killed while it wrote left it
    now = time.monotonic()
    with pytest.raises(RateLimited, match=r"for (1\.[01]|0\.9) s"):
        limiter.acquire("other", timeout_s=0.8)
    monkeypatch.setattr("markets.venues.limiter.time.monotonic", lambda: now + 1.2)
    limiter.acquire("other", timeout_s=0.0)
    assert limiter.headroom()["calls a second"] == 9


def test_what_was_sent_before_a_reboot_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = RateLimiter(tmp_path / "limits")
    for _ in range(10):
        limiter.acquire("other")
    monkeypatch.setattr("markets.venues.limiter._boot_id", lambda: b"another boot".ljust(36))
    rebooted = RateLimiter(tmp_path / "limits")
    assert rebooted.headroom()["calls a second"] == 10
    rebooted.acquire("other", timeout_s=0.0)


def test_stamps_of_a_clock_that_restarted_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = RateLimiter(tmp_path / "limits")
    limiter.acquire("quote")
    now = time.monotonic()
    monkeypatch.setattr("markets.venues.limiter.time.monotonic", lambda: now - 9000.0)
    with pytest.raises(RateLimited, match=r"for 1\.1 s"):
        limiter.acquire("quote", timeout_s=0.0)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 4),
    arrivals=st.lists(st.integers(0, 40), min_size=1, max_size=30),
)
def test_no_stretch_ever_holds_more_and_no_earlier_instant_was_free(
    limit: int, arrivals: list[int]
) -> None:
    window = 10.0
    times: list[float] = []
    for arrival in arrivals:
        at = first_free(times, limit, window, float(arrival))
        assert at >= arrival
        for earlier in range(arrival, int(at)):
            assert most_within([*times, float(earlier)], window) > limit
        times = sorted([*times, at])
        assert most_within(times, window) <= limit
