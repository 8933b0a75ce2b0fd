"""What the order protocol asks of an order's row and of the ledger that keeps it."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, TypeVar

from bots.execution.states import State
from markets.venues.base import VenueTrade


class Row(Protocol):
    """An order of the ledger's, as far as the protocol looks at it."""

    @property
    def tag(self) -> str:
        """Return its name at the venue."""

    @property
    def instrument(self) -> str:
        """Return what it trades."""

    @property
    def quantity(self) -> Decimal:
        """Return the signed quantity."""

    @property
    def state(self) -> str:
        """Return what is known of it."""

    @property
    def filled_quantity(self) -> Decimal:
        """Return the signed quantity of the fills taken in."""

    @property
    def created_at(self) -> dt.datetime:
        """Return when it was intended, in market time."""

    @property
    def product(self) -> str:
        """Return the product it trades in, "" where the venue has none."""

    @property
    def sent_at(self) -> dt.datetime | None:
        """Return the real time at which it was committed to be sent, None before."""


R = TypeVar("R", bound=Row)


class Ledger(Protocol[R]):
    """What the protocol asks of a ledger; each call is one committed transaction."""

    def begin(self, order: R) -> bool:
        """Move an intent to SUBMITTING, or to DENIED where a limit says no."""

    def only_reduces(self, order: R) -> bool:
        """Return whether an order can but make the account's position smaller."""

    def move(self, order: R, state: State, detail: str) -> None:
        """Change an order's state, with its event."""

    def intents(self) -> Sequence[R]:
        """Return the orders that were never begun."""

    def in_flight(self) -> Sequence[R]:
        """Return the orders that may still change what is held, oldest first."""

    def rows(self, tags: Collection[str]) -> Mapping[str, R]:
        """Return this bot's and other bots' orders of some tags."""

    def own(self, tags: Collection[str]) -> Mapping[str, R]:
        """Return this bot's orders of some tags."""

    def unseen(self, trades: Sequence[VenueTrade]) -> Sequence[VenueTrade]:
        """Return those of the executions that are not booked yet."""

    def take(self, order: R, trade: VenueTrade) -> bool:
        """Book one execution, once."""

    def was_accepted(self, order: R) -> bool:
        """Return whether the venue ever said that it has the order."""

    def has_ended(self, order: R) -> bool:
        """Return whether whatever came of an order has come and would show by now.

        Never overnight, when a book of the day may be empty for want of a day.
        """

    def rests_too_long(self, order: R) -> bool:
        """Return whether an accepted order has been waiting in an open market for too long."""

    def outlives_halt(self, order: R) -> bool:
        """Return whether an order is a person's own closing of a halted bot's position."""

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Return whether the account holds of an instrument just what is booked."""
