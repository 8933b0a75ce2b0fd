"""The venue's executions, taken into the ledger once each by their trade id.

One transaction holds the fill, the order's new state with its event, and every slot's sleeve with
its part of the charges: either all of it happened or none.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Literal

from django.db import transaction

from bots.decision import accounting
from bots.execution import ledger
from bots.execution.ledger import apply_fill, next_lot_size, split_amount
from bots.execution.netting import portions
from bots.models import Fill, Order, Position
from markets.domain.charges import itemise
from markets.domain.instruments import Instrument, Instruments
from markets.venues.base import VenueTrade
from tradingsite import clock
from tradingsite.registry import Bot

BY_PERSON = "person-"
"""How the number of an execution begins that a person told of, and no venue."""
TRADE_ID_CHARACTERS = 28
"""Kept of a number that was used again, beside ten of its order's tag."""
STEPS_A_LOT = 10
"""Of a lot that is less than one unit: no exchange we trade at has coarser steps."""

log = logging.getLogger(__name__)


def take_trade(bot: Bot, order_id: int, trade: VenueTrade, instruments: Instruments) -> bool:
    """Book one execution of one order; return False where it had been booked before."""
    with transaction.atomic(using=bot.market, durable=True):
        return book(bot, order_id, trade, instruments)


def book(bot: Bot, order_id: int, trade: VenueTrade, instruments: Instruments) -> bool:
    """Do the same inside a transaction of the caller's.

    A slot holds one contract: what opens the next one waits, unseen, until the old is closed.
    """
    instrument = instruments.parse(trade.instrument)
    with transaction.atomic(using=bot.market):
        order = Order.on(bot.market).objects.select_for_update().get(pk=order_id)
        booked = set(
            Fill.on(bot.market)
            .objects.filter(trade_id__in=_ids(trade))
            .values_list("trade_id", "order__tag")
        )
        if any(tag == order.tag for _, tag in booked):
            return False
        # A venue that uses a number again must not make an execution vanish.
        trade_id = _ids(trade)[1] if booked else trade.trade_id
        charges = charges_of(bot, order, trade)
        slippage = ledger.money(
            accounting.slippage_cost(trade.quantity, trade.price, order.reference_price)
        )
        shares = shares_of(order, trade.quantity, instrument.lot_size)
        weights = _weights(order, instrument.lot_size)
        rows = ledger.positions(bot, lock=True)
        if any(_holds_another(rows[slot], trade.instrument) for slot in shares):
            log.warning("%s: %s of %s waits", bot.slug, trade.trade_id, trade.instrument)
            return False
        parts = zip(
            shares.items(),
            split_amount(charges, weights),
            split_amount(slippage, weights),
            strict=True,
        )
        next_size = next_lot_size(instruments, trade.at)
        for (slot, quantity), *costs in parts:
            _apply(bot, order, trade, instrument, next_size, rows[slot], quantity, *costs)
        _write(bot, order, trade, trade_id, shares, charges, slippage)
        _move_on(order, trade, charges, slippage)
    return True


def _apply(
    bot: Bot,
    order: Order,
    trade: VenueTrade,
    instrument: Instrument,
    next_size: Decimal,
    row: Position,
    quantity: Decimal,
    charges: Decimal,
    slippage: Decimal,
) -> None:
    """Change one slot's row by its part of a trade."""
    apply_fill(
        row,
        bot,
        instrument,
        order.leg,
        next_size,
        quantity=quantity,
        price=trade.price,
        charges=charges,
        slippage=slippage,
        at=trade.at,
        product=order.product,
    )
    row.save()


def _write(
    bot: Bot,
    order: Order,
    trade: VenueTrade,
    trade_id: str,
    shares: Mapping[str, Decimal],
    charges: Decimal,
    slippage: Decimal,
) -> None:
    Fill.on(bot.market).objects.create(
        order_id=order.pk,
        trade_id=trade_id,
        bot=bot.slug,
        instrument=trade.instrument,
        quantity=trade.quantity,
        price=trade.price,
        shares={slot: str(each) for slot, each in shares.items()},
        charges=charges,
        slippage=slippage,
        at=trade.at,
        mode=order.mode,
    )


