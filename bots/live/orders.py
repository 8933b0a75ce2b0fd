"""The order protocol: every order is committed before it is sent, sent once, and never guessed at.

1. INTENT, with the decision that asked for it, is committed. 2. SUBMITTING is committed, in a
transaction that holds the risk row and has checked the halt flag, the daily loss, the counters and
what else is in flight; only now may bytes leave. 3. One `place`, never retried. 4. Its answer:
ACKED, or REJECTED for a refusal the venue is known to make; whatever else happened leaves the
order UNKNOWN until the venue's book tells. An order whose process died is found by its tag, which
follows from what it is for: the same decision can never become two orders.
"""

import base64
import datetime as dt
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from bots.live import halting, ledger
from bots.live.netting import ROLL_OPEN, Leg
from bots.models import Order, Position, RiskState
from markets.venues.base import OrderRefused, Venue
from markets.venues.instruments import Instruments
from tradingsite import clock
from tradingsite.registry import Bot

TAG_PREFIX = "T1"
TAG_CHARACTERS = 16
MAX_ORDERS_A_DAY = 100
"""More than a flip at every bar of every slot: a bot that reaches it is running away."""
MAX_REFUSALS_IN_A_ROW = 3

log = logging.getLogger(__name__)


def tag_of(account: str, bot: str, bar_closes_at: dt.datetime, leg: str, attempt: int = 1) -> str:
    """Return an order's name at the venue: 18 characters that follow from what the order is for."""
    what = f"{account}|{bot}|{bar_closes_at.astimezone(dt.UTC).isoformat()}|{leg}|{attempt}"
    digest = base64.b32encode(hashlib.sha256(what.encode()).digest()).decode()
    return TAG_PREFIX + digest[:TAG_CHARACTERS]


def intend(
    bot: Bot,
    legs: Sequence[Leg],
    bar_closes_at: dt.datetime,
    reference_prices: Mapping[str, Decimal],
    instruments: Instruments,
) -> list[Order]:
    """Write the INTENT of each leg; call it inside the transaction that records the decision.

    Raises IntegrityError where the same leg of the same bar was intended before.
    """
    now = clock.market()
    orders = []
    for leg in legs:
        quantity = leg.lots * instruments.parse(leg.instrument).lot_size
        named = f"{leg.name}:{leg.instrument}"
        order = Order.on(bot.market).objects.create(
            bot=bot.slug,
            tag=tag_of(ledger.account(bot), bot.slug, bar_closes_at, named),
            instrument=leg.instrument,
            quantity=quantity,
            state=Order.State.INTENT,
            bar_closes_at=bar_closes_at,
            leg=leg.name,
            shares=dict(leg.shares),
            reference_price=reference_prices[leg.instrument],
            created_at=now,
            updated_at=now,
            mode=settings.MODE,
        )
        orders.append(order)
    for order in orders:
        ledger.record(order, "", now)
    return orders


def submit_all(bot: Bot, orders: Sequence[Order], venue: Venue, instruments: Instruments) -> None:
    """Send the legs of one decision in order; a leg that is not taken ends those after it."""
    fail_at("after_intent")
    taken = {Order.State.ACKED, Order.State.FILLED}
    for number, order in enumerate(orders):
        if order.quantity == 0:
            cross(bot, order, venue, instruments)
        else:
            submit(bot, order, venue)
        if order.state not in taken:
            _drop(orders[number + 1 :], f"the leg before it is {order.state}")
            return


def submit(bot: Bot, order: Order, venue: Venue) -> None:
    """Take one intended order through SUBMITTING to what the venue made of it."""
    if not _begin(bot, order):
        return
    fail_at("after_submitting")
    try:
        venue_id = venue.place(order.tag, order.instrument, order.quantity, bot.slippage_bps)
    except OrderRefused as refusal:
        _end(order, Order.State.REJECTED, str(refusal))
        _halt_after_refusals(bot)
        return
    except Exception as error:
        # Whatever went wrong, the order may have arrived: there is no error to tell otherwise.
        log.exception("%s: order %s may or may not have arrived", bot.slug, order.tag)
        _end(order, Order.State.UNKNOWN, f"{type(error).__name__}: {error}")
        return
    fail_at("after_send")
    _end(order, Order.State.ACKED, f"{venue.name} order {venue_id}")


