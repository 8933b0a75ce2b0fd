"""The ledger's rows and the sleeves they stand for, and the ways a row may change.

An order changes state only through `move`, which writes the event in the same transaction, so the
events tell the whole story. Money moves only through `apply_fill`, in Decimals; what the policy
sees of it (entry, age, peak) is the sleeve's own logic, the same as in the replay.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connections

from bots.decision import accounting
from bots.decision.sleeve import Sleeve, SleeveState
from bots.execution.netting import ROLL_CLOSE
from bots.execution.states import IN_FLIGHT, check
from bots.models import Order, OrderEvent, Position, RiskState
from markets.domain.instruments import Instrument, Instruments
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import StopTrading
from tradingsite.registry import Bot, Slot

CENT = Decimal("0.0001")
"""The step of amounts of money in the ledger's columns."""
MESSAGE_CHARACTERS = 300
_EVENTS_LOCK = 7_305_112_001


def open_rows(bot: Bot, instruments_now: str, venue: str) -> None:
    """Make the bot's risk row and its slots' position rows where they are missing.

    Raises StopTrading where a slot still holds something at another venue.
    """
    now = clock.market()
    RiskState.on(bot.market).objects.get_or_create(bot=bot.slug, defaults={"updated_at": now})
    for slot in bot.slots:
        Position.on(bot.market).objects.get_or_create(
            slot=slot.slug,
            defaults={
                "bot": bot.slug,
                "venue": venue,
                "instrument": instruments_now,
                "updated_at": now,
            },
        )
    elsewhere = Position.on(bot.market).objects.filter(bot=bot.slug).exclude(venue=venue)
    for row in elsewhere.exclude(quantity=0):
        raise StopTrading(
            f"{row.slot} holds {row.lots:+d} lots at {row.venue}, and its bot trades at {venue} "
            f"now: close them there first (manage.py halt {bot.slug} --flatten)"
        )
    elsewhere.update(venue=venue)


def in_flight(bot: Bot) -> list[Order]:
    """Return the bot's orders whose outcome is still open, oldest first."""
    rows = Order.on(bot.market).objects.filter(bot=bot.slug, state__in=IN_FLIGHT)
    return list(rows.order_by("created_at", "id"))


def move(order: Order, state: str, detail: str = "", **fields: Any) -> None:
    """Change an order's state and write the event; call it inside a transaction, as its last act.

    Raises IllegalMove where no order goes there, and where the ledger has it elsewhere by now.
    Events get their numbers one transaction after another, so that a reader who has come as far
    as a number has seen all before it.
    """
    now = clock.market()
    row = Order.on(str(order._state.db)).objects.select_for_update().filter(pk=order.pk)
    check(row.values_list("state", flat=True).get(), state)
    order.state = state
    order.updated_at = now
    order.message = detail[:MESSAGE_CHARACTERS]
    for name, value in fields.items():
        setattr(order, name, value)
    order.save(update_fields=["state", "updated_at", "message", *fields])
    record([order], detail, now)


def record(orders: Sequence[Order], detail: str, now: dt.datetime) -> None:
    """Write the event of each order's present state; the transaction's last act."""
    if not orders:
        return
    alias = str(orders[0]._state.db)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_EVENTS_LOCK])
    OrderEvent.on(alias).objects.bulk_create(
        OrderEvent.on(alias)(
            order_id=order.pk,
            state=order.state,
            at=clock.real(),
            market_at=now,
            detail=detail[:MESSAGE_CHARACTERS],
        )
        for order in orders
    )


def sleeve_of(position: Position, bot: Bot, lot_size: Decimal) -> Sleeve:
    """Return the sleeve a position row stands for."""
    return Sleeve.from_state(
        SleeveState(
            limit_lots=bot.limit_lots,
            lot_size=float(lot_size),
            quantity=float(position.quantity),
            cash=float(position.cash),
            equity=float(position.equity),
            entry_equity=float(position.entry_equity),
            peak_equity=float(position.peak_equity),
            bars_held=position.bars_held,
            rolled_side=position.rolled_side,
        )
    )


