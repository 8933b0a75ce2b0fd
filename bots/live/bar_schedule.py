"""When each slot has a bar to decide on. Pure: the calendar says when bars close."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from markets.domain.calendar import Calendar
from tradingsite.clock import Epoch
from tradingsite.registry import Slot


@dataclass(frozen=True, slots=True)
class DueBars:
    """Name the slots to be decided together, with the close of each one's bar.

    The closes are the same one but for a bot that comes back and finds several bars waiting.
    """

    closes: Mapping[Slot, int]

    @property
    def newest(self) -> int:
        """Return the latest of the closes: what the orders are named after."""
        return max(self.closes.values())


class BarSchedule:
    """Say what is due, each slot's newest closed bar only: an older one is no longer decided."""

    def __init__(
        self, slots: tuple[Slot, ...], calendar: Calendar, handled: Mapping[str, int]
    ) -> None:
        self._slots = slots
        self._calendar = calendar
        self._handled = dict(handled)

    def due(self, now: Epoch) -> DueBars | None:
        """Return the slots with an undecided bar, in the order of their closes, or None."""
        closes = {slot: latest_close(self._calendar, slot.timeframe, now) for slot in self._slots}
        fresh = {
            slot: at
            for slot, at in closes.items()
            if at is not None and at > self._handled.get(slot.slug, 0)
        }
        return DueBars(dict(sorted(fresh.items(), key=lambda item: item[1]))) if fresh else None

    def newest(self, now: Epoch) -> int | None:
        """Return when the newest bar of any slot closed."""
        closes = [latest_close(self._calendar, slot.timeframe, now) for slot in self._slots]
        return max((at for at in closes if at is not None), default=None)

    def done(self, due: DueBars) -> None:
        """Take what was due off the list."""
        for slot, closes_at in due.closes.items():
            self._handled[slot.slug] = closes_at


def latest_close(calendar: Calendar, timeframe: str, now: Epoch) -> int | None:
    """Return when the newest bar of a timeframe closed, by the calendar; None before the first."""
    for session in (calendar.session_at(now), calendar.previous_session(now)):
        if session is None:
            continue
        opens_at = np.array(calendar.bar_opens(timeframe, session.date), dtype=np.int64)
        closes_at = calendar.closes_at(timeframe, opens_at)
        closed = int(np.searchsorted(closes_at, now, side="right"))
        if closed:
            return int(closes_at[closed - 1])
    return None
