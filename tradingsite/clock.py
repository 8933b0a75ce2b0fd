"""Two times, and the only module that reads either.

`market()` is the time of bars, sessions, schedules, decisions and order dates. `real()` is the time
of leases, time-outs, rate limits, tokens, watchdogs, message expiry and logs. They are the same
except in simulated mode, where the market has its own day and speed.

The simulated clock is a small file that the market simulator rewrites about every second. When the
simulator stops, market time stops with it: a dead market has no later prices, and the next start
goes on from where this one ended.
"""

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload
from zoneinfo import ZoneInfo

UTC = dt.UTC
IST = ZoneInfo("Asia/Kolkata")

# A missed rewrite or two is a busy machine; after this long the simulator is taken for dead.
FROZEN_AFTER_SECONDS = 5.0

if TYPE_CHECKING:

    class Epoch(int):
        """Whole seconds since 1970 UTC: the instants of bars, arrays and schedules.

        A type of its own for mypy alone, so that a count of seconds, a row's number or a datetime
        is never taken for an instant; while the program runs it is int, and costs nothing.
        """

        def __add__(self, seconds: int, /) -> "Epoch": ...
        @overload
        def __sub__(self, other: "Epoch", /) -> int: ...  # type: ignore[overload-overlap]
        @overload
        def __sub__(self, seconds: int, /) -> "Epoch": ...
        def __sub__(self, other: int, /) -> int: ...

else:
    Epoch = int


@dataclass(frozen=True, slots=True)
class Anchor:
    """Tie a market instant to a real one (both epoch seconds) and say how fast the market runs."""

    market: float
    real: float
    speed: float

    def at(self, real_seconds: float) -> float:
        """Return the market's epoch seconds at a real instant."""
        elapsed = min(max(real_seconds - self.real, 0.0), FROZEN_AFTER_SECONDS)
        return self.market + elapsed * self.speed


class SimulatedClock:
    """Read the simulated market's time from its file; cheap enough to ask in a tight loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._anchor: Anchor | None = None
        self._modified = 0

    def anchor(self) -> Anchor | None:
        """Return the newest anchor, or None before the market's first start."""
        try:
            modified = self.path.stat().st_mtime_ns
            if modified != self._modified:
                self._anchor = Anchor(**json.loads(self.path.read_text()))
                self._modified = modified
        except FileNotFoundError:
            self._anchor = None
        return self._anchor

    def write(self, anchor: Anchor) -> None:
        """Replace the anchor at once: readers see the old one or the new one, never half."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(f".{os.getpid()}")
        scratch.write_text(
            json.dumps({"market": anchor.market, "real": anchor.real, "speed": anchor.speed})
        )
        scratch.replace(self.path)


_simulated: SimulatedClock | None = None


def simulate(path: Path | None) -> None:
    """Take market time from a file from now on, or from the real clock again with None."""
    global _simulated  # the process has one clock, chosen once by the settings
    _simulated = None if path is None else SimulatedClock(path)


def simulated() -> SimulatedClock | None:
    """Return the simulated clock, or None when market time is real time."""
    return _simulated


def real() -> dt.datetime:
    """Return the real time, aware, in UTC."""
    return dt.datetime.now(UTC)


def market_seconds() -> float:
    """Return the market's time as epoch seconds."""
    if _simulated is None:
        return time.time()
    anchor = _simulated.anchor()
    return time.time() if anchor is None else anchor.at(time.time())


def market_epoch() -> Epoch:
    """Return the market's time in whole epoch seconds."""
    return Epoch(market_seconds())


def market() -> dt.datetime:
    """Return the market's time, aware, in UTC."""
    return dt.datetime.fromtimestamp(market_seconds(), UTC)


def speed() -> float:
    """Return market seconds per real second."""
    anchor = _simulated.anchor() if _simulated else None
    return anchor.speed if anchor else 1.0


def from_seconds(at: float) -> dt.datetime:
    """Return an epoch instant as an aware datetime in UTC."""
    return dt.datetime.fromtimestamp(at, UTC)


class Steadiness:
    """Tell a real clock that runs from one that was set: it is held to the time since the boot.

    A jump is believed once it has stood for `SETTLES_SECONDS`, or at once where it leads back to
    what was believed before; a machine that slept has not jumped.
    """

    SETTLES_SECONDS = 60.0
    TOLERANCE_SECONDS = 30.0

    def __init__(self, read: Callable[[], tuple[float, float]] | None = None) -> None:
        """Take what returns the real time and the time since the boot, both in seconds."""
        self._read = read or _real_and_boot
        wall, boot = self._read()
        self._believed = [wall - boot]
        self._jumped: tuple[float, float] | None = None
        self.came_back = False
        """Whether a jump has led back: what was stamped in between bears a wrong time."""

    def jump(self) -> float:
        """Return by how many seconds the clock has jumped lately, 0 while it is believed."""
        wall, boot = self._read()
        offset = wall - boot
        *before, current = self._believed
        if abs(offset - current) <= self.TOLERANCE_SECONDS:
            # Moved along, so that slow corrections never add up to a jump.
            self._believed, self._jumped = [*before, offset], None
            return 0.0
        if any(abs(offset - known) <= self.TOLERANCE_SECONDS for known in before):
            self._believed, self._jumped, self.came_back = [offset], None, True
            return 0.0
        if self._jumped is None or abs(self._jumped[0] - offset) > self.TOLERANCE_SECONDS:
            self._jumped = (offset, boot)
        if boot - self._jumped[1] >= self.SETTLES_SECONDS:
            self._believed, self._jumped = [current, offset], None
            return 0.0
        return offset - current


def _real_and_boot() -> tuple[float, float]:
    # Linux counts a sleeping machine's time on this one only.
    boot = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.time(), time.clock_gettime(boot)


def epoch(at: dt.datetime) -> Epoch:
    """Return an aware datetime as whole epoch seconds."""
    return Epoch(at.timestamp())


def trading_date(at: dt.datetime | Epoch) -> dt.date:
    """Return the IST date an instant belongs to."""
    if isinstance(at, dt.datetime):
        return at.astimezone(IST).date()
    return dt.datetime.fromtimestamp(at, IST).date()
