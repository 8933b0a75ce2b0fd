"""What the account itself holds, kept for the pages, and in which product the bots' part is.

A broker's products are legs that do not close each other. The owner may convert one into another,
and a square-off that fails turns into an overnight position by itself; the bots' rows follow, so
that an exit goes out in the product that is held.
"""

from decimal import Decimal

from django.db import transaction

from bots.models import AccountHolding, Position
from markets.domain.instruments import BadInstrument, Instruments
from markets.venues.base import Holding, Venue
from tradingsite import clock, notices


def save_holdings(market: str, venue: Venue, instruments: Instruments) -> list[Holding]:
    """Store what a venue's account holds now, and let the bots' rows follow its products."""
    found = venue.holdings()
    now = clock.market()
    rows = AccountHolding.on(market).objects.filter(venue=venue.name)
    made = [
        AccountHolding.on(market)(
            venue=venue.name,
            instrument=each.instrument,
            product=each.product,
            quantity=each.quantity,
            average_price=each.average_price,
            seen_at=now,
        )
        for each in found
        if each.quantity
    ]
    with transaction.atomic(using=market):
        rows.delete()
        AccountHolding.on(market).objects.bulk_create(made)
    for name in sorted({each.instrument for each in found}):
        if _is_ours(instruments, name):
            legs = {each.product: each.quantity for each in found if each.instrument == name}
            _follow(market, venue, name, legs)
            _tell_opposed(market, venue, name, legs)
    return found


def _follow(market: str, venue: Venue, name: str, legs: dict[str, Decimal]) -> None:
    """Move the bots' rows to the product which holds what they hold, where theirs does not."""
    rows = Position.on(market).objects.filter(venue=venue.name, instrument=name)
    held: dict[str, Decimal] = {}
    for product, quantity in rows.exclude(quantity=0).values_list("product", "quantity"):
        held[product] = held.get(product, Decimal(0)) + quantity
    for product, quantity in held.items():
        side = 1 if quantity > 0 else -1
        if not quantity or side * legs.get(product, Decimal(0)) >= abs(quantity):
            continue
        into = next((each for each in legs if side * legs[each] >= abs(quantity)), None)
        if into is None:
            continue
        rows.filter(product=product).exclude(quantity=0).update(product=into)
        if not product:
            continue  # booked before the ledger kept products
        notices.notify(
            "trading",
            "warning",
            f"converted:{market}:{name}:{into}",
            f"{abs(quantity).normalize():f} {name} of the bots' is {into} at {venue.name} by now, "
            f"and was {product}: converted by the owner, or kept overnight "
            f"after a square-off that failed. The bots leave it as {into}.",
        )


def _tell_opposed(market: str, venue: Venue, name: str, legs: dict[str, Decimal]) -> None:
    key = f"opposed:{market}:{name}"
    if not (min(legs.values()) < 0 < max(legs.values())):
        notices.resolve(key)
        return
    words = ", ".join(f"{quantity.normalize():+f} {product}" for product, quantity in legs.items())
    notices.notify(
        "trading",
        "critical",
        key,
        f"{venue.name} holds {words} of {name}: two open legs which do not close each other. Both "
        f"bind margin, and once the intraday one is squared off the other stands alone. Convert "
        f"one of them, or close both, at the broker.",
    )


def _is_ours(instruments: Instruments, name: str) -> bool:
    try:
        instruments.parse(name)
    except BadInstrument:
        return False
    return True
