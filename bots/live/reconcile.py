"""The ledger held against the venue's book: at every start, each minute, and after every doubt.

Doing it twice changes nothing the second time. An order the ledger is unsure of is settled by the
book alone; what neither our fills nor the owner's trades explain stops its instrument.
"""

import datetime as dt
import logging
from dataclasses import dataclass

from bots.live import discrepancies, protocol
from bots.live.database import DatabaseLedger
from bots.models import RiskState
from markets.venues.base import Venue
from markets.venues.instruments import Instruments
from tradingsite.registry import Bot

# A broker's book is the day's; two days reach over midnight wherever the broker is.
STRANGERS_SINCE = dt.timedelta(days=2)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Count what a reconciliation changed, and say what still differs."""

    not_placed: int
    settled: int
    unknown: int
    fills: int
    differences: tuple[str, ...]
    cancelled: int = 0


def reconcile(bot: Bot, venue: Venue, instruments: Instruments, now: dt.datetime) -> Outcome:
    """Bring the bot's orders up to what the venue knows; stop the instruments that differ."""
    ledger = DatabaseLedger(bot, venue, instruments)
    is_halted = RiskState.on(bot.market).objects.filter(bot=bot.slug, halted=True).exists()
    done = protocol.reconcile(ledger, venue, now - STRANGERS_SINCE, is_halted)
    differences = discrepancies.compare(bot.market, venue, instruments, done.strangers)
    return Outcome(
        *(done.not_placed, done.settled, done.unknown, done.fills),
        tuple(differences),
        done.cancelled,
    )
