"""What a bot held and somebody else closed: booked with the bot, at the price it was closed at.

The venue closes positions (a liquidation, a square-off, a contract's end), and so does the owner,
by hand, in the same account. The account's position then no longer covers what the bots believe to
hold. Where the venue's own list of executions says who traded it away, and for how much, that is
booked at once, as an order of the leg `by_venue` or `by_owner` that was never sent; where it does
not, the instrument stays stopped until a person says it (`close_by_word`). After a closing that was
not routine the bot is halted: it must not open again what was just closed over its head.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from bots.execution import breaks, cover, fills, kill_switch, ledger
from bots.execution.netting import BY_OWNER, BY_VENUE, cut, in_lots
from bots.execution.orders import tag_of
from bots.models import Fill, Order, Position
from markets import settlement
from markets.domain.instruments import Instruments
from markets.venues.base import Venue, VenueTrade, net
from tradingsite import clock, notices
from tradingsite.registry import MARKETS, Bot

INTRADAY = "MIS"
"""The product whose positions are squared off each day, so that it is no surprise."""
SIDES = {BY_VENUE: "the venue", BY_OWNER: "the owner"}
ID_CHARACTERS = 30
LOOKS_BACK = dt.timedelta(days=3)
"""For the execution that closed a position; one of before is a person's to tell."""


def book(bot: Bot, venue: Venue, instruments: Instruments) -> int:
    """Book what closed the bot's position without an order of its own; return how many closings.

    Only where the account no longer covers what is held, nothing of ours is on its way, and
    executions that are not ours say what happened.
    """
    done = settle_expired(bot, venue, instruments)
    # What an order trades that has not ended, in doubt or late, is not anybody else's closing.
    held = {
        name: quantity
        for name, quantity in _held(bot, venue.name).items()
        if not breaks.unended(bot.market, name)
    }
    if not held:
        return done
    there = net(venue.holdings())
    for name, quantity in held.items():
        others = breaks.bots_hold(bot.market, venue.name, name) - quantity
        missing = cover.lacking(quantity, there.get(name, Decimal(0)) - others)
        if missing:
            done += _book_missing(bot, venue, instruments, name, missing)
    return done


def settle_expired(bot: Bot, venue: Venue, instruments: Instruments) -> int:
    """Close what is held of a contract that is no more, at the day's price of its underlying."""
    today = clock.trading_date(clock.market())
    done = 0
    for name, quantity in _held(bot, venue.name).items():
        expiry = instruments.parse(name).expiry
        if expiry is None or expiry >= today or breaks.unended(bot.market, name):
            continue
        price = settlement.final_price(bot.market, instruments.calendar, expiry)
        if price is None:
            notices.notify(
                "trading",
                "critical",
                f"settlement:{bot.slug}:{name}",
                f"{bot.title} bot holds {quantity.normalize():+f} {name}, which expired on "
                f"{expiry}, and no bar of {bot.market} of that day says at what price: import "
                f"that day's bars (manage.py importbars), and it is booked within a minute.",
            )
            continue
        session = instruments.calendar.session_on(expiry)
        at = clock.from_seconds(session.closes_at) if session else clock.market()
        trade = VenueTrade(
            f"settle-{bot.slug}-{name}"[:ID_CHARACTERS], "", name, -quantity, price, at
        )
        _close(bot, instruments, trade, BY_VENUE)
        notices.resolve(f"settlement:{bot.slug}:{name}")
        _tell(bot, trade, BY_VENUE, f"{name} expired on {expiry} and was settled")
        done += 1
    return done


def close_by_word(
    bot: Bot,
    instruments: Instruments,
    name: str,
    quantity: Decimal,
    leg: str,
    price: Decimal,
    by: str,
) -> None:
    """Book a closing that a person tells of: a signed quantity, at a price, by whom.

    Raises ValueError where the bot holds less than that, or nothing, or an order has not ended.
    """
    breaks.require_ended(bot.market, name)
    held = ledger.held_of(bot, name)
    if not quantity or held * quantity >= 0 or abs(quantity) > abs(held):
        raise ValueError(
            f"the {bot.slug} bot holds {held.normalize():+f} of {name}: "
            f"{quantity.normalize():+f} does not close that"
        )
    if price <= 0:
        raise ValueError(f"{price:f} is no price")
    now = clock.market()
    number = f"{breaks.BY_WORD}{bot.slug}-{clock.real():%y%m%d%H%M%S%f}"
    trade = VenueTrade(number[:ID_CHARACTERS], "", name, quantity, price, now)
    _close(bot, instruments, trade, leg)
    _tell(bot, trade, leg, f"{by} says so")


