"""What every order must pass in the transaction that sends it. Pure: the ledger gives the numbers.

What reduces the position passes the limits on price and size, which are there against new risk;
nothing passes a halt, a doubtful order in its instrument, or the counts of orders. A person's word
to flatten passes a halt and a stop: it was fitted to what the account holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from bots.execution.netting import FLATTEN, ROLL_OPEN
from bots.execution.states import DOUBTFUL, State

ORDERS_A_SECOND = 8
"""Of an account, below the 10 at which the broker says no."""
ORDERS_A_MINUTE = 10
ORDERS_A_DAY = 100
"""More than a flip at every bar of every slot: a bot that reaches it is running away."""
REFUSALS_IN_A_ROW = 3
COLLAR = Decimal("0.03")
"""How far the price may have moved from the one it was decided at, before new risk is refused."""


class OrderRequest(Protocol):
    """An order as the limits see it."""

    @property
    def tag(self) -> str:
        """Return its name at the venue."""

    @property
    def bot(self) -> str:
        """Return whose it is."""

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
    def leg(self) -> str:
        """Return the part of the decision that it is."""

    @property
    def shares(self) -> Mapping[str, int]:
        """Return the lots of each slot in it."""

    @property
    def bar_closes_at(self) -> datetime:
        """Return the close of the bar that it was decided on."""

    @property
    def reference_price(self) -> Decimal:
        """Return the price that it was decided at."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much a bot may do."""

    lots: int
    """Of each slot, long or short."""
    notional: Decimal
    """Of all the bot holds, in the market's currency."""
    quantity: Decimal | None = None
    """Of all the bot holds, in units: what its slots may hold together."""
    orders_a_day: int = ORDERS_A_DAY
    orders_a_minute: int = ORDERS_A_MINUTE
    orders_a_second: int = ORDERS_A_SECOND
    collar: Decimal = COLLAR


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """Hold what the ledger says of an account, read under its lock."""

    halted: str
    """Why no order may leave, or nothing."""
    flattens: bool
    """A person has asked a halted bot to close what it holds."""
    reduces_only: bool
    stopped: Mapping[str, str]
    """Instruments that nobody may trade, each with its reason."""
    in_flight: Sequence[OrderRequest]
    """Of all the account's bots, those that may still change what is held."""
    lots: Mapping[str, int]
    """Of each of the bot's slots."""
    held: Decimal
    """The bot's quantity, in units."""
    sent_this_second: int
    """By the whole account."""
    sent_this_minute: int
    sent_today: int
    price: Decimal | None
    """What the venue shows of the order's instrument now."""
    owners: Decimal = Decimal(0)
    """What the owner holds of the order's instrument in the same account, in units."""
    margin: tuple[Decimal, Decimal] | None = None
    """What the order would bind and what is free, where the venue says so."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Say why an order must not leave."""

    reason: str
    is_loop: bool = False
    """The bot looks like one that runs away: a person must look."""
    is_told: bool = False
    """People must hear of it now: something is not as the ledger has it."""


def check(order: OrderRequest, standing: AccountSnapshot, limits: Limits) -> Refusal | None:
    """Return why an order must not go out, or None."""
    if standing.halted and not (standing.flattens and order.leg == FLATTEN):
        return Refusal(f"halted: {standing.halted}")
    if order.instrument in standing.stopped and order.leg != FLATTEN:
        return Refusal(f"{order.instrument} is stopped: {standing.stopped[order.instrument]}")
    if found := _too_many(standing, limits):
        return found
    siblings, waiting = _near(order, standing.in_flight)
    if waiting:
        return Refusal(waiting)
    if found := _slots_refused(order, siblings, standing, limits):
        return found
    held = standing.held + sum((each.quantity for each in siblings), Decimal(0))
    if _reduces(held, order.quantity) or not order.quantity:
        return None
    if order.leg == FLATTEN:
        return Refusal(f"the bot holds {held:+f}: {order.quantity:+f} does not close that")
    return _too_large(order, held, standing, limits)


