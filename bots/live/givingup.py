"""A person's word that an order nobody knows of was never placed."""

from django.db import transaction

from bots.live import ledger
from bots.live.states import State
from bots.models import Order


def give_up(market: str, tag: str, by: str) -> bool:
    """End an unknown order as never placed; return False where it is not unknown any more."""
    with transaction.atomic(using=market):
        rows = Order.on(market).objects.select_for_update()
        order = rows.filter(tag=tag, state=State.UNKNOWN).first()
        if order is None:
            return False
        ledger.move(order, State.NOT_PLACED, f"{by} says it was never placed")
    return True
