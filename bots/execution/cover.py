"""What an account holds against what its bots believe to hold: the arithmetic of one netted number.

Pure. A broker nets whatever its account trades in an instrument and a product. Bots may rely on
what the account covers; what it does not cover was closed by somebody else, and an exit of it would
open the other side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from markets.venues.base import VenueTrade

ZERO = Decimal(0)


def lacking(bots: Decimal, there: Decimal) -> Decimal:
    """Return how much of what bots hold a venue's quantity does not cover, without a sign.

    A part on the other side covers nothing.
    """
    side = 1 if bots > 0 else -1
    return max(abs(bots) - max(side * there, ZERO), ZERO)


def fit(
    quantity: Decimal,
    product: str,
    legs: Mapping[str, Decimal],
    others: Mapping[str, Decimal],
    lot_size: Decimal,
) -> tuple[str, Decimal]:
    """Return the product in which an exit goes out and how much of it may, without a sign.

    `legs` are the account's quantities by product, `others` what other bots hold of them. The
    product that was asked for is kept where it covers the exit; else the one that covers most.
    Where lots are whole units, so is the answer.
    """
    side = -1 if quantity > 0 else 1
    covers = {
        name: max(side * (legs.get(name, ZERO) - others.get(name, ZERO)), ZERO)
        for name in {*legs, product}
    }
    wanted = abs(quantity)
    if covers[product] < wanted:
        best = max(sorted(covers), key=lambda name: covers[name])
        product = best if covers[best] > covers[product] else product
    allowed = min(wanted, covers[product])
    if lot_size >= 1:
        allowed -= allowed % lot_size  # a broker takes whole lots only
    return product, allowed


def closings(
    missing: Decimal,
    side: int,
    executions: Sequence[VenueTrade],
    booked: Mapping[str, Decimal],
) -> list[VenueTrade]:
    """Return the parts of foreign executions that closed a missing quantity, newest first.

    `side` is that of the closing executions; `booked` is what of each was booked as a closing
    before. Nothing is returned where they do not account for all of it: then nobody knows.
    """
    parts: list[VenueTrade] = []
    for trade in _left(side, executions, booked):
        part = min(abs(trade.quantity), missing)
        if not part:
            break
        parts.append(replace(trade, quantity=side * part))
        missing -= part
    return [] if missing else parts


def _left(
    side: int, executions: Sequence[VenueTrade], booked: Mapping[str, Decimal]
) -> Iterator[VenueTrade]:
    for trade in sorted(executions, key=lambda each: each.at, reverse=True):
        left = trade.quantity - booked.get(trade.trade_id, ZERO)
        if not trade.tag and left * side > 0:
            yield replace(trade, quantity=left)