def unseen(market: str, trades: Sequence[VenueTrade]) -> list[VenueTrade]:
    """Return those of the executions that no order of theirs has been given yet."""
    wanted = [each for trade in trades for each in _ids(trade)]
    rows = Fill.on(market).objects.filter(trade_id__in=wanted)
    known = set(rows.values_list("trade_id", "order__tag"))
    told = _told(market, {trade.tag for trade in trades if trade.tag})
    found = []
    for trade in trades:
        if any((trade_id, trade.tag) in known for trade_id in _ids(trade)):
            continue
        # What a person said has filled is booked: its own execution, told late, is not another.
        by_word = min(told.get(trade.tag, Decimal(0)), abs(trade.quantity))
        if by_word:
            told[trade.tag] -= by_word
            side = 1 if trade.quantity > 0 else -1
            trade = replace(trade, quantity=trade.quantity - side * by_word)
        if trade.quantity:
            found.append(trade)
    return found


def _told(market: str, tags: Collection[str]) -> dict[str, Decimal]:
    """Return how much of each order a person said has filled, without a sign."""
    rows = Fill.on(market).objects.filter(order__tag__in=tags, trade_id__startswith=BY_PERSON)
    told: dict[str, Decimal] = {}
    for tag, quantity in rows.values_list("order__tag", "quantity"):
        told[tag] = told.get(tag, Decimal(0)) + abs(quantity)
    return told


def _ids(trade: VenueTrade) -> tuple[str, str]:
    """Return an execution's number as it is kept, and as where another has the same."""
    return trade.trade_id, f"{trade.trade_id[:TRADE_ID_CHARACTERS]}#{trade.tag[2:12]}"


def _holds_another(row: Position, instrument: str) -> bool:
    return bool(row.quantity) and row.instrument != instrument


def _weights(order: Order, lot_size: Decimal) -> list[Decimal]:
    """Return the sizes by which the slots of an order share what it costs."""
    rests = {slot: Decimal(rest) for slot, rest in order.rests.items()}
    return list(portions(order.shares, rests, lot_size).values())


def charges_of(bot: Bot, order: Order, trade: VenueTrade) -> Decimal:
    """Return what a trade adds to its order's charges: an order in parts pays as one does."""
    side: Literal["buy", "sell"] = "buy" if trade.quantity > 0 else "sell"
    turnover = abs(order.filled_quantity) * (order.average_price or 0)
    turnover += abs(trade.quantity) * trade.price
    total = itemise(bot.market, clock.trading_date(trade.at), side, turnover).total
    return ledger.money(total - order.charges)


def shares_of(order: Order, quantity: Decimal, lot_size: Decimal) -> Mapping[str, Decimal]:
    """Return what each slot has of a quantity of an order's, on top of what it has of it by now."""
    # Slots on both sides of nothing, that were settled together: one fill is all of them.
    before = (
        _parted(order, order.filled_quantity, lot_size)
        if order.quantity
        else dict.fromkeys(order.shares, Decimal(0))
    )
    after = _parted(order, order.filled_quantity + quantity, lot_size)
    return {slot: after[slot] - before[slot] for slot in after}


def _parted(order: Order, filled: Decimal, lot_size: Decimal) -> dict[str, Decimal]:
    """Return what each slot has of what an order has filled.

    In steps that can be traded again, should the rest never come; the last slot takes what is
    left over of them.
    """
    rests = {slot: Decimal(rest) for slot, rest in order.rests.items()}
    wanted = portions(order.shares, rests, lot_size)
    if filled == order.quantity:
        return wanted
    step = lot_size if lot_size >= 1 else lot_size / STEPS_A_LOT
    last = list(wanted)[-1]
    parts, upto, given = {}, Decimal(0), Decimal(0)
    for slot, each in wanted.items():
        upto += each
        edge = (filled * upto / order.quantity / step).to_integral_value() * step
        edge = filled if slot == last else edge
        parts[slot] = edge - given
        given = edge
    return parts


def _move_on(order: Order, trade: VenueTrade, charges: Decimal, slippage: Decimal) -> None:
    filled = order.filled_quantity + trade.quantity
    paid = order.filled_quantity * (order.average_price or 0) + trade.quantity * trade.price
    is_whole = abs(filled) >= abs(order.quantity)
    state = Order.State.FILLED if is_whole else Order.State.PARTIAL
    if not is_whole and order.state == Order.State.CANCELLED:
        state = Order.State.CANCELLED  # told late of an order that is over
    detail = f"{trade.quantity:+f} at {trade.price:f}"
    if abs(filled) > abs(order.quantity):
        detail += f"; {abs(order.quantity).normalize():f} was asked: it was enlarged at the venue"
    ledger.move(
        order,
        state,
        detail,
        filled_quantity=filled,
        average_price=(paid / filled).quantize(ledger.CENT) if filled else trade.price,
        charges=order.charges + charges,
        slippage=order.slippage + slippage,
    )
