"""The exchange's limit on requests: a weight for each, and 1200 a minute for each address.

Source: the exchange's documentation, "Rate limits". The limits by address and by traded volume
(10,000 requests to begin with) are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
    batch = action.get("orders") or action.get("cancels") if isinstance(action, Mapping) else None
    return 1 + (len(batch) // _BATCH if isinstance(batch, list) else 0)


def weight_of_answer(kind: str, answer: Any) -> float:
    """Return what the rows of an answer weigh."""
    rows = _ROWS.get(kind)
    return len(answer) // rows if rows and isinstance(answer, list) else 0
