"""The ledger held against the venue's book: at every start, each minute, and after every doubt.

Doing it twice changes nothing the second time. An order the ledger is unsure of is settled by the
book alone; a position that differs stops the bot, because only a person can say which is right.
"""

import datetime as dt
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from bots.live import halting, ledger
from bots.live.fills import import_fills
from bots.models import Order, Position
from markets.venues.base import BookOrder, Venue
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


def reconcile(bot: Bot, venue: Venue, instruments: Instruments, now: dt.datetime) -> Outcome:
    """Bring the bot's orders up to what the venue knows; halt the bot where positions differ.

    1. An INTENT whose process is gone was never sent. 2. SUBMITTING and UNKNOWN become what the
    book says; absent, an order stays UNKNOWN unless the venue can rule it out. 3. Fills are taken
    in. 4. Nothing being in flight, the account's position must be the ledger's.
    """
    not_placed = _drop_intents(bot)
    settled, unknown = _settle(bot, venue)
    fills = import_fills(bot, venue, instruments)
    differences = _differences(bot, venue, now)
    if differences:
        halting.halt(bot, "; ".join(differences), "reconciliation")
    return Outcome(not_placed, settled, unknown, fills, tuple(differences))


def _drop_intents(bot: Bot) -> int:
    rows = Order.on(bot.market).objects.filter(bot=bot.slug, state=Order.State.INTENT)
    for order in rows:
        _move(order, Order.State.NOT_PLACED, "its process ended before it was sent")
    return len(rows)


def _settle(bot: Bot, venue: Venue) -> tuple[int, int]:
    waiting = ledger.in_flight(bot)
    book = {each.tag: each for each in venue.orders([order.tag for order in waiting])}
    settled = unknown = 0
    for order in waiting:
        found = book.get(order.tag)
        if found is not None:
            settled += _adopt(order, found)
        elif order.state == Order.State.ACKED:
            continue  # accepted once; a book that does not show it now proves nothing
        elif venue.rule_out(order.tag):
            _move(order, Order.State.NOT_PLACED, f"{venue.name} rules out that it ever arrives")
            settled += 1
        else:
            unknown += 1
            if order.state == Order.State.SUBMITTING:
                text = f"perhaps sent, not in {venue.name}'s book: no new order until it is known"
                _move(order, Order.State.UNKNOWN, text)
    return settled, unknown


def _adopt(order: Order, found: BookOrder) -> bool:
    if found.state == "rejected" or (found.state == "cancelled" and not found.filled_quantity):
        _move(order, Order.State.REJECTED, found.message)
        return True
    if order.state == Order.State.ACKED:
        return False
    # A filled one too: its fills move it on, and only they.
    _move(order, Order.State.ACKED, "found in the venue's book")
    return True


def _move(order: Order, state: str, detail: str) -> None:
    log.warning("%s: order %s is %s: %s", order.bot, order.tag, state, detail)
    with transaction.atomic(using=str(order._state.db), durable=True):
        ledger.move(order, state, detail)


def _differences(bot: Bot, venue: Venue, now: dt.datetime) -> list[str]:
    found = [
        f"{venue.name} has order {each.tag} ({each.quantity:+f} {each.instrument}), the ledger not"
        for each in _strangers(bot, venue, now)
    ]
    before = _held(bot)
    if before is None:
        return found  # something is in flight: the two sides may rightly differ
    there = venue.positions()
    if _held(bot) != before:
        return found  # another bot's fill came in between
    for instrument in sorted(before.keys() | there.keys()):
        ours, theirs = before.get(instrument, Decimal(0)), there.get(instrument, Decimal(0))
        if ours != theirs:
            found.append(
                f"{instrument}: the ledger has {ours.normalize():f}, {venue.name} has "
                f"{theirs.normalize():f}"
            )
    return found


def _strangers(bot: Bot, venue: Venue, now: dt.datetime) -> list[BookOrder]:
    there = {each.tag: each for each in venue.strangers(now - STRANGERS_SINCE)}
    rows = Order.on(bot.market).objects.filter(tag__in=list(there))
    known = set(rows.values_list("tag", flat=True))
    return [each for tag, each in there.items() if tag not in known]


def _held(bot: Bot) -> Mapping[str, Decimal] | None:
    """Return what all bots of the account hold by the ledger, None while orders are in flight."""
    if Order.on(bot.market).objects.filter(state__in=ledger.IN_FLIGHT).exists():
        return None
    rows = (
        Position.on(bot.market)
        .objects.order_by()
        .values_list("instrument")
        .annotate(held=Sum("quantity"))
    )
    return {instrument: held for instrument, held in rows if held}
