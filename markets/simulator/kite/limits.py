"""The documented limits of requests, kept by calendar second of the server's own clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from markets.simulator.kite.refusals import too_many_orders, too_many_requests

PER_SECOND = {"quote": 1, "historical": 3, "order": 10, "other": 10}
# Of placing, modifying and cancelling together, refused ones counted (kite.trade/forum 51959).
ORDERS_A_MINUTE = 400
ORDERS_A_DAY = 5_000


class Limits:
    """Count an account's requests and refuse those beyond the limits."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._counts: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.most_in_a_second = 0
        """Of all requests together, ever: what a client's own limiter is judged by."""
        self.refused = 0

    def admit(self, kind: str) -> None:
        """Count a request; raise KiteError where it is one too many."""
        now = self._now()
        second, minute, day = int(now), int(now // 60), int(now // 86_400)
        self._forget(second)
        self._counts["all", second] += 1
        self.most_in_a_second = max(self.most_in_a_second, self._counts["all", second])
        windows = [(kind, second, PER_SECOND[kind])]
        if kind == "order":
            windows += [("minute", minute, ORDERS_A_MINUTE), ("day", day, ORDERS_A_DAY)]
        for name, window, most in windows:
            self._counts[name, window] += 1
            if self._counts[name, window] > most:
                self.refused += 1
                raise too_many_requests() if name == kind else too_many_orders()

    def _forget(self, second: int) -> None:
        if len(self._counts) < 1_000:
            return
        by_second = ("all", *PER_SECOND)
        for name, window in list(self._counts):
            if name in by_second and window < second - 2:
                del self._counts[name, window]
