"""The order protocol, in one place: committed before it is sent, sent once, never guessed at.

1. INTENT is committed with the decision that asked for it. 2. SUBMITTING is committed by
`Ledger.begin`, in the transaction that has checked every limit; only now may bytes leave. 3. One
`place`, never retried. 4. Its answer: ACKED, or REJECTED for a refusal the venue is known to make;
whatever else happened leaves the order UNKNOWN, until the venue's book shows it or rules it out.

Pure, so that the property tests run this very code: the ledger behind it is PostgreSQL's
(`bots.live.database`) or the tests' own. A failpoint is named at every place where dying differs.
"""

import datetime as dt
import logging
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeVar

from bots.live.states import DOUBTFUL, REVIVABLE, State
from markets.venues.base import BookOrder, OrderRefused, Venue, VenueTrade
from tradingsite.errors import Degraded, Retry

FAILPOINTS = (
    *("before_intent", "after_intent", "after_submitting", "after_send", "after_refusal"),
    *("after_ack", "after_unknown", "during_fills", "after_cancel"),
)
DOUBT_READ_AT_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""When the book is read after a doubt began; from then on every minute."""
DOUBT_READ_EVERY_SECONDS = 60.0
CLOCKS_APART = dt.timedelta(minutes=5)
"""How far the venue's clock may be behind ours without hiding an execution from us."""

