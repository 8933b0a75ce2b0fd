"""The states of an order and the moves between them. Pure; the ledger refuses every other move.

Nothing but proof, or a person, leads out of UNKNOWN. An accepted order whose day is over without an
answer goes there too. NOT_PLACED and REJECTED are final unless the venue shows the order after all:
then it is LATE, and counts again. What is over still takes in executions that were told late.
"""

from enum import StrEnum

from tradingsite.errors import StopTrading


class State(StrEnum):
    """Name what is known of an order."""

    INTENT = "intent"
    DENIED = "denied"
    SUBMITTING = "submitting"
    ACKED = "acked"
    PARTIAL = "partial"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_PLACED = "not_placed"
    LATE = "late"


class IllegalMove(StopTrading):
    """An order was to go where no order goes: the ledger or the code is wrong."""


IN_FLIGHT = (State.SUBMITTING, State.UNKNOWN, State.LATE, State.ACKED, State.PARTIAL)
"""May still change what is held."""
DOUBTFUL = (State.SUBMITTING, State.UNKNOWN, State.LATE)
"""Nobody may rely on what it holds: no new risk in its instrument."""
REVIVABLE = (State.DENIED, State.REJECTED, State.NOT_PLACED)
"""Over for us; a book that shows one of these alive makes it LATE."""

_PROVED = {State.ACKED, State.PARTIAL, State.FILLED, State.CANCELLED, State.REJECTED}
MOVES: dict[State, frozenset[State]] = {
    # An order that nets to nothing is filled inside the bot, without a venue.
    State.INTENT: frozenset(
        {State.DENIED, State.SUBMITTING, State.NOT_PLACED, State.FILLED},
    ),
    State.SUBMITTING: frozenset(_PROVED | {State.UNKNOWN, State.NOT_PLACED}),
    State.UNKNOWN: frozenset(_PROVED | {State.NOT_PLACED}),
    State.LATE: frozenset(_PROVED | {State.UNKNOWN}),
    State.ACKED: frozenset(_PROVED - {State.ACKED} | {State.UNKNOWN}),
    State.PARTIAL: frozenset({State.PARTIAL, State.FILLED, State.CANCELLED, State.UNKNOWN}),
    # An execution told late, or one of an order that somebody enlarged at the venue.
    State.FILLED: frozenset({State.FILLED}),
    State.CANCELLED: frozenset({State.CANCELLED, State.FILLED}),
    State.DENIED: frozenset({State.LATE}),
    State.REJECTED: frozenset({State.LATE}),
    State.NOT_PLACED: frozenset({State.LATE}),
}


def check(before: str, after: str) -> None:
    """Raise IllegalMove where no order goes from one state to the other."""
    if State(after) not in MOVES[State(before)]:
        raise IllegalMove(f"an order cannot go from {before} to {after}")
