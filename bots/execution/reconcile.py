"""The ledger held against the venue's book: at every start, each minute, and after every doubt.

Doing it twice changes nothing the second time. An order the ledger is unsure of is settled by the
book alone; what closed a position without us is booked; what neither our fills nor the owner's
trades explain stops its instrument.
"""

import datetime as dt
import logging
from dataclasses import dataclass

from bots.execution import breaks, closures, holdings, protocol
from bots.execution.postgres_ledger import RESTS_SECONDS, DatabaseLedger
from bots.models import RiskState
from markets.domain.instruments import Instruments
from markets.venues.base import Venue
from tradingsite import notices
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
    closed: int = 0
    """Closings of the bot's position by somebody else, booked."""


def reconcile(bot: Bot, venue: Venue, instruments: Instruments, now: dt.datetime) -> Outcome:
    """Bring the bot's orders up to what the venue knows; stop the instruments that differ."""
    ledger = DatabaseLedger(bot, venue, instruments)
    is_halted = RiskState.on(bot.market).objects.filter(bot=bot.slug, halted=True).exists()
    done = protocol.reconcile(ledger, venue, now - STRANGERS_SINCE, is_halted)
    if not is_halted:
        _tell_cancelled(bot, done.cancelled)
    closed = closures.book(bot, venue, instruments)
    differences = breaks.compare(bot.market, venue, instruments, done.strangers)
    holdings.save_holdings(bot.market, venue, instruments)
    return Outcome(
        *(done.not_placed, done.settled, done.unknown, done.fills),
        tuple(differences),
        len(done.cancelled),
        closed,
    )


def _tell_cancelled(bot: Bot, tags: tuple[str, ...]) -> None:
    for tag in tags:
        notices.notify(
            "trading",
            "warning",
            f"rests:{bot.slug}:{tag}",
            f"{bot.title} bot's order {tag} has rested unfilled for {RESTS_SECONDS:.0f} s, and its "
            f"cancellation was asked for: what has filled is kept, and its slots decide again at "
            f"their next bars.",
        )