log = logging.getLogger(__name__)


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

    def unseen(self, trades: Sequence[VenueTrade]) -> Sequence[VenueTrade]:
        """Return those of the executions that are not booked yet."""

    def take(self, order: R, trade: VenueTrade) -> bool:
        """Book one execution, once."""

    def cannot_arrive(self, order: R) -> bool:
        """Return whether whatever came of the order would be in the venue's book by now."""

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Return whether the account holds of an instrument just what is booked."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Count what became of the orders in flight."""

    settled: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Count what a reconciliation changed, and name the orders of our form that are not ours."""

    not_placed: int
    cancelled: int
    settled: int
    unknown: int
    fills: int
    strangers: tuple[BookOrder, ...]


def _die_if_asked(point: str) -> None:
    if os.environ.get("NIGHTDESK_FAILPOINT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


on_failpoint: Callable[[str], None] = _die_if_asked


def fail_at(point: str) -> None:
    """Be killed here, when the environment asks for it: the crash tests do."""
    on_failpoint(point)


def send(ledger: Ledger[R], venue: Venue, order: R, slippage_bps: float) -> None:
    """Take one intended order through SUBMITTING to what the venue made of it."""
    if not ledger.begin(order):
        return
    fail_at("after_submitting")
    try:
        venue_id = venue.place(
            order.tag,
            order.instrument,
            order.quantity,
            slippage_bps,
            reduces=ledger.only_reduces(order),
        )
    except OrderRefused as refused:
        fail_at("after_refusal")
        ledger.move(order, State.REJECTED, str(refused))
        return
    except Exception as error:
        # Whatever went wrong, the order may have arrived: there is no error to tell otherwise.
        log.exception("order %s may or may not have arrived", order.tag)
        ledger.move(order, State.UNKNOWN, f"{type(error).__name__}: {error}")
        fail_at("after_unknown")
        return
    fail_at("after_send")
    ledger.move(order, State.ACKED, f"{venue.name} order {venue_id}")
    fail_at("after_ack")


def send_all(
    orders: Sequence[R], send_one: Callable[[R], None], drop: Callable[[R, str], None]
) -> None:
    """Send the legs of one decision in order; a leg that is not taken ends those after it."""
    fail_at("after_intent")
    for number, order in enumerate(orders):
        send_one(order)
        if order.state not in (State.ACKED, State.FILLED):
            for each in orders[number + 1 :]:
                drop(each, f"the leg before it is {order.state}")
            return


def reconcile(ledger: Ledger[R], venue: Venue, since: dt.datetime, is_halted: bool) -> Reconciled:
    """Bring the orders up to what the venue knows; doing it twice changes nothing more.

    1. An INTENT whose process is gone was never sent. 2. What we had given up and the book shows
    is LATE. 3. A halted bot's open orders are cancelled. 4. SUBMITTING, UNKNOWN and LATE become
    what the book says. 5. Fills are taken in, and with them all, a cancelled order is over.
    """
    not_placed = drop_intents(ledger)
    strangers = find_late(ledger, venue, since)
    cancelled = cancel_open(ledger, venue) if is_halted else 0
    first = settle(ledger, venue)
    fills = take_trades(ledger, venue)
    # An order that was cancelled with fills we had not taken in yet.
    more = settle(ledger, venue) if fills else Settled(0, first.unknown)
    return Reconciled(
        not_placed, cancelled, first.settled + more.settled, more.unknown, fills, tuple(strangers)
    )


def drop_intents(ledger: Ledger[R]) -> int:
    """End the intents of a process that is gone: they were never sent and never will be."""
    waiting = ledger.intents()
    for order in waiting:
        ledger.move(order, State.NOT_PLACED, "its process ended before it was sent")
    return len(waiting)


def settle(ledger: Ledger[R], venue: Venue) -> Settled:
    """Bring the orders in flight up to the venue's book; raise what the venue raises.

    A book that cannot be read, or does not show an order, proves nothing.
    """
    waiting = ledger.in_flight()
    if not waiting:
        return Settled()
    try:
        book = {each.tag: each for each in venue.orders([order.tag for order in waiting])}
    except (Retry, Degraded) as error:
        for order in waiting:
            if order.state == State.SUBMITTING:
                ledger.move(order, State.UNKNOWN, f"perhaps sent; {venue.name} says: {error}")
        raise
    settled = unknown = 0
    for order in waiting:
        found = book.get(order.tag)
        if found is not None:
            settled += _adopt(ledger, order, found)
        elif order.state in DOUBTFUL:  # an accepted one that the book does not show stays so
            is_proved = _rule_out(ledger, venue, order)
            settled += is_proved
            unknown += not is_proved
    return Settled(settled, unknown)


def find_late(ledger: Ledger[R], venue: Venue, since: dt.datetime) -> list[BookOrder]:
    """Take up orders the ledger had given up and the book shows; return those it never had."""
    there = {each.tag: each for each in venue.strangers(since)}
    known = ledger.rows(list(there))
    for tag, order in known.items():
        if order.state in REVIVABLE and _has_effect(there[tag]):
            text = f"{venue.name} has it after all, {there[tag].state}"
            ledger.move(order, State.LATE, text)
    return [each for tag, each in there.items() if tag not in known]


def take_trades(ledger: Ledger[R], venue: Venue) -> int:
    """Take in the new executions of the orders in flight; return how many."""
    waiting = {order.tag: order for order in ledger.in_flight()}
    if not waiting:
        return 0
    trades = venue.trades(min(order.created_at for order in waiting.values()) - CLOCKS_APART)
    taken = 0
    for trade in ledger.unseen([each for each in trades if each.tag in waiting]):
        taken += ledger.take(waiting[trade.tag], trade)
        fail_at("during_fills")
    return taken


def cancel_open(ledger: Ledger[R], venue: Venue) -> int:
    """Ask that what is open be taken out of the book; ask again until it is. Return how many."""
    asked = 0
    for found in venue.orders([order.tag for order in ledger.in_flight()]):
        if found.state != "open":
            continue
        try:
            venue.cancel(found)
        except (Retry, Degraded) as error:
            log.warning("order %s could not be cancelled yet: %s", found.tag, error)
            continue
        fail_at("after_cancel")
        asked += 1
    return asked


def next_doubt_read(reads: int) -> float:
    """Return how long after a doubt began the book is to be read once more, in seconds."""
    if reads < len(DOUBT_READ_AT_SECONDS):
        return DOUBT_READ_AT_SECONDS[reads]
    more = reads - len(DOUBT_READ_AT_SECONDS) + 1
    return DOUBT_READ_AT_SECONDS[-1] + more * DOUBT_READ_EVERY_SECONDS


def _rule_out(ledger: Ledger[R], venue: Venue, order: R) -> bool:
    """Take an order that the book lacks for never placed, where that is proved."""
    if order.state == State.LATE:
        return False
    # A book may be empty for want of an answer, so the position, read apart from it, must agree.
    if ledger.cannot_arrive(order) and ledger.explains(venue.positions(), order.instrument):
        proof = f"{venue.name}'s book of the day is closed without it, and the position agrees"
    elif venue.rule_out(order.tag):
        proof = f"{venue.name} rules out that it ever arrives"
    else:
        if order.state == State.SUBMITTING:
            text = f"perhaps sent, not in {venue.name}'s book: no new order until it is known"
            ledger.move(order, State.UNKNOWN, text)
        return False
    ledger.move(order, State.NOT_PLACED, proof)
    return True


def _adopt(ledger: Ledger[R], order: R, found: BookOrder) -> bool:
    if found.state == "rejected":
        if order.filled_quantity:
            return False  # it cannot be: what has traded is compared, and stops the instrument
        ledger.move(order, State.REJECTED, found.message)
        return True
    if found.state == "cancelled" and found.filled_quantity == order.filled_quantity:
        ledger.move(order, State.CANCELLED, found.message)
        return True
    if order.state not in DOUBTFUL:
        return False
    # A filled one too: its fills move it on, and only they.
    state = State.PARTIAL if order.filled_quantity else State.ACKED
    ledger.move(order, state, "found in the venue's book")
    return True


def _has_effect(found: BookOrder) -> bool:
    return found.state in ("open", "filled") or bool(found.filled_quantity)
