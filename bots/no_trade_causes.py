"""Why nothing happened: a slot's decisions of each trading date, counted by their cause."""

import datetime as dt
from dataclasses import dataclass, field

from bots.models import Decision
from tradingsite import clock
from tradingsite.registry import Slot

# What the causes are called in a table's head, those that people ask about first.
TITLES: dict[str, str] = {
    Decision.Cause.TRADE: "Traded",
    Decision.Cause.CHOICE: "Held by choice",
    Decision.Cause.DEAD: "Dead action",
    Decision.Cause.BOUNDED: "At limit",
    Decision.Cause.RISK: "Risk",
    Decision.Cause.HALTED: "Halted",
    Decision.Cause.IN_FLIGHT: "Order open",
    Decision.Cause.NO_MODEL: "No model",
    Decision.Cause.STALE: "Data late",
    Decision.Cause.CLOSED: "Closed",
    Decision.Cause.REFUSED: "Refused",
}


@dataclass(slots=True)
class Day:
    """Hold how often each cause was one slot's on one date."""

    slot: str
    date: dt.date
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def bars(self) -> int:
        """Return how many bars were decided."""
        return sum(self.counts.values())


def by_day(slot: Slot, since: dt.datetime) -> list[Day]:
    """Return a slot's days from an instant on, the newest first."""
    rows = Decision.on(slot.market).objects.filter(slot=slot.slug, bar_closes_at__gte=since)
    found: dict[dt.date, Day] = {}
    for at, cause in rows.order_by("-bar_closes_at").values_list("bar_closes_at", "cause"):
        date = clock.trading_date(at)
        day = found.setdefault(date, Day(slot.slug, date))
        day.counts[cause] = day.counts.get(cause, 0) + 1
    return list(found.values())
