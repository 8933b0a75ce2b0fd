"""What came of a fault: how soon it was said, how soon it was over, which promises were broken."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.desk import Desk

SERVICES = (
    *("nifty-bot", "btc-bot", "personal-bot", "nifty-notifier", "btc-notifier"),
    *("straddle-tracker", "server-monitor", "worker", "beat", "telegram"),
    *("gpu-worker", "pc-worker"),
)
PATIENCE_SECONDS = 60.0


@dataclass
class Result:
    """What came of a fault: seconds, and which promises were broken."""

    said: float | None = None
    back: float | None = None
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def hold(self, what: str, seconds: float, most: float) -> float:
        """Note a promise that was broken; return the seconds."""
        if seconds > most:
            self.broken.append(f"{what} after {seconds:.1f} s, promised {most:g} s")
        return seconds


def now() -> dt.datetime:
    """Return the real time, aware."""
    return dt.datetime.now(dt.UTC)


def watch(
    desk: Desk,
    said: Callable[[], Any] | None,
    back: Callable[[], Any],
    said_most: float,
    back_most: float,
) -> Result:
    """Wait until a fault was said and was over; what does not come is a broken promise."""
    result, began = Result(), time.monotonic()
    while result.back is None or (said is not None and result.said is None):
        seconds = time.monotonic() - began
        if said is not None and result.said is None and said():
            result.said = result.hold("said", seconds, said_most)
        if result.back is None and back():
            result.back = result.hold("back", seconds, back_most)
        if seconds > max(said_most, back_most) + PATIENCE_SECONDS:
            missing = [] if result.back is not None else ["never back"]
            missing += ["never said"] if said is not None and result.said is None else []
            result.broken += missing
            break
        time.sleep(0.1)
    return result
