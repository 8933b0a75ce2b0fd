"""An exit, fitted to what the account really holds: it closes, and never opens the other side.

A broker nets an account, whoever traded in it. What a bot believes to hold and the account does
not was closed for it, by its owner or the venue, and an order to close it once more would open a
real position that no screen shows. So an exit is held against the venue's own position, in the
product in which that is held, and is cut to it, or refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from django.db.models import Q

from bots.execution import breaks, cover
from bots.execution.account import AccountView
from bots.execution.netting import EXITS, cut, in_lots, portions
from bots.execution.pretrade_checks import Refusal
from bots.models import Order, Position
from markets.venues.base import Venue
from tradingsite import notices
from tradingsite.registry import Bot

FIELDS = ("quantity", "shares", "rests", "product")
"""Of an order: what fitting may change before it is sent."""


def fit_exit(
    order: Order,
    venue: Venue,
    rows: Iterable[Position],
    legs: Mapping[str, Decimal] | None,
    lot_size: Decimal,
) -> Refusal | None:
    """Fit an exit to the account's legs by product, or say why it may not go out at all.

    What other bots hold in the account is theirs; `rows` has it. The order's product becomes that
    of the leg which covers it.
    """
    if legs is None:
        if venue.honours_reduce_only:
            return None
        return Refusal(
            f"what {venue.name} holds of {order.instrument} could not be read, so that an exit "
            f"might open the other side",
            is_told=True,
        )
    if not order.quantity:
        return None
    wanted = abs(order.quantity)
    others = _others(order, venue, rows)
    order.product, allowed = cover.fit(order.quantity, order.product, legs, others, lot_size)
    if not allowed:
        held = sum(legs.values(), Decimal(0)).normalize()
        return Refusal(
            f"the account holds {held:+f} of {order.instrument}: there is nothing to close, and "
            f"{order.quantity.normalize():+f} would open the other side",
            is_told=True,
        )
    if allowed < wanted:
        rests = {slot: Decimal(rest) for slot, rest in order.rests.items()}
        parts = cut(portions(order.shares, rests, lot_size), allowed)
        shares, rests = in_lots(parts, lot_size)
        order.shares, order.rests = shares, {slot: str(rest) for slot, rest in rests.items()}
        order.quantity = allowed if order.quantity > 0 else -allowed
    return None


def rows_beside(order: Order, venue: Venue) -> Sequence[Position]:
    """Return the rows of the order's bot, and of all that hold its instrument in the account."""
    beside = Q(bot=order.bot) | Q(venue=venue.name, instrument=order.instrument)
    return list(Position.on(str(order._state.db)).objects.filter(beside))


def owners_share(
    market: str,
    venue: Venue,
    instrument: str,
    rows: Iterable[Position],
    view: AccountView | None = None,
) -> Decimal:
    """Return what the account holds of an instrument beyond its bots: by the look, else as booked.

    The look is of before the first order of the decision, as the bots' rows are.
    """
    legs = view.legs_as_seen(instrument) if view is not None else None
    if legs is None:
        return breaks.owners_share(market, venue, instrument)
    booked = (row.quantity for row in _of(rows, venue, instrument))
    return sum(legs.values(), Decimal(0)) - sum(booked, Decimal(0))


def tell_refused(bot: Bot, order: Order, refused: Refusal) -> None:
    """Tell people that an order was not sent, of which they must hear."""
    if order.leg not in EXITS:
        text = f"{bot.title} bot takes no new risk: {refused.reason}"
        notices.notify("trading", "critical", f"limits:{bot.slug}", text)
        return
    notices.notify(
        "trading",
        "critical",
        f"exit:{bot.slug}:{order.instrument}",
        f"{bot.title} bot's exit of {abs(order.quantity).normalize():f} {order.instrument} was not "
        f"sent: {refused.reason}. What closed it is looked for each minute, and told; if nothing "
        f"is found, see /trading/ or manage.py adopt {bot.market}.",
    )


def tell_cut(bot: Bot, order: Order, asked: Decimal, legs: Mapping[str, Decimal] | None) -> None:
    """Tell people that an exit was cut to what the account holds."""
    held = ", ".join(
        f"{quantity.normalize():+f} {product}".strip() for product, quantity in (legs or {}).items()
    )
    notices.notify(
        "trading",
        "critical",
        f"exit:{bot.slug}:{order.instrument}",
        f"{bot.title} bot's exit of {abs(asked).normalize():f} {order.instrument} was cut to "
        f"{abs(order.quantity).normalize():f}, as the account holds {held}: more would have opened "
        f"the other side. Its next look closes the rest, or books who has closed it.",
    )


def tell_left(bot: Bot, order: Order) -> None:
    """Tell people what could not be closed, dust that the venue does not take among it."""
    notices.notify(
        "trading",
        "critical",
        f"left:{bot.slug}:{order.instrument}",
        f"{bot.title} bot could not close {abs(order.quantity).normalize():f} of "
        f"{order.instrument}: {order.message}. It tries again each minute; what the venue takes "
        f"no order for must be closed there by hand.",
    )


def _of(rows: Iterable[Position], venue: Venue, instrument: str) -> list[Position]:
    return [row for row in rows if (row.venue, row.instrument) == (venue.name, instrument)]


def _others(order: Order, venue: Venue, rows: Iterable[Position]) -> dict[str, Decimal]:
    """Return what other bots hold of an order's instrument, by product: it is theirs."""
    held: dict[str, Decimal] = {}
    for row in _of(rows, venue, order.instrument):
        if row.bot != order.bot:
            held[row.product] = held.get(row.product, Decimal(0)) + row.quantity
    return held
