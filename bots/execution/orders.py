"""The orders of one decision: their names, their intents, and their way through the protocol."""

import base64
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

from django.conf import settings
from django.db import transaction

from bots.execution import exit_sizing, kill_switch, ledger, pretrade_checks, protocol
from bots.execution.account import AccountView
from bots.execution.netting import FLATTEN, LEAVE, Leg, sliced
from bots.execution.postgres_ledger import DatabaseLedger, limits_of, locked_risk
from bots.models import Order, Position
from markets.domain.contracts import freeze_quantity
from markets.domain.instruments import Instruments
from markets.venues.base import Venue
from tradingsite import clock, notices
from tradingsite.registry import Bot

TAG_PREFIX = "T1"
TAG_CHARACTERS = 16


def tag_of(account: str, bot: str, bar_closes_at: dt.datetime, leg: str, part: int = 1) -> str:
    """Return an order's name at the venue: 18 characters that follow from what the order is for."""
    what = f"{account}|{bot}|{bar_closes_at.astimezone(dt.UTC).isoformat()}|{leg}|{part}"
    digest = base64.b32encode(hashlib.sha256(what.encode()).digest()).decode()
    return TAG_PREFIX + digest[:TAG_CHARACTERS]


def intend(
    bot: Bot,
    legs: Sequence[Leg],
    bar_closes_at: dt.datetime,
    reference_prices: Mapping[str, Decimal],
    instruments: Instruments,
    rows: Mapping[str, Position],
    product: str = "",
) -> list[Order]:
    """Write the INTENT of each leg; call it inside the transaction that records the decision.

    The rows are the bot's, by slot. A bot that holds something goes on in the product it holds that
    in; a flat one begins in the given one.

    A leg of more than the exchange takes at once becomes several orders, and what a slot holds
    beyond whole lots, of an order filled in part, is traded away with its next. Raises
    IntegrityError where the same leg of the same bar was intended before.
    """
    protocol.fail_at("before_intent")
    now = clock.market()
    rows = dict(rows)
    product = product_of(rows.values()) or product
    orders = []
    for leg, part in _parts(legs, reference_prices, instruments, now):
        lot_size = instruments.parse(leg.instrument).lot_size
        rests = _rests(leg, rows, lot_size)
        named = f"{leg.name}:{leg.instrument}"
        order = Order.on(bot.market)(
            bot=bot.slug,
            tag=tag_of(ledger.account(bot), bot.slug, bar_closes_at, named, part),
            quantity=leg.lots * lot_size - sum(rests.values()),
            bar_closes_at=bar_closes_at,
            rests={slot: str(rest) for slot, rest in rests.items()},
            product=product,
            **_of_leg(leg, reference_prices[leg.instrument], now),
        )
        orders.append(order)
    Order.on(bot.market).objects.bulk_create(orders)
    ledger.record(orders, "", now)
    return orders


def _of_leg(leg: Leg, reference_price: Decimal, now: dt.datetime) -> dict[str, Any]:
    """Return the fields of an intent that follow from its leg alone."""
    return {
        "instrument": leg.instrument,
        "state": Order.State.INTENT,
        "leg": leg.name,
        "shares": dict(leg.shares),
        "reference_price": reference_price,
        "created_at": now,
        "updated_at": now,
        "mode": settings.MODE,
    }


def product_of(rows: Iterable[Position]) -> str:
    """Return the product in which a bot holds what it holds; nothing where it is flat."""
    return next((row.product for row in rows if row.quantity), "")


def submit_all(
    bot: Bot,
    orders: Sequence[Order],
    venue: Venue,
    instruments: Instruments,
    view: AccountView | None = None,
) -> None:
    """Send the legs of one decision in order; a leg that is not taken ends those after it.

    The account is looked at once for all of them, unless the look was begun with the decision.
    """
    names = {order.instrument for order in orders if order.quantity}
    if names and (view is None or not names <= view.instruments):
        lot_size = max(instruments.parse(name).lot_size for name in names)
        view = AccountView(venue, names, lot_size)

    def send_one(order: Order) -> None:
        if order.quantity == 0:
            cross(bot, order, venue, instruments)
        else:
            submit(bot, order, venue, instruments, view)

    protocol.send_all(orders, send_one, _drop)


