"""From what each slot wants to the fewest orders: one net order an instrument, two for a flip.

Pure. Every leg says how many lots of it belong to which slot, so that the slots' sleeves add up
to the order exactly. Slots that trade against each other meet inside the leg, at its price; where
nothing is left over the leg's net is zero and no order goes out (the sleeves cross).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

OPEN, CLOSE, CROSS = "open", "close", "cross"
ROLL_CLOSE, ROLL_OPEN = "roll-close", "roll-open"
FLATTEN = "flatten"
"""Closes all that a halted bot holds, at a person's word."""
LEAVE = "leave"
"""Closes all that is held before the venue does so itself."""
EXITS = frozenset({CLOSE, ROLL_CLOSE, FLATTEN, LEAVE})
"""Legs that only make the bot's position smaller."""
BY_VENUE, BY_OWNER = "by_venue", "by_owner"
"""What a bot held was closed for it: booked as it happened, never sent."""


@dataclass(frozen=True, slots=True)
class Target:
    """Say what a slot holds, of which instrument, and what it wants to hold of the front one."""

    slot: str
    instrument: str
    lots: int
    target_lots: int


@dataclass(frozen=True, slots=True)
class Leg:
    """Describe one order: whole lots of each slot, zero only to close less than a lot."""

    name: str
    instrument: str
    shares: Mapping[str, int]

    @property
    def lots(self) -> int:
        """Return the order's net lots; zero where the slots only trade with each other."""
        return sum(self.shares.values())


def plan(targets: Sequence[Target], front: str) -> list[Leg]:
    """Return the legs that take the slots to their targets, in the order they must be sent.

    What is held of another instrument than the front one is closed whole and opened anew.
    """
    legs = []
    rolled = {each.slot for each in targets if each.lots and each.instrument != front}
    for old in sorted({each.instrument for each in targets if each.slot in rolled}):
        held = {
            each.slot: -each.lots
            for each in targets
            if each.slot in rolled and each.instrument == old
        }
        legs.append(Leg(ROLL_CLOSE, old, held))
    before = {each.slot: 0 if each.slot in rolled else each.lots for each in targets}
    wanted = {each.slot: each.target_lots for each in targets}
    return legs + [
        replace(leg, name=ROLL_OPEN) if leg.name != CLOSE and rolled & leg.shares.keys() else leg
        for leg in _front_legs(before, wanted, front)
    ]


def flatten(held: Iterable[tuple[str, str, int]], name: str = FLATTEN) -> list[Leg]:
    """Return the legs that close what slots hold, given as slot, instrument and lots.

    A slot that holds less than a lot is among them with none.
    """
    closing: dict[str, dict[str, int]] = {}
    for slot, instrument, lots in held:
        closing.setdefault(instrument, {})[slot] = -lots
    return [Leg(name, instrument, shares) for instrument, shares in sorted(closing.items())]


def portions(
    shares: Mapping[str, int], rests: Mapping[str, Decimal], lot_size: Decimal
) -> dict[str, Decimal]:
    """Return what each slot trades in an order, in units: its lots, and away what it had beyond."""
    return {slot: lots * lot_size - rests.get(slot, Decimal(0)) for slot, lots in shares.items()}


def in_lots(
    parts: Mapping[str, Decimal], lot_size: Decimal
) -> tuple[dict[str, int], dict[str, Decimal]]:
    """Return the whole lots of each slot's portion, and what keeps it from being only those."""
    shares = {slot: int(part / lot_size) for slot, part in parts.items()}
    rests = {slot: shares[slot] * lot_size - part for slot, part in parts.items()}
    return shares, {slot: rest for slot, rest in rests.items() if rest}


def cut(parts: Mapping[str, Decimal], most: Decimal) -> dict[str, Decimal]:
    """Return the portions with their net cut to a size, from the last slots on.

    Slots that trade against the others keep what they trade: it is met inside the order.
    """
    over = abs(sum(parts.values(), Decimal(0))) - most
    side = 1 if sum(parts.values()) > 0 else -1
    left = dict(parts)
    for slot in reversed(list(left)):
        if over > 0 and left[slot] * side > 0:
            taken = min(abs(left[slot]), over)
            left[slot] -= side * taken
            over -= taken
    return left


def sliced(leg: Leg, most_lots: int) -> list[Leg]:
    """Part a leg into as few as the venue takes, none of more net lots than `most_lots`.

    Slots that trade against the others meet them in the first part.
    """
    left = leg.lots
    if abs(left) <= most_lots:
        return [leg]
    side = 1 if left > 0 else -1
    parts: list[Leg] = []
    against = {slot: lots for slot, lots in leg.shares.items() if lots * side <= 0}
    waiting = dict(_with_side(leg.shares.items(), side))
    while waiting:
        room = most_lots + (abs(sum(against.values())) if not parts else 0)
        shares = dict(against) if not parts else {}
        for slot, lots in list(waiting.items()):
            taken = min(abs(lots), room)
            room -= taken
            if taken:
                shares[slot] = taken * side
            if taken == abs(lots):
                del waiting[slot]
            else:
                waiting[slot] = lots - taken * side
        parts.append(Leg(leg.name, leg.instrument, shares))
    return parts


def _front_legs(held: Mapping[str, int], wanted: Mapping[str, int], front: str) -> list[Leg]:
    changes = {slot: wanted[slot] - lots for slot, lots in held.items() if wanted[slot] != lots}
    if not changes:
        return []
    before, after = sum(held.values()), sum(wanted.values())
    if before * after < 0:
        closing, opening = _parted(changes, -before)
        return [Leg(CLOSE, front, closing), Leg(OPEN, front, opening)]
    if before == after:
        return [Leg(CROSS, front, changes)]
    return [Leg(OPEN if abs(after) > abs(before) else CLOSE, front, changes)]


def _parted(changes: Mapping[str, int], closing_lots: int) -> tuple[dict[str, int], dict[str, int]]:
    """Part the changes of a flip into those that close the net position and those that open."""
    side = 1 if closing_lots > 0 else -1
    # Those who trade against the flip do so in the closing leg, met by more of the others.
    closing = {slot: lots for slot, lots in changes.items() if lots * side < 0}
    missing = abs(closing_lots) + abs(sum(closing.values()))
    opening: dict[str, int] = {}
    for slot, lots in _with_side(changes.items(), side):
        first = min(abs(lots), missing)
        missing -= first
        if first:
            closing[slot] = first * side
        if abs(lots) > first:
            opening[slot] = lots - first * side
    return closing, opening


def _with_side(changes: Iterable[tuple[str, int]], side: int) -> Iterable[tuple[str, int]]:
    return ((slot, lots) for slot, lots in changes if lots * side > 0)
