"""Which ticks are believed: a price that is none, absurd or old is counted and never stored.

Corrupt data is worse than no data. But what is odd and stays so is the truth: a market that opens
far away, or a first price that was itself the wrong one, is believed after some ticks in a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median_low

from markets.venues.base import Tick

LARGEST_PAISE = 2**31 - 1
BELIEVED_AFTER = 5
"""Ticks in a row that do not fit the last good price, from which on they are believed."""
# Indices have circuit breakers at 10 %; an option near the money does not quadruple in a tick.
INDEX_FACTOR, OPTION_FACTOR = 1.10, 4.0
# Where options are worth next to nothing, factors say nothing.
OPTION_SLACK_PAISE = 2_000
STALE_SECONDS = 30.0


class Refusal(StrEnum):
    """Why a tick is not believed."""

    EMPTY = "empty"
    ABSURD = "absurd"
    STALE = "stale"


def paise(price: float) -> int | None:
    """Return a price in rupees as whole paise, None for what is no price."""
    if not math.isfinite(price) or price <= 0.0:
        return None
    found = round(price * 100.0)
    return found if 0 < found <= LARGEST_PAISE else None


class MessageTime:
    """Tell what time it is at the exchange, by what its messages say and by the time since.

    Its own clock is not asked: a machine whose clock is wrong still stores what it receives.
    """

    def __init__(self) -> None:
        self.newest = float("-inf")
        """The newest time that a message told."""
        self._heard_at = 0.0

    def hear(self, times: Sequence[float], now: float, speed: float) -> float:
        """Take the epoch seconds of a message's ticks; return the exchange's time, as expected.

        `now` is in seconds of any clock that does not jump; speed is market seconds per second.
        """
        told = median_low(times)  # one packet with a wrong time must not make all others old
        if told > self.newest:
            self.newest, self._heard_at = told, now
        return self.newest + (now - self._heard_at) * speed


@dataclass(slots=True)
class Price:
    """Hold the last good price of one instrument; refuse what does not fit it."""

    is_index: bool
    paise: int = 0
    """0 before the first."""
    at: float = float("-inf")
    """The exchange's time of it, epoch seconds."""
    odd: int = 0
    """Ticks in a row that did not fit."""

    def take(self, tick: Tick, expected: float, stale_seconds: float) -> Refusal | None:
        """Keep a tick's price; return why it is refused instead.

        `expected` is the exchange's time; stale_seconds are the market's.
        """
        found, at = paise(tick.last), tick.at.timestamp()
        if found is None:
            return Refusal.EMPTY
        if abs(at - expected) > stale_seconds:
            return Refusal.STALE
        refusal = self._doubt(found, at, tick)
        if refusal is not None:
            self.odd += 1
            if self.odd < BELIEVED_AFTER:
                return refusal
        self.paise, self.at, self.odd = found, at, 0
        return None

    def is_fresh(self, expected: float, stale_seconds: float) -> bool:
        """Return whether there is a price, not too old."""
        return self.paise > 0 and expected - self.at <= stale_seconds

    def _doubt(self, found: int, at: float, tick: Tick) -> Refusal | None:
        if at < self.at:
            return Refusal.STALE
        bid, ask = paise(tick.bid), paise(tick.ask)
        if bid is not None and ask is not None:
            # The book of the same moment says more than the price before.
            return None if self._fits(found, bid) or self._fits(found, ask) else Refusal.ABSURD
        if self.paise and not self._fits(found, self.paise):
            return Refusal.ABSURD
        return None

    def _fits(self, found: int, other: int) -> bool:
        factor = INDEX_FACTOR if self.is_index else OPTION_FACTOR
        if not self.is_index and abs(found - other) <= OPTION_SLACK_PAISE:
            return True
        return other / factor <= found <= other * factor
