"""What must hold of the soak's desks after every bar, by the venues' own records."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

OLDEST_SECONDS = 4 * 86_400
"""Of an order without an end: two sessions, over any weekend."""
MINUTE_SECONDS = 1.5
"""Real time for the look that the desk takes each minute."""


def wrong_orders(desk: Any) -> Iterator[str]:
    """Say what is wrong with a desk's orders, by the venue's own records."""
    from bots.execution.states import IN_FLIGHT, State
    from bots.models import Discrepancy, Order, OrderEvent

    rows = {order.tag: order for order in Order.on(desk.market).objects.all()}
    begun = OrderEvent.on(desk.market).objects.filter(state=State.SUBMITTING).count()
    tags = desk.soak.tags_at(desk.market)
    if len(tags) != len(set(tags)):
        yield "one tag is two orders"
    if strangers := set(tags) - rows.keys():
        yield f"orders that the ledger has not: {strangers}"
    if len(tags) > begun:
        yield f"{len(tags)} orders there, {begun} begun here"
    yield from desk.soak.crossed
    desk.soak.crossed.clear()
    stopped = Discrepancy.on(desk.market).objects.filter(closed_at=None).exists()
    old = dt.datetime.fromtimestamp(desk.soak.now - OLDEST_SECONDS, dt.UTC)
    for order in rows.values():
        if order.state in IN_FLIGHT and order.created_at < old and not desk.is_away:
            told = order.state == State.UNKNOWN and stopped
            if not told and desk.market == "nifty":
                yield f"order {order} has no end after two sessions, and nobody is told"


def wrong_position(desk: Any) -> Iterator[str]:
    """Say where a desk's position is not the account's, and nobody is told."""
    from bots.execution import breaks
    from bots.execution.states import IN_FLIGHT
    from bots.models import Discrepancy, Order, Position
    from tradingsite.models import Notice

    rows = Position.on(desk.market).objects
    booked = sum(rows.values_list("quantity", flat=True), Decimal(0))
    most = desk.bot.limit_lots * len(desk.bot.slots) * desk.soak.lot[desk.market]
    if abs(booked) > most:
        yield f"{booked} booked, over the limit of {most}"
    in_flight = Order.on(desk.market).objects.filter(state__in=IN_FLIGHT).exists()
    if in_flight or not desk.runner._is_ready:
        return
    stops = Discrepancy.on(desk.market).objects.filter(closed_at=None)
    until = time.monotonic() + MINUTE_SECONDS
    instruments = desk.runner._instruments
    while time.monotonic() < until:
        # The minute's look, which real time here has no minutes for.
        desk.runner._reconciled_at = float("-inf")
        desk.step()
        held = breaks.explained(desk.market, desk.venue)
        # What the owner kept of a contract that has expired is nobody's any more.
        alive = (name for name in held if breaks._is_ours(instruments, name))
        explained = sum((held[name] for name in alive), Decimal(0))
        if explained == desk.hands.held() or stops.exists():
            break
    if Order.on(desk.market).objects.filter(state__in=IN_FLIGHT).exists():
        return
    if explained != desk.hands.held() and not stops.exists():
        yield f"{explained} explained, {desk.hands.held()} held, and nothing is stopped"
    for stop in stops:
        key = f"discrepancy:{desk.market}:{stop.instrument}"
        if not Notice.objects.filter(key=key, resolved_at=None).exists():
            yield f"{stop.instrument} is stopped, and nobody is told"
