"""Whether the bots decide, by their last decisions, and whether all services run the same code.

A process that beats may still decide nothing: what counts is that each closed bar has a decision.
"""

import logging
import time
from collections import defaultdict

from bots.models import Decision
from markets.models import Bar
from markets.store import load_calendar
from monitoring import checks
from monitoring.alarms import Alarms
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.watch import watched
from tradingsite import clock, notices, version
from tradingsite.models import Heartbeat
from tradingsite.registry import BOTS, Bot, Slot
from tradingsite.supervision import heartbeat

# A bot in these states has said itself why it decides nothing.
EXCUSED = frozenset({"waiting", "idle", "starting", "stopped"})
MIXED = "mixed"
SINCE_OPEN_SECONDS = 60
"""Market time: a venue that is closed at night leaves the last bar to the next open."""

log = logging.getLogger(__name__)


class DecisionWatch:
    """Notice slots whose bars close and are not decided, and say when they are again."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._alarms = Alarms("undecided")

    def look(self) -> set[str]:
        """Compare each slot's newest decision with its newest bar; return the slots in arrears."""
        running = {service.name for service in watched()}
        late: set[str] = set()
        for bot in BOTS.values():
            if f"{bot.slug}-bot" not in running:
                continue
            try:
                late |= {slot.slug for slot in bot.slots if self._is_late(bot, slot)}
            except DOES_NOT_ANSWER as error:
                # The bot's own heartbeat and the page say so; nobody knows that it is over.
                log.warning("the %s database does not answer: %s", bot.market, error)
                late |= {slot.slug for slot in bot.slots if slot.slug in self._alarms}
        self._alarms.update(late, self._tell)
        return late

    def _is_late(self, bot: Bot, slot: Slot) -> bool:
        if not _is_undecided(bot, slot):
            self._since.pop(slot.slug, None)
            return False
        began = self._since.setdefault(slot.slug, time.monotonic())
        waited = time.monotonic() - began
        return slot.slug in self._alarms or waited >= checks.UNDECIDED_SECONDS

    def _tell(self, slug: str, key: str) -> None:
        notices.notify(
            "trading",
            "critical",
            key,
            f"{slug} decides nothing: its bars close, and none was decided for "
            f"{checks.UNDECIDED_SECONDS:.0f} s. Its position stays as it is. The overview says how "
            f"the bot stands; if it hangs, restart it: it goes on where the ledger is.",
        )


class CodeWatch:
    """Notice services of one machine that run different code or were told different things."""

    def __init__(self) -> None:
        self._alarms = Alarms("code")

    def look(self) -> bool:
        """Compare what the services that report say they run; return whether they differ."""
        names = {service.name for service in watched()}
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for row in Heartbeat.objects.filter(service__in=names):
            if row.code and row.code != version.UNKNOWN and heartbeat.is_alive(row.service):
                found[row.code, row.config].append(row.service)
        is_mixed = len(found) > 1
        told = "; ".join(
            f"{', '.join(sorted(names))} on {code}, settings {config}"
            for (code, config), names in sorted(found.items())
        )
        self._alarms.update(
            {MIXED} if is_mixed else (),
            lambda name, key: notices.notify(
                "infrastructure",
                "critical",
                key,
                f"Services run different code or settings: {told}. Restart those that were left "
                f"behind: an old process beside new ones trades by rules nobody reads any more.",
            ),
        )
        return is_mixed


def _is_undecided(bot: Bot, slot: Slot) -> bool:
    """Return whether the newest closed bar has no decision, where the bot could have made one."""
    beat = Heartbeat.objects.filter(service=f"{bot.slug}-bot").first()
    if beat is None or beat.state in EXCUSED:
        return False
    now = clock.market()
    seconds = clock.epoch(now)
    calendar = load_calendar(bot.market)
    session = calendar.session_at(seconds)
    if session is None or seconds < session.opens_at + SINCE_OPEN_SECONDS:
        return False
    bars = Bar.on(bot.market).objects.filter(timeframe=slot.timeframe, closes_at__lte=now)
    closed = bars.order_by("-opens_at").values_list("closes_at", flat=True).first()
    if closed is None:
        return False
    decided = Decision.on(bot.market).objects.filter(slot=slot.slug, bar_closes_at__gte=closed)
    return not decided.exists()