def cross(bot: Bot, order: Order, venue: Venue, instruments: Instruments) -> None:
    """Let slots that want opposite things trade with each other, at the quote and without charges.

    Nothing is sent, and the account's position does not change.
    """
    price = venue.quote(order.instrument) or order.reference_price
    instrument = instruments.parse(order.instrument)
    now = clock.market()
    with transaction.atomic(using=bot.market, durable=True):
        risk = _locked_risk(bot)
        rows = ledger.positions(bot, lock=True)
        if reason := _refusal(bot, order, rows, risk):
            ledger.move(order, Order.State.NOT_PLACED, reason)
            return
        for slot, lots in order.shares.items():
            ledger.take_fill(
                rows[slot],
                bot,
                instrument,
                order.leg,
                next_lot_size(instruments, now),
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


def fail_at(point: str) -> None:
    """Die here, as if killed, when the environment asks for it: the crash tests do."""
    if os.environ.get("NIGHTDESK_FAILPOINT") == point:
        os._exit(9)


def _begin(bot: Bot, order: Order) -> bool:
    ran_away = False
    with transaction.atomic(using=bot.market, durable=True):
        risk = _locked_risk(bot)
        ran_away = risk.orders_today >= MAX_ORDERS_A_DAY
        reason = _refusal(bot, order, ledger.positions(bot), risk)
        if reason:
            ledger.move(order, Order.State.NOT_PLACED, reason)
        else:
            risk.orders_today += 1
            risk.updated_at = clock.market()
            risk.save(update_fields=["orders_today", "updated_at"])
            ledger.move(order, Order.State.SUBMITTING)
    if ran_away:
        halting.halt(bot, f"{MAX_ORDERS_A_DAY} orders in one day look like a loop", "the bot")
    return not reason


def _refusal(bot: Bot, order: Order, rows: Mapping[str, Position], risk: RiskState) -> str:
    """Return why an order must not go out, or nothing; the risk row must be locked."""
    if risk.halted:
        return f"halted: {risk.halt_reason}"
    if risk.orders_today >= MAX_ORDERS_A_DAY:
        return f"{risk.orders_today} orders today are the most a bot may send"
    siblings = []
    for other in ledger.in_flight(bot):
        if other.state == Order.State.ACKED and other.bar_closes_at == order.bar_closes_at:
            siblings.append(other)
        elif other.pk != order.pk:
            return f"order {other.tag} is {other.state}"
    for slot, lots in order.shares.items():
        # The legs of a flip and of a roll go out together: each starts from what the other leaves.
        before = rows[slot].lots + sum(each.shares.get(slot, 0) for each in siblings)
        if risk.loss_latched and order.leg != ROLL_OPEN and not _reduces(before, lots):
            return "the daily loss limit is reached: the bot may only reduce"
        if abs(before + lots) > bot.limit_lots:
            return f"{slot} would hold {before + lots} lots, its limit is {bot.limit_lots}"
    return ""


def _reduces(held: int, lots: int) -> bool:
    return held * lots < 0 and abs(lots) <= abs(held)


def _locked_risk(bot: Bot) -> RiskState:
    return RiskState.on(bot.market).objects.select_for_update().get(bot=bot.slug)


def _end(order: Order, state: str, detail: str) -> None:
    with transaction.atomic(using=str(order._state.db), durable=True):
        ledger.move(order, state, detail)


def _drop(orders: Sequence[Order], reason: str) -> None:
    for order in orders:
        _end(order, Order.State.NOT_PLACED, reason)


def next_lot_size(instruments: Instruments, at: dt.datetime) -> Decimal:
    fills_at = instruments.tradable_at(int(at.timestamp()))
    return instruments.front(fills_at or int(at.timestamp())).lot_size


def _halt_after_refusals(bot: Bot) -> None:
    newest = Order.on(bot.market).objects.filter(bot=bot.slug).exclude(state=Order.State.NOT_PLACED)
    states = list(newest.order_by("-id").values_list("state", flat=True)[:MAX_REFUSALS_IN_A_ROW])
    if states == [Order.State.REJECTED] * MAX_REFUSALS_IN_A_ROW:
        halting.halt(bot, f"{MAX_REFUSALS_IN_A_ROW} orders refused in a row", "the bot")
