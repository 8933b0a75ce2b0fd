"""Live trading's leave to take new risk: `manage.py doctor` is asked until it passes.

A bot that holds something, or has an order out, works whatever doctor says, and only reduces; one
that is flat waits. Nothing ends for a finding, because most of them pass: a token at night, a disk,
a server that recovers.
"""

import time
from collections.abc import Sequence

from django.conf import settings

from bots.execution import doctor_port, ledger
from bots.models import Position
from tradingsite import notices
from tradingsite.registry import Bot
from tradingsite.supervision.heartbeat import Beat

ASK_SECONDS = 30.0

refusals: Sequence[str] = ()
"""Why this process may take no new risk; empty where it may."""


class Clearance:
    """Ask doctor until it has nothing against a bot; from then on it is not asked again."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._asked_at = float("-inf")
        self._is_fit = settings.MODE != "live"
        self._key = f"unfit:{bot.slug}"

    def may_work(self, beat: Beat) -> bool:
        """Return whether the bot has work that it may do now; where not, its heartbeat says why."""
        if self._is_fit:
            return True
        if time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._ask()
            self._asked_at = time.monotonic()
        if self._is_fit or self._has_business():
            return True
        beat.beat("waiting", f"not fit to trade live: {'; '.join(refusals)}")
        return False

    def _ask(self) -> None:
        global refusals
        # An empty port raises: without a doctor no live bot begins.
        refusals = tuple(doctor_port.get().refusals(self._bot.slug))
        self._is_fit = not refusals
        if self._is_fit:
            notices.resolve(self._key)
            return
        does = "only reduces what it holds" if self._has_business() else "waits"
        notices.notify(
            "trading",
            "critical",
            self._key,
            f"{self._bot.title} bot may take no new risk and {does} until `manage.py doctor` "
            f"passes, which is asked every {ASK_SECONDS:.0f} s: {'; '.join(refusals)}",
        )

    def _has_business(self) -> bool:
        held = Position.on(self._bot.market).objects.filter(bot=self._bot.slug)
        return held.exclude(quantity=0).exists() or bool(ledger.in_flight(self._bot))
