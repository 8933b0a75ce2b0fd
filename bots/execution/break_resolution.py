"""What a person may say of a difference that nothing explains, and what each answer books.

Where the venue has more than the ledger, the rest may be the owner's. Where it has less than the
bots hold, nobody guesses: either the owner closed it or the venue did, at a price that the person
knows, and it is booked with the bots.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from bots.execution import breaks, closures
from bots.execution.cover import lacking
from bots.execution.netting import BY_OWNER, BY_VENUE
from bots.models import Discrepancy, Position
from markets.domain.instruments import Instruments
from markets.models import Quote
from tradingsite.registry import BOTS, MARKETS

OWNERS = "owners"


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer, in the words of what it books."""

    key: str
    """owners, by_owner or by_venue."""
    title: str
    books: str
    needs_price: bool = False


def choices(market: str, row: Discrepancy) -> list[Choice]:
    """Return the answers that a difference allows, each saying what it books."""
    held = breaks.bots_hold(market, row.venue, row.instrument)
    missing = lacking(held, row.venue_quantity)
    there, name = row.venue_quantity.normalize(), row.instrument
    if not missing:
        rest = (row.venue_quantity - row.ledger_quantity).normalize()
        return [
            Choice(
                OWNERS,
                "The rest is mine",
                f"Books {rest:+f} {name} as yours from now on; the bots keep "
                f"{held.normalize():+f}, and no bot touches what is yours.",
            )
        ]
    side = -1 if held > 0 else 1
    closing = (side * missing).normalize()
    after = (held + side * missing).normalize()
    named = ", ".join(
        f"{(side * part).normalize():+f} with the {bot} bot"
        for bot, part in _parts(market, row, missing).items()
    )
    words = (
        f"Books {named} at the price you give, charges as for any trade; the bots then hold "
        f"{after:+f} of it, the account {there:+f}. Nothing is sent."
    )
    return [
        Choice(BY_OWNER, f"I closed {abs(closing):f} of it by hand", words, needs_price=True),
        Choice(BY_VENUE, f"{row.venue} closed {abs(closing):f} of it", words, needs_price=True),
    ]


def resolve(
    market: str,
    row: Discrepancy,
    key: str,
    by: str,
    instruments: Instruments,
    price: Decimal | None = None,
) -> str:
    """Book a person's answer and return what was booked, in words.

    Raises ValueError for an answer that the difference does not allow, or one without its price.
    """
    allowed = {choice.key: choice for choice in choices(market, row)}
    if key not in allowed:
        words = ", ".join(allowed)
        raise ValueError(
            f"{row.instrument}: {row}. The answer {key!r} does not fit that; what fits is: {words}"
        )
    if key == OWNERS:
        done = breaks.adopt(market, row.instrument, by)
        return f"{row.instrument}: {'adopted as yours' if done else 'the two sides agree by now'}"
    price = price or suggested_price(market, row.instrument)
    if price is None:
        raise ValueError(f"say at what price {row.instrument} was closed")
    missing = lacking(breaks.bots_hold(market, row.venue, row.instrument), row.venue_quantity)
    parts = _parts(market, row, missing)
    for slug, part in parts.items():
        bot = BOTS[slug]
        side = -1 if _held(market, row, slug) > 0 else 1
        closures.close_by_word(bot, instruments, row.instrument, side * part, key, price, by)
    booked = ", ".join(f"{part.normalize():f} with the {slug} bot" for slug, part in parts.items())
    currency = MARKETS[market].currency
    return (
        f"{row.instrument}: booked the closing of {booked} at {currency} {price.normalize():f}; "
        f"the next reconciliation, within a minute, ends the difference or shows what is left"
    )


def suggested_price(market: str, instrument: str) -> Decimal | None:
    """Return the last quote of an instrument, to begin with; None where there is none."""
    found = Quote.on(market).objects.filter(instrument=instrument).first()
    return found.price if found else None


def _parts(market: str, row: Discrepancy, missing: Decimal) -> Mapping[str, Decimal]:
    """Return how much of what is missing each bot that held it has lost, in their order."""
    held = breaks.bots_hold(market, row.venue, row.instrument)
    parts: dict[str, Decimal] = {}
    for slug in sorted(BOTS):
        own = _held(market, row, slug)
        if own * held > 0 and missing:
            parts[slug] = min(abs(own), missing)
            missing -= parts[slug]
    return parts


def _held(market: str, row: Discrepancy, slug: str) -> Decimal:
    rows = Position.on(market).objects.filter(bot=slug, venue=row.venue, instrument=row.instrument)
    return sum(rows.values_list("quantity", flat=True), Decimal(0))
