"""The part of the exchange's session a job belongs to: one fact for beat, the job and the page.

A crontab knows neither holidays nor closing times. A job with a window fires often enough for every
session that there can be; its body and the page ask the calendar which firings of a day count.
"""

import datetime as dt
import enum
from dataclasses import dataclass

from tradingsite.clock import Epoch

USUAL_OPEN = dt.time(9, 15)
"""Of the exchange, IST: for words alone. When a session opens, the calendar says."""


class Part(enum.Enum):
    """Which firings of a session count."""

    ALL = "each minute"
    OPEN = "at the open"
    CLOSE = "at the close"


@dataclass(frozen=True, slots=True)
class Window:
    """Say which part of a session a job runs in."""

    part: Part = Part.ALL
    before_open_minutes: int = 0
    """How long before the open the first firing counts."""

    @property
    def is_once(self) -> bool:
        """Return whether one firing of a session counts."""
        return self.part is not Part.ALL

    def bounds(self, opens_at: Epoch, closes_at: Epoch) -> tuple[int, int]:
        """Return the first and the last instant of a session's that count, epoch seconds."""
        if self.part is Part.OPEN:
            return opens_at, opens_at
        if self.part is Part.CLOSE:
            return closes_at, closes_at
        return opens_at - 60 * self.before_open_minutes, closes_at

    def covers(self, at: float, opens_at: Epoch, closes_at: Epoch) -> bool:
        """Return whether an instant counts in a session; the open lasts until it is heard."""
        if self.part is Part.OPEN:
            return opens_at <= at < closes_at
        first, last = self.bounds(opens_at, closes_at)
        return first <= at <= last

    def __str__(self) -> str:
        if self.is_once:
            return self.part.value
        usual = dt.datetime.combine(dt.date.min, USUAL_OPEN)
        first = usual - dt.timedelta(minutes=self.before_open_minutes)
        return f"{self.part.value}, {first:%H:%M} to the close"


def crontab_words(minute: str, hour: str) -> str:
    """Return the plain times of a crontab's fields in words, as "07:00" or "every 15 min"."""
    if minute.isdigit() and hour.isdigit():
        return f"{int(hour):02}:{int(minute):02}"
    if hour.startswith("*/") and minute == "0":
        return f"every {hour[2:]} h"
    if hour == "*" and minute.startswith("*/"):
        return f"every {minute[2:]} min"
    if hour == "*" and minute.isdigit():
        return f"every hour at :{int(minute):02}"
    return f"minute {minute} of hour {hour}"
