"""The order protocol, in one place: committed before it is sent, sent once, never guessed at.

1. INTENT is committed with the decision that asked for it. 2. The turn at the venue is waited for,
so that nothing waits afterwards. 3. SUBMITTING is committed by `Ledger.begin`, in the transaction
that has checked every limit; only now may bytes leave, and only for some seconds. 4. One `place`,
never retried. 5. Its answer: ACKED, or REJECTED for a refusal the venue is known to make; whatever
else happened leaves the order UNKNOWN, until the venue's book shows it or rules it out.

Every order has an end. What a book shows as over is over, with what filled of it; what a book of
the day no longer shows is in doubt, and ends by the position or by a person; what rests for too
long is cancelled.

Pure, so that the property tests run this very code: the ledger behind it is PostgreSQL's
(`bots.execution.postgres_ledger`) or the tests' own. A failpoint is named at every place where
dying differs.
"""

import datetime as dt
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bots.execution.ports import Ledger, R, Row
from bots.execution.states import DOUBTFUL, IN_FLIGHT, REVIVABLE, State
from markets.venues.base import BookOrder, OrderRefused, Venue
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


@dataclass(frozen=True, slots=True)
class Settled:
    """Count what became of the orders in flight."""

    settled: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Count what a reconciliation changed, and name the orders of our form that are not ours."""

    not_placed: int
    cancelled: tuple[str, ...]
    """The tags of the orders that were asked to be taken out of the book."""
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
    try:
        venue.take_turn(order.instrument)
    except (Retry, Degraded) as error:
        ledger.move(order, State.NOT_PLACED, str(error))
        return
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
            product=order.product,
            sent_at=order.sent_at,
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
    """Send the legs of one decision in order; one that is cut or not taken ends those after it."""
    fail_at("after_intent")
    for number, order in enumerate(orders):
        asked = order.quantity
        send_one(order)
        why = ""
        if order.state not in (State.ACKED, State.FILLED):
            why = f"the leg before it is {order.state}"
        elif order.quantity != asked:
            why = "the leg before it was cut to what the account holds"
        if why:
            for each in orders[number + 1 :]:
                drop(each, why)
            return


def reconcile(ledger: Ledger[R], venue: Venue, since: dt.datetime, is_halted: bool) -> Reconciled:
    """Bring the orders up to what the venue knows; doing it twice changes nothing more.

    1. An INTENT whose process is gone was never sent. 2. What we had given up and the book shows
    is LATE. 3. A halted bot's open orders are cancelled, and any that rests for too long. 4. What
    is in doubt becomes what the book says, and what is over is over. 5. Fills are taken in, those
    of orders that were over already, too; and with them all, an order that is over ends.
    """
    not_placed = drop_intents(ledger)
    strangers = find_late(ledger, venue, since)
    cancelled = cancel_open(ledger, venue, is_halted)
    first = settle(ledger, venue)
    fills = take_trades(ledger, venue, since)
    # An order that is over, with fills we had not taken in yet.
    more = settle(ledger, venue) if fills else Settled(0, first.unknown)
    return Reconciled(
        not_placed,
        tuple(cancelled),
        first.settled + more.settled,
        more.unknown,
        fills,
        tuple(strangers),
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
            continue
        if order.state not in DOUBTFUL and ledger.has_ended(order):
            text = f"over, as its session is; {venue.name}'s book no longer says what filled of it"
            ledger.move(order, State.UNKNOWN, text)
        if order.state in DOUBTFUL:
            is_proved = _rule_out(ledger, venue, order)
            settled += is_proved
            unknown += not is_proved
    return Settled(settled, unknown)


def find_late(ledger: Ledger[R], venue: Venue, since: dt.datetime) -> list[BookOrder]:
    """Take up orders the ledger had given up and the book shows; return those it never had.

    Of both only what has an effect: what was refused or cancelled unfilled holds nothing.
    """
    there = {each.tag: each for each in venue.strangers(since)}
    known = ledger.rows(list(there))
    for tag, order in known.items():
        if order.state in REVIVABLE and _has_effect(there[tag]):
            text = f"{venue.name} has it after all, {there[tag].state}"
            ledger.move(order, State.LATE, text)
    return [each for tag, each in there.items() if tag not in known and _has_effect(each)]


def take_trades(ledger: Ledger[R], venue: Venue, since: dt.datetime | None = None) -> int:
    """Take in the new executions of the orders in flight; return how many.

    With an instant, those since then of every order of the bot's, whatever we thought had become
    of it: an execution is the truth.
    """
    waiting = {order.tag: order for order in ledger.in_flight()}
    starts = [order.created_at - CLOCKS_APART for order in waiting.values()]
    if since is not None:
        starts.append(since)
    if not starts:
        return 0
    tagged = [each for each in venue.trades(min(starts)) if each.tag]
    fresh = [each for each in ledger.unseen(tagged) if since is not None or each.tag in waiting]
    others = ledger.own({each.tag for each in fresh} - waiting.keys())
    taken = 0
    for trade in fresh:
        order = waiting.get(trade.tag) or others.get(trade.tag)
        if order is None:
            continue
        if trade.instrument != order.instrument or trade.quantity * order.quantity <= 0:
            # Somebody else uses our tag: the position tells of it, and stops the instrument.
            log.error("execution %s cannot be of order %s", trade.trade_id, trade.tag)
            continue
        if order.state in REVIVABLE:
            ledger.move(order, State.LATE, f"{venue.name} has traded it after all")
        taken += ledger.take(order, trade)
        fail_at("during_fills")
    return taken


def cancel_open(ledger: Ledger[R], venue: Venue, is_halted: bool) -> list[str]:
    """Ask that what is open be taken out of the book; ask again until it is. Return the tags.

    All that a halted bot has open but its closing, else what rests there for too long.
    """
    waiting = [
        each
        for each in ledger.in_flight()
        if (is_halted and not ledger.outlives_halt(each)) or ledger.rests_too_long(each)
    ]
    if not waiting:
        return []
    asked = []
    for found in venue.orders([order.tag for order in waiting]):
        if found.state != "open":
            continue
        try:
            venue.cancel(found)
        except (Retry, Degraded) as error:
            log.warning("order %s could not be cancelled yet: %s", found.tag, error)
            continue
        fail_at("after_cancel")
        asked.append(found.tag)
    return asked


def next_doubt_read(reads: int) -> float:
    """Return how long after a doubt began the book is to be read once more, in seconds."""
    if reads < len(DOUBT_READ_AT_SECONDS):
        return DOUBT_READ_AT_SECONDS[reads]
    more = reads - len(DOUBT_READ_AT_SECONDS) + 1
    return DOUBT_READ_AT_SECONDS[-1] + more * DOUBT_READ_EVERY_SECONDS


def _rule_out(ledger: Ledger[R], venue: Venue, order: R) -> bool:
    """End an order that the book lacks, where it is proved that nothing more comes of it."""
    if order.state == State.LATE:
        if ledger.has_ended(order):
            ledger.move(order, State.UNKNOWN, f"it came late, and {venue.name}'s book is gone")
        return False
    # A book may be empty for want of an answer, so the position, read apart from it, must agree.
    if ledger.has_ended(order) and ledger.explains(venue.positions(), order.instrument):
        proof = f"its session is over at {venue.name}, and the position is what is booked"
    elif not order.filled_quantity and venue.rule_out(order.tag, order.sent_at):
        proof = f"{venue.name} rules out that it ever arrives"
    else:
        if order.state == State.SUBMITTING:
            text = f"perhaps sent, not in {venue.name}'s book: no new order until it is known"
            ledger.move(order, State.UNKNOWN, text)
        return False
    was_there = order.filled_quantity or ledger.was_accepted(order)
    ledger.move(order, State.CANCELLED if was_there else State.NOT_PLACED, proof)
    return True


def _adopt(ledger: Ledger[R], order: R, found: BookOrder) -> bool:
    if _is_over(order, found):
        # With less than we had asked, too: the owner may have changed it, or the rest was refused.
        state = State.CANCELLED
        if found.state == "rejected" and not order.filled_quantity:
            state = State.REJECTED
        ledger.move(order, state, found.message or _ending(order, found))
        return True
    if order.state not in DOUBTFUL:
        return False
    # A filled one too: its fills move it on, and only they.
    state = State.PARTIAL if order.filled_quantity else State.ACKED
    ledger.move(order, state, "found in the venue's book")
    return True


def _is_over(order: Row, found: BookOrder) -> bool:
    """Return whether the venue is done with an order and all that filled of it is booked."""
    if found.state == "open" or order.state not in IN_FLIGHT:
        return False
    if found.state == "filled" and not order.filled_quantity:
        return False  # its fills are still to come
    return abs(found.filled_quantity) <= abs(order.filled_quantity)


def _ending(order: Row, found: BookOrder) -> str:
    filled, asked = abs(order.filled_quantity).normalize(), abs(order.quantity).normalize()
    if not filled:
        return ""
    return f"over at the venue ({found.state}) with {filled:f} of {asked:f}"


def _has_effect(found: BookOrder) -> bool:
    return found.state in ("open", "filled") or bool(found.filled_quantity)
