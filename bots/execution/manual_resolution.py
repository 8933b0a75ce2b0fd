"""A person's word for what became of an order in doubt: nothing, or so much, at such a price."""

from decimal import Decimal

from django.db import transaction

from bots.execution import fills, ledger
from bots.execution.states import State
from bots.models import Order
from markets.domain.instruments import Instruments
from markets.venues.base import VenueTrade
from tradingsite import clock
from tradingsite.registry import BOTS


def give_up(
    market: str,
    tag: str,
    by: str,
    instruments: Instruments,
    filled: Decimal = Decimal(0),
    price: Decimal | None = None,
) -> bool:
    """End an unknown order with what a person says has filled of it, beyond what is booked.

    `filled` has no sign; its price, where nobody knows it, is that of the order's sending. Returns
    False where the order is not unknown any more. Raises ValueError for more than was open of it.
    """
    with transaction.atomic(using=market):
        order = _unknown(market, tag)
        if order is None:
            return False
        left = abs(order.quantity) - abs(order.filled_quantity)
        if not 0 <= filled <= left:
            raise ValueError(f"{left.normalize():f} of order {tag} is open, not {filled:f}")
        if not filled:
            _end(order, f"{by} says that nothing {'more ' if order.filled_quantity else ''}filled")
            return True
    trade = _trade_by_word(order, filled, price)
    if not fills.take_trade(BOTS[order.bot], order.pk, trade, instruments):
        raise ValueError(
            f"a slot of order {tag} still holds another contract than {order.instrument}: what "
            f"closes that one comes first"
        )
    with transaction.atomic(using=market):
        order = Order.on(market).objects.select_for_update().get(tag=tag)
        if order.state != State.FILLED:
            _end(order, f"{by} says that no more than {filled.normalize():f} filled")
    return True


def _trade_by_word(order: Order, filled: Decimal, price: Decimal | None) -> VenueTrade:
    """Return what a person says has filled, as an execution that the venue told of."""
    return VenueTrade(
        # No venue gives such an id, so that the venue's own word, should it come, is another.
        trade_id=f"{fills.BY_PERSON}{order.pk}-{clock.real():%y%m%d%H%M%S}",
        tag=order.tag,
        instrument=order.instrument,
        quantity=filled if order.quantity > 0 else -filled,
        price=price or order.arrival_price or order.reference_price,
        at=clock.market(),
    )


def _unknown(market: str, tag: str) -> Order | None:
    rows = Order.on(market).objects.select_for_update()
    return rows.filter(tag=tag, state=State.UNKNOWN).first()


def _end(order: Order, words: str) -> None:
    was_there = order.filled_quantity or order.events.filter(state=State.ACKED).exists()
    ledger.move(order, State.CANCELLED if was_there else State.NOT_PLACED, words)
