"""What the order protocol asks of a venue, whichever broker or exchange stands behind it.

Only a refusal the venue is known to make ends an order: `place` raises OrderRefused for it. Any
other error leaves it unknown whether the order arrived, and only the venue's book can tell.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tradingsite.errors import Degraded


class OrderRefused(Degraded):
    """The venue said no, for good: the order is not in the market and never will be."""


@dataclass(frozen=True, slots=True)
class BookOrder:
    """Describe an order as the venue's book has it; the quantity is signed, positive buys."""

    tag: str
    instrument: str
    quantity: Decimal
    state: str
    """open, filled or rejected."""
    accepted_at: dt.datetime
    message: str = ""


@dataclass(frozen=True, slots=True)
class VenueTrade:
    """Describe one execution; its id is the venue's own and never used twice."""

    trade_id: str
    tag: str
    instrument: str
    quantity: Decimal
    price: Decimal
    at: dt.datetime


class Venue(Protocol):
    """A broker or an exchange, seen from one market's account."""

    name: str

    def place(self, tag: str, instrument: str, quantity: Decimal, slippage_bps: float) -> str:
        """Send one market order and return the venue's id; called once for a tag, never retried.

        Raises OrderRefused for a known refusal; after any other error the order may exist.
        """

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the book holds."""

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant that carry a tag of our form."""

    def rule_out(self, tag: str) -> bool:
        """Return whether an order that the book does not hold is proved never to arrive."""

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first."""

    def positions(self) -> dict[str, Decimal]:
        """Return the account's quantity in each instrument it holds."""

    def quote(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None before the first."""