def _slots_refused(
    order: OrderRequest, siblings: Sequence[OrderRequest], standing: AccountSnapshot, limits: Limits
) -> Refusal | None:
    """Return why one of the slots of an order must not trade its lots; none of them may be zero."""
    for slot, lots in order.shares.items():
        # The legs of a flip and of a roll go out together: each starts from what the other leaves.
        before = standing.lots.get(slot, 0) + sum(each.shares.get(slot, 0) for each in siblings)
        does_reduce = _reduces(Decimal(before), Decimal(lots)) or not lots
        if standing.reduces_only and order.leg != ROLL_OPEN and not does_reduce:
            return Refusal("the daily loss limit is reached: the bot may only reduce")
        if order.leg == FLATTEN and not does_reduce:
            return Refusal(f"{slot} holds {before} lots: {lots:+d} does not close them")
        if abs(before + lots) > limits.lots and not does_reduce:
            return Refusal(f"{slot} would hold {before + lots} lots, its limit is {limits.lots}")
    return None


def _near(order: OrderRequest, in_flight: Sequence[OrderRequest]) -> tuple[list[OrderRequest], str]:
    """Return the accepted legs of the same decision, and what must be settled before it goes on."""
    siblings = []
    for other in in_flight:
        if other.tag == order.tag:
            continue
        if other.bot != order.bot:
            if other.instrument == order.instrument and other.state in DOUBTFUL:
                return [], f"order {other.tag} of {other.bot} is {other.state}"
        elif other.state == State.ACKED and other.bar_closes_at == order.bar_closes_at:
            siblings.append(other)
        else:
            return [], f"order {other.tag} is {other.state}"
    return siblings, ""


def _too_many(standing: AccountSnapshot, limits: Limits) -> Refusal | None:
    if standing.sent_today >= limits.orders_a_day:
        return Refusal(f"{standing.sent_today} orders today are the most a bot may send", True)
    if standing.sent_this_minute >= limits.orders_a_minute:
        return Refusal(f"{standing.sent_this_minute} orders within one minute", True)
    if standing.sent_this_second >= limits.orders_a_second:
        return Refusal(f"{standing.sent_this_second} orders of the account within one second")
    return None


def _too_large(
    order: OrderRequest, held: Decimal, standing: AccountSnapshot, limits: Limits
) -> Refusal | None:
    price = standing.price or order.reference_price
    moved = abs(price / order.reference_price - 1) if order.reference_price else Decimal(0)
    if moved > limits.collar:
        return Refusal(
            f"{order.instrument} stands at {price:f}, {moved:.1%} from where it was decided at, "
            f"{order.reference_price:f}; the collar is {limits.collar:.0%}"
        )
    after = abs(held + order.quantity)
    if limits.quantity is not None and after > limits.quantity:
        return Refusal(f"the bot would hold {after:f}, its limit is {limits.quantity:f}")
    # A broker nets them: what the bot then holds would be there in the ledger only.
    if standing.owners * (held + order.quantity) < 0:
        return Refusal(
            f"the owner holds {standing.owners:+f} of {order.instrument} in the same account: "
            f"{order.quantity:+f} would only close that"
        )
    # One account, one risk: what the owner holds counts too.
    before = held + standing.owners
    worth = abs(before + order.quantity) * price
    if worth > limits.notional:
        whose = f"with the owner's {standing.owners:+f} it" if standing.owners else "the bot"
        return Refusal(f"{whose} would hold {worth:.0f}, its limit is {limits.notional:f}")
    if standing.margin is not None and standing.margin[0] > standing.margin[1]:
        needed, free = standing.margin
        return Refusal(f"it needs a margin of {needed:.0f}, and {free:.0f} is free")
    return None


def _reduces(held: Decimal, change: Decimal) -> bool:
    return held * change < 0 and abs(change) <= abs(held)