def _book_missing(
    bot: Bot, venue: Venue, instruments: Instruments, name: str, missing: Decimal
) -> int:
    """Book the executions that took a quantity of the bot's away; none where they do not say."""
    side = 1 if ledger.held_of(bot, name) > 0 else -1
    parts = cover.closings(missing, -side, _foreign(bot, venue, name), _booked(bot, name))
    is_routine = True
    for trade in parts:
        leg = BY_VENUE if trade.by_venue else BY_OWNER
        closing = replace(trade, trade_id=_part_id(bot, trade))
        product = trade.product or ledger.product_of(bot, name)
        is_routine &= trade.by_venue and product == INTRADAY
        _close(bot, instruments, closing, leg)
        _tell(bot, closing, leg, f"{venue.name} shows the execution {trade.trade_id}")
    if not is_routine:
        words = f"{name} was closed for it by {SIDES[leg]}"
        kill_switch.halt(bot, f"{words}: look before it trades again", "the bot")
    return len(parts)


def _foreign(bot: Bot, venue: Venue, name: str) -> list[VenueTrade]:
    """Return the executions of an instrument that no bot gave, since the bot's position began."""
    opened = Position.on(bot.market).objects.filter(bot=bot.slug, instrument=name)
    earliest = clock.market() - LOOKS_BACK
    since = min((row.opened_at for row in opened if row.opened_at), default=earliest)
    trades = venue.trades(max(since, earliest))
    return [
        replace(each, trade_id=each.trade_id[:ID_CHARACTERS])
        for each in trades
        if each.instrument == name and not each.tag
    ]


def _booked(bot: Bot, name: str) -> dict[str, Decimal]:
    """Return how much of each foreign execution closed a position before."""
    rows = Fill.on(bot.market).objects.filter(order__leg__in=SIDES, instrument=name)
    booked: dict[str, Decimal] = {}
    for trade_id, quantity in rows.values_list("trade_id", "quantity"):
        whole = trade_id.partition("=")[0]
        booked[whole] = booked.get(whole, Decimal(0)) + quantity
    return booked


def _close(bot: Bot, instruments: Instruments, trade: VenueTrade, leg: str) -> None:
    """Write the order that never was and its fill; once for an execution."""
    instrument = instruments.parse(trade.instrument)
    now = clock.market()
    with transaction.atomic(using=bot.market, durable=True):
        rows = ledger.positions(bot, lock=True)
        held = {
            slot: -row.quantity
            for slot, row in rows.items()
            if row.instrument == trade.instrument and row.quantity
        }
        parts = {slot: part for slot, part in cut(held, abs(trade.quantity)).items() if part}
        shares, rests = in_lots(parts, instrument.lot_size)
        tag = tag_of(ledger.account(bot), bot.slug, trade.at, f"{leg}:{trade.trade_id}")
        order, is_new = Order.on(bot.market).objects.get_or_create(
            tag=tag,
            defaults={
                "bot": bot.slug,
                "instrument": trade.instrument,
                "quantity": trade.quantity,
                "state": Order.State.INTENT,
                "bar_closes_at": trade.at,
                "leg": leg,
                "shares": shares,
                "rests": {slot: str(rest) for slot, rest in rests.items()},
                "reference_price": trade.price,
                "created_at": now,
                "updated_at": now,
                "mode": settings.MODE,
                "product": next(rows[slot].product for slot in parts),
            },
        )
        if is_new:
            ledger.record([order], "", now)
        # In one transaction: a crash in between must not leave an order without its fill.
        fills.book(bot, order.pk, replace(trade, tag=tag), instruments)


def _part_id(bot: Bot, trade: VenueTrade) -> str:
    """Return the number of a part of an execution: bots of one account may share it."""
    kept = trade.trade_id[:ID_CHARACTERS]
    parts = Fill.on(bot.market).objects.filter(trade_id__startswith=f"{kept}=")
    return f"{kept}={parts.count() + 1}"


def _tell(bot: Bot, trade: VenueTrade, leg: str, why: str) -> None:
    currency = MARKETS[bot.market].currency
    notices.notify(
        "trading",
        "critical",
        f"closed:{bot.slug}:{trade.trade_id}",
        f"{abs(trade.quantity).normalize():f} {trade.instrument} of the {bot.title} bot's "
        f"position was closed by {SIDES[leg]} at {currency} {trade.price.normalize():f}: {why}. "
        f"It is booked with the bot's slots at that price, charges as for any trade; nothing was "
        f"sent.",
    )


def _held(bot: Bot, venue: str) -> Mapping[str, Decimal]:
    held: dict[str, Decimal] = {}
    for row in Position.on(bot.market).objects.filter(bot=bot.slug, venue=venue):
        if row.quantity:
            held[row.instrument] = held.get(row.instrument, Decimal(0)) + row.quantity
    return held
