"""Ticks of an exchange by asking for its book once a second: a stream costs 33 MB more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from markets.venues.base import Tick
from tradingsite.errors import Degraded, Retry

LONGEST_PAUSE_SECONDS = 10.0
ALIVE_SECONDS = 10.0

log = logging.getLogger(__name__)


class PolledTicks:
    """Hand over a tick whenever the venue's book is newer than the one before."""

    def __init__(
        self,
        poll: Callable[[], list[Tick]],
        on_ticks: Callable[[list[Tick]], None],
        seconds: float,
    ) -> None:
        """Start asking every so many seconds; `poll` may raise Retry or Degraded."""
        self._poll = poll
        self._on_ticks = on_ticks
        self._seconds = seconds
        self._newest: dict[str, Tick] = {}
        self._heard_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exchange-ticks", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether the venue said something new in the last ten seconds."""
        return self._thread.is_alive() and time.monotonic() - self._heard_at < ALIVE_SECONDS

    def close(self) -> None:
        """End the stream; return when its thread has, or after two of its polls."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * self._seconds)

    def _run(self) -> None:
        failures = 0
        while not self._ended.wait(self._pause(failures)):
            try:
                ticks = self._poll()
            except (Retry, Degraded) as error:
                if not failures:
                    log.warning("no ticks for now: %s", error)
                failures += 1
                continue
            failures = 0
            # A book that stands still is no news, however often it is told.
            fresh = [tick for tick in ticks if self._is_newer(tick)]
            if fresh and not self._ended.is_set():
                self._heard_at = time.monotonic()
                self._newest |= {tick.instrument: tick for tick in fresh}
                self._on_ticks(fresh)

    def _pause(self, failures: int) -> float:
        return float(min(self._seconds * 2 ** min(failures, 5), LONGEST_PAUSE_SECONDS))

    def _is_newer(self, tick: Tick) -> bool:
        before = self._newest.get(tick.instrument)
        return before is None or tick.at > before.at