def save_sleeve(position: Position, sleeve: Sleeve, at: dt.datetime) -> None:
    """Put what a sleeve remembers back into its row; its money is kept by `apply_fill`."""
    state = sleeve.state()
    position.lots = sleeve.lots
    position.entry_equity = money(state.entry_equity)
    position.peak_equity = money(state.peak_equity)
    position.bars_held = state.bars_held
    position.rolled_side = state.rolled_side
    position.updated_at = at


def apply_fill(
    position: Position,
    bot: Bot,
    instrument: Instrument,
    leg: str,
    next_lot_size: Decimal,
    *,
    quantity: Decimal,
    price: Decimal,
    charges: Decimal,
    slippage: Decimal,
    at: dt.datetime,
    product: str = "",
) -> None:
    """Book one slot's share of a fill into its row, without saving it."""
    held = position.quantity
    sleeve = sleeve_of(position, bot, instrument.lot_size)
    if leg == ROLL_CLOSE:
        sleeve.roll(float(next_lot_size))
    sleeve.fill(float(quantity), float(price), float(charges))
    save_sleeve(position, sleeve, at)
    position.quantity = held + quantity
    position.cash = accounting.settle(position.cash, quantity, price, charges).quantize(CENT)
    position.average_price = _average_price(position.average_price, held, quantity, price)
    position.charges += charges
    position.slippage += slippage
    if held == 0:
        position.instrument = instrument.name
        position.product = product
        position.opened_at = at
    if position.quantity == 0:
        position.opened_at = None


def positions(bot: Bot, *, lock: bool = False) -> dict[str, Position]:
    """Return the bot's position rows by slot, locked for a change if asked."""
    rows = Position.on(bot.market).objects.filter(bot=bot.slug).order_by("slot")
    if lock:
        rows = rows.select_for_update()
    return {row.slot: row for row in rows}


def held_of(bot: Bot, instrument: str) -> Decimal:
    """Return what the bot holds of an instrument, all its slots together."""
    rows = Position.on(bot.market).objects.filter(bot=bot.slug, instrument=instrument)
    return sum(rows.values_list("quantity", flat=True), Decimal(0))


def product_of(bot: Bot, instrument: str) -> str:
    """Return the product in which the bot holds an instrument; nothing where it holds none."""
    rows = Position.on(bot.market).objects.filter(bot=bot.slug, instrument=instrument)
    return next((row.product for row in rows if row.quantity), "")


def split_amount(amount: Decimal, weights: Iterable[int | Decimal]) -> list[Decimal]:
    """Return an amount split_amount by the sizes of weights, in whole steps that add up to it."""
    sizes = [abs(Decimal(weight)) for weight in weights]
    if not any(sizes):
        sizes = [Decimal(1) for _ in sizes]
    total, parts, before, given = sum(sizes, Decimal(0)), [], Decimal(0), Decimal(0)
    for size in sizes:
        before += size
        upto = (amount * before / total).quantize(CENT)
        parts.append(upto - given)
        given = upto
    return parts


def money(amount: float | Decimal) -> Decimal:
    """Return an amount as the ledger keeps it."""
    exact = amount if isinstance(amount, Decimal) else Decimal(repr(amount))
    return exact.quantize(CENT)


def account(slot_or_bot: Slot | Bot) -> str:
    """Return the name of the account that orders of a market go to, in this mode."""
    return f"{settings.MODE}:{slot_or_bot.market}"


def _average_price(
    average: Decimal | None, held: Decimal, quantity: Decimal, price: Decimal
) -> Decimal | None:
    after = held + quantity
    if after == 0:
        return None
    if average is None or held * after <= 0:
        return price
    if abs(after) < abs(held):
        return average
    return ((average * held + price * quantity) / after).quantize(CENT)


def next_lot_size(instruments: Instruments, at: dt.datetime) -> Decimal:
    """Return the lot size of the contract that is traded from an instant on."""
    fills_at = instruments.tradable_at(clock.epoch(at))
    return instruments.front(Epoch(fills_at or clock.epoch(at))).lot_size
