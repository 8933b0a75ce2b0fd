"""Whether the option quotes that were stored are still there, by counting them.

The page counts the minutes that nobody stored; rows that are gone again take a look at each quote
of the day, which is the monitor's to do now and then.
"""

import datetime as dt
import logging
import time

from markets.options import gaps
from monitoring.alarms import Alarms
from monitoring.dashboard.books import DOES_NOT_ANSWER
from tradingsite import clock, notices
from tradingsite import format as fmt

EVERY_SECONDS = 60.0
# How many days before today are counted too, and how often.
DAYS_BACK = 7
DAYS_BACK_EVERY_SECONDS = 3600.0

log = logging.getLogger(__name__)


class OptionsWatch:
    """Notice days of option quotes that have lost rows, and that these are back."""

    def __init__(self) -> None:
        self._alarms = Alarms("options-lost")
        self._found: dict[dt.date, list[tuple[dt.datetime, int]]] = {}
        self._looked_at = self._looked_back_at = float("-inf")

    def look(self) -> set[dt.date]:
        """Count today's quotes, and those of the days before once an hour; return what lost any."""
        now = time.monotonic()
        if now - self._looked_at < EVERY_SECONDS:
            return self._lossy()
        today, days = clock.trading_date(clock.market()), 1
        if now - self._looked_back_at >= DAYS_BACK_EVERY_SECONDS or today not in self._found:
            days = DAYS_BACK + 1
        wanted = [today - dt.timedelta(days=back) for back in range(days)]
        try:
            counted = {day: gaps.gone(day) for day in wanted}
        except DOES_NOT_ANSWER as error:  # nobody knows: what was told stays
            log.warning("the option quotes cannot be counted: %s", error)
            return self._lossy()
        oldest = today - dt.timedelta(days=DAYS_BACK)
        kept = {day: lost for day, lost in self._found.items() if oldest <= day <= today}
        self._found = kept | counted
        self._looked_at = now
        self._looked_back_at = now if days > 1 else self._looked_back_at
        self._alarms.update([day.isoformat() for day in self._lossy()], self._tell)
        return self._lossy()

    def _lossy(self) -> set[dt.date]:
        return {day for day, lost in self._found.items() if lost}

    def _tell(self, name: str, key: str) -> None:
        lost = self._found[dt.date.fromisoformat(name)]
        quotes = sum(number for _, number in lost)
        notices.notify(
            "options",
            "critical",
            key,
            f"{quotes:,} option quotes of {fmt.plural(len(lost), 'minute')} on {name} were stored "
            f"and are in the table no more. `manage.py options gaps --date {name}` lists the "
            f"minutes; a file of that day brings them back (`manage.py options import`). Look for "
            f"who deleted them.",
        )
