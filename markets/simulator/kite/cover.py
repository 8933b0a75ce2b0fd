"""Cover orders: entries whose stop the broker places, and which are left through it alone."""

from __future__ import annotations

from dataclasses import replace

from markets.simulator.kite.orders import OPEN, Ask, Order

UNPRICED = "A cover order of the type LIMIT needs its price"


def is_cover(order: Order) -> bool:
    """Return whether an order is of the variety, entry or stop."""
    return order.ask.variety == "co"


def is_unpriced(ask: Ask) -> bool:
    """Return whether a cover order lacks the price of its limit."""
    return ask.variety == "co" and ask.order_type == "LIMIT" and ask.price <= 0.0


def stop_of(entry: Ask) -> Ask:
    """Return the stop of an entry that has been filled."""
    return replace(
        entry,
        side=-entry.side,
        order_type="SL-M",
        price=0.0,
        validity="DAY",
        # The rest of the entry may be a limit by now, without protection of its own.
        market_protection=-1.0,
        tag="",
    )


def leave(stop: Order, now: float) -> None:
    """Turn a stop into a market order: to cancel it is to leave the position."""
    stop.ask = replace(stop.ask, order_type="MARKET", trigger_price=0.0)
    stop.become(OPEN, now)