def submit(
    bot: Bot,
    order: Order,
    venue: Venue,
    instruments: Instruments,
    view: AccountView | None = None,
) -> None:
    """Take one intended order through the protocol; halt a bot that is only refused."""
    protocol.send(DatabaseLedger(bot, venue, instruments, view), venue, order, bot.slippage_bps)
    if order.state == Order.State.REJECTED:
        _halt_after_refusals(bot)
    elif order.state == Order.State.NOT_PLACED:
        text = f"{bot.title} bot's order for {order.quantity.normalize():+f} {order.instrument} "
        text += f"was not sent: {order.message}"
        notices.notify("trading", "warning", f"not-sent:{bot.slug}", text)


def cross(bot: Bot, order: Order, venue: Venue, instruments: Instruments) -> None:
    """Let slots that want opposite things trade with each other, at the quote and without charges.

    Nothing is sent, and the account's position does not change.
    """
    price = venue.quote(order.instrument) or order.reference_price
    instrument = instruments.parse(order.instrument)
    now = clock.market()
    with transaction.atomic(using=bot.market, durable=True):
        risk = locked_risk(bot)
        rows = ledger.positions(bot, lock=True)
        beside = exit_sizing.rows_beside(order, venue)
        standing = DatabaseLedger(bot, venue, instruments).account_snapshot(
            order, risk, price, beside
        )
        if refused := pretrade_checks.check(order, standing, limits_of(bot, instrument.lot_size)):
            ledger.move(order, Order.State.DENIED, refused.reason)
            return
        for slot, lots in order.shares.items():
            ledger.apply_fill(
                rows[slot],
                bot,
                instrument,
                order.leg,
                ledger.next_lot_size(instruments, now),
                quantity=lots * instrument.lot_size,
                price=price,
                charges=Decimal(0),
                slippage=Decimal(0),
                at=now,
            )
            rows[slot].save()
        ledger.move(
            order, Order.State.FILLED, f"crossed inside the bot at {price:f}", average_price=price
        )


def _parts(
    legs: Sequence[Leg],
    reference_prices: Mapping[str, Decimal],
    instruments: Instruments,
    now: dt.datetime,
) -> Iterator[tuple[Leg, int]]:
    """Give the legs in the sizes that the exchange takes at once, each with its place from 1."""
    date = clock.trading_date(now)
    for leg in legs:
        most = freeze_quantity(instruments.market, date, reference_prices[leg.instrument])
        lot_size = instruments.parse(leg.instrument).lot_size
        parts = sliced(leg, int(most // lot_size)) if most is not None else [leg]
        yield from zip(parts, count(1), strict=False)


def _rests(leg: Leg, rows: dict[str, Position], lot_size: Decimal) -> dict[str, Decimal]:
    """Take out of the rows, and return, what a leg's slots hold of it beyond whole lots."""
    found = {}
    for slot in leg.shares if leg.lots or leg.name in (FLATTEN, LEAVE) else ():
        row = rows.get(slot)
        if row is not None and row.instrument == leg.instrument:
            rest = row.quantity - row.lots * lot_size
            if rest:
                found[slot] = rest
                del rows[slot]  # its second leg starts from what this one leaves
    return found


def _drop(order: Order, reason: str) -> None:
    with transaction.atomic(using=str(order._state.db), durable=True):
        ledger.move(order, Order.State.NOT_PLACED, reason)


def _halt_after_refusals(bot: Bot) -> None:
    newest = (
        Order.on(bot.market)
        .objects.filter(bot=bot.slug)
        .exclude(state__in=[Order.State.NOT_PLACED, Order.State.DENIED, Order.State.INTENT])
    )
    states = list(
        newest.order_by("-id").values_list("state", flat=True)[: pretrade_checks.REFUSALS_IN_A_ROW]
    )
    if states == [Order.State.REJECTED] * pretrade_checks.REFUSALS_IN_A_ROW:
        kill_switch.halt(
            bot, f"{pretrade_checks.REFUSALS_IN_A_ROW} orders refused in a row", "the bot"
        )
