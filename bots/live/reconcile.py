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
    """Bring the bot's orders up to what the venue knows; stop the instruments that differ.

    1. An INTENT whose process is gone was never sent. 2. A halted bot's open orders are cancelled.
    3. SUBMITTING and UNKNOWN become what the book says; absent, an order stays UNKNOWN unless the
    venue can rule it out. 4. Fills are taken in. 5. What we had given up and the book shows is
    LATE, and taken in. 6. Nothing being in flight, the account's position must be explained.
    """
    ledger = DatabaseLedger(bot, venue, instruments)
    not_placed = protocol.drop_intents(ledger)
    strangers = protocol.find_late(ledger, venue, now - STRANGERS_SINCE)
    is_halted = RiskState.on(bot.market).objects.filter(bot=bot.slug, halted=True).exists()
    cancelled = protocol.cancel_open(ledger, venue) if is_halted else 0
    settled = protocol.settle(ledger, venue)
    fills = protocol.take_trades(ledger, venue)
    differences = discrepancies.compare(bot.market, venue, instruments, strangers)
    return Outcome(
        not_placed, settled.settled, settled.unknown, fills, tuple(differences), cancelled
    )
