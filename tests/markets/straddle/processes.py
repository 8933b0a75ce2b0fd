"""The tracker's real processes on the simulated broker, in a market that a test paces."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from markets.domain.calendar import trading_date
from markets.simulator import credentials
from markets.simulator.kite import ticker
from markets.straddle.models import Series, TrackerState
from markets.venues.base import Tick
from markets.venues.kite.packets import parse
from markets.venues.kite.token import TokenStore
from tests.markets.simulator.broker import Broker, broker
from tests.test_architecture import ROOT
from tests.waiting import wait_for
from tradingsite import clock
from tradingsite.clock import Epoch

MOVE_SECONDS = 0.1


class Market:
    """Let the broker's time, and every process's, pass in whole seconds."""

    def __init__(self, served: Broker, path: Path) -> None:
        self.pace = 1
        """Market seconds a tenth of a second; 0 stands still."""
        self._served = served
        self._clock = clock.SimulatedClock(path)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.go(served.hand.at)

    @property
    def now(self) -> float:
        """Return the market's time, epoch seconds."""
        return self._served.hand.at

    def go(self, at: float) -> None:
        """Set the time."""
        with self._lock:
            self._served.hand.at = at
            self._clock.write(clock.Anchor(at, time.time(), 1.0))

    def start(self) -> None:
        """Let time pass."""
        self._thread.start()

    def stop(self) -> None:
        """Let it pass no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(MOVE_SECONDS):
            if self.pace:
                self.go(self.now + self.pace)


class Tracker:
    """The tracker's parent in a process, with its broker, its market and what was sent to it."""

    def __init__(self, served: Broker, market: Market, home: Path) -> None:
        self.broker = served
        self.market = market
        self.tokens = TokenStore(home / "secrets" / "kite_token.json")
        self.sign_in()
        self.frames: list[list[Tick]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.desk_settings",
            "DESK_TEST_HOME": str(home),
            "DESK_TEST_KITE": served.url,
        }
        self._children: set[int] = set()

    def sign_in(self) -> None:
        """Store a fresh token, as the morning's job does."""
        self.tokens.save(self.broker.kite.sessions.issue(), credentials.KITE_USER_ID)

    def start(self) -> None:
        """Start the parent."""
        command = [sys.executable, "-m", "django", "runstraddle"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self._env)

    def start_child(self, opens_at: float, closes_at: float) -> subprocess.Popen[bytes]:
        """Start a child of the test's own."""
        edges = f"{opens_at:.0f}", f"{closes_at:.0f}"
        command = [sys.executable, "-m", "django", "runstraddle", "--child", *edges]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=self._env, stdin=pipe, stdout=pipe)

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10.0) -> int:
        """End the parent; return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def child(self) -> int:
        """Return the process that the parent has for the ticker, 0 where there is none."""
        assert self.process is not None
        try:
            found = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return 0
        self._children |= {each.pid for each in found}
        return found[0].pid if found else 0

    def has_no_orphan(self, seconds: float = 10.0) -> bool:
        """Return whether every child there ever was is gone in time."""
        return wait_for(lambda: not any(map(psutil.pid_exists, self._children)), seconds)

    def state(self) -> TrackerState:
        """Return how the tracker says it stands."""
        return TrackerState.objects.get()

    def has_state(self, state: str, seconds: float = 10.0) -> bool:
        """Return whether the tracker comes to say so."""
        return wait_for(lambda: TrackerState.objects.filter(state=state).exists(), seconds)

    def record(self, payload: bytes) -> None:
        """Keep what a frame says, by the desk's names."""
        self.frames.append(parse(payload, self._names(), clock.from_seconds(self.market.now)))

    def sent_of(self, row: Series, frames: int) -> list[tuple[float, int, int, int]]:
        """Return what a series' ticks must be by the first frames: time, call, put, spot.

        They begin after the frame whose spot began the series, and end with the one that ended it.
        """
        legs = [
            f"{row.underlying} {row.expiry} {strike / 100:g} {kind}"
            for strike, kind in ((row.call_strike, "CE"), (row.put_strike, "PE"))
        ]
        last: dict[str, Tick] = {}
        sent, has_begun = [], False
        for frame in self.frames[:frames]:
            heard = {tick.instrument: tick for tick in frame}
            last |= heard
            if has_begun and any(leg in heard for leg in legs) and all(leg in last for leg in legs):
                at = max(heard[leg].at for leg in legs if leg in heard)
                prices = (last[name].last for name in (*legs, row.underlying))
                call, put, spot = (round(price * 100) for price in prices)
                sent.append((at.timestamp(), call, put, spot))
            spot_tick = heard.get(row.underlying)
            has_begun = has_begun or bool(spot_tick and spot_tick.at == row.since)
            if row.end == "re-centred" and spot_tick and spot_tick.at == row.until:
                break
        return sent

    def quoted(self, row: Series, ts: dt.datetime) -> tuple[int, int, int]:
        """Return call, put and spot of a series by the simulator's own function of time."""
        world, at = self.broker.kite.world, ts.timestamp()
        listing = world.exchange.on(trading_date(Epoch(at)))
        found = {
            (each.kind, each.strike): each
            for each in listing.rows
            if each.underlying == row.underlying and each.expiry in (row.expiry, None)
        }
        legs = [found["CE", row.call_strike / 100], found["PE", row.put_strike / 100]]
        prices = [*(world.quoter.price(leg, at) for leg in legs)]
        call, put, spot = (
            round(price * 100) for price in (*prices, world.prices.spot_at(row.underlying, at))
        )
        return call, put, spot

    def _names(self) -> dict[int, str]:
        return {
            row.token: f"{row.underlying} {row.expiry} {row.strike:g} {row.kind}"
            if row.is_option
            else row.underlying
            for row in self.broker.kite.world.listing().rows
            if row.is_option or row.kind == "INDEX"
        }


@contextmanager
def tracking(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracker]:
    """Serve a broker and have a tracker's parent on it, not yet started."""
    offer = ticker._Connection.offer
    with broker(at="2026-06-01 10:00") as served:
        market = Market(served, home / "clock.json")
        tracker = Tracker(served, market, home)

        def recorded(self: Any, message: str | bytes) -> None:
            if isinstance(message, bytes) and len(message) > 1:
                tracker.record(message)
            offer(self, message)

        monkeypatch.setattr(ticker._Connection, "offer", recorded)
        market.start()
        try:
            yield tracker
        finally:
            market.stop()
            if tracker.process and tracker.process.poll() is None:
                tracker.child()
                tracker.process.kill()
                tracker.process.wait()
            assert tracker.has_no_orphan()
