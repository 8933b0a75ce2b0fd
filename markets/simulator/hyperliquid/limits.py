"""The exchange's limits: 1200 a minute by a request's weight; signed actions by what was traded.

The first is of the caller's network address, the second of the account, and off unless asked for.
Source: the exchange's documentation, "Rate limits".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markets.simulator.hyperliquid.account import Account

WEIGHT_PER_MINUTE = 1_200.0
_INFO_WEIGHT = 20
_WEIGHTS = {
    "l2Book": 2,
    "allMids": 2,
    "clearinghouseState": 2,
    "orderStatus": 2,
    "spotClearinghouseState": 2,
    "exchangeStatus": 2,
    "userRole": 60,
}
# Rows of an answer that weigh one more.
_ROWS = {
    "historicalOrders": 20,
    "userFills": 20,
    "userFillsByTime": 20,
    "fundingHistory": 20,
    "userFunding": 20,
    "candleSnapshot": 60,
}
_BATCH = 40
# Who is over the limit of an account may ask once in this time; cancellations may go further.
_SPARED_EVERY_MS = 10_000
_MORE_CANCELS = 100_000


class Bucket:
    """Count the weight of requests, which drains away over a minute."""

    def __init__(self, per_minute: float, now: Callable[[], float]) -> None:
        """Take the most weight of a minute, and a real clock in seconds."""
        self.per_minute = per_minute
        self._now = now
        self._level = 0.0
        self._at = now()

    def take(self, weight: float) -> bool:
        """Count a request; return False, counting nothing, where there is no room for it."""
        self.add(0.0)
        if self._level + weight > self.per_minute:
            return False
        self._level += weight
        return True

    def add(self, weight: float) -> None:
        """Count what is known only after the answer, whatever room there is."""
        now = self._now()
        drained = (now - self._at) * self.per_minute / 60.0
        self._level, self._at = max(self._level - drained, 0.0) + weight, now


def weight_of(path: str, body: Mapping[str, Any]) -> float:
    """Return what a request weighs before it is answered."""
    if path != "/exchange":
        return _WEIGHTS.get(str(body.get("type")), _INFO_WEIGHT)
    action = body.get("action")
    return 1 + (size_of_action(action) // _BATCH if isinstance(action, Mapping) else 0)


def size_of_action(action: Mapping[str, Any]) -> int:
    """Return how many requests of an account an action counts for: each row of a batch is one."""
    batch = action.get("orders") or action.get("cancels")
    return len(batch) if isinstance(batch, list) else 1


def exceeded(account: Account, action: Mapping[str, Any], most: int, now_ms: int) -> int | None:
    """Return the limit of an account that an action would exceed, None where it is within.

    The limit is `most` and one for each USDC traded.
    """
    allowed = most + int(account.traded())
    if str(action.get("type")).startswith("cancel"):
        allowed = min(allowed + _MORE_CANCELS, 2 * allowed)
    if account.requests + size_of_action(action) <= allowed:
        return None
    if now_ms - account.spared_ms >= _SPARED_EVERY_MS:
        account.spared_ms = now_ms
        return None
    return allowed


def weight_of_answer(kind: str, answer: Any) -> float:
    """Return what the rows of an answer weigh."""
    rows = _ROWS.get(kind)
    return len(answer) // rows if rows and isinstance(answer, list) else 0
