"""What the accounts hold at their venues, beside what the bots hold in them: a netted number each.

A broker knows one position of an instrument, whoever traded it. Here it stands beside the bots' own
part, and what is left is the owner's, or nobody's whose difference is still open.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bots.models import AccountHolding, Discrepancy, Fill, Position
from markets.domain.calendar import Calendar
from markets.domain.instruments import BadInstrument, Instruments
from tradingsite import clock
from tradingsite.registry import Market

LOOK_IS_OLD = dt.timedelta(minutes=5)
ZERO = Decimal(0)
UNEXPLAINED, MOVING, UNSEEN = "unexplained", "moving", "unseen"


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One instrument of an account."""

    instrument: str
    net: Decimal
    """What the venue says, all products together."""
    bots: Decimal
    legs: Sequence[tuple[str, Decimal]]
    """By product, which do not close each other."""
    state: str = ""
    """Why the rest is nobody's yet: unexplained; moving, filled since the look; unseen, as the
    account has no row at all. "" where it is the owner's."""
    discrepancy: int | None = None

    @property
    def rest(self) -> Decimal:
        """Return what is not the bots'."""
        return self.net - self.bots


@dataclass(frozen=True, slots=True)
class VenueAccount:
    """One account as it was last seen."""

    market: Market
    venue: str
    rows: Sequence[HeldRow]
    others: int
    """Instruments of the owner's that no bot could trade."""
    seen_at: dt.datetime | None
    """None where it held nothing, or nobody has looked yet: an empty account leaves no row."""
    is_old: bool
    """Nobody has looked for minutes, though the market is open."""

    @property
    def title(self) -> str:
        """Return what it is called on the pages."""
        at = "on paper" if self.venue == "paper" else f"at {self.venue}"
        return f"{self.market.title} {at}"


def build(
    market: Market,
    calendar: Calendar,
    holdings: Iterable[AccountHolding],
    positions: Iterable[Position],
    discrepancies: Iterable[Discrepancy],
    fills: Iterable[Fill],
    now: dt.datetime,
    speed: float,
) -> list[VenueAccount]:
    """Return the accounts that a market's bots trade in, from rows that were read together.

    `discrepancies` are the open ones, `fills` the newest. The bots look by real time, so at a
    simulated market's speed a look is as much older.
    """
    instruments = Instruments(market.slug, calendar)
    seen: defaultdict[str, list[AccountHolding]] = defaultdict(list)
    held: defaultdict[str, list[Position]] = defaultdict(list)
    for row in holdings:
        seen[row.venue].append(row)
    for position in positions:
        held[position.venue].append(position)
    open_rows = {(row.venue, row.instrument): row.pk for row in discrepancies}
    newest = {fill.instrument: fill.at for fill in sorted(fills, key=lambda fill: fill.at)}
    is_open = calendar.is_open(clock.epoch(now))
    speed = max(speed, 1.0)
    return [
        _account(
            market,
            venue,
            [row for row in seen[venue] if _is_ours(instruments, row.instrument)],
            seen[venue],
            held[venue],
            {name: pk for (at, name), pk in open_rows.items() if at == venue},
            newest,
            is_open and _is_old(seen[venue], now, speed),
        )
        for venue in sorted({*seen, *held})
    ]


def _account(
    market: Market,
    venue: str,
    ours: Sequence[AccountHolding],
    seen: Sequence[AccountHolding],
    held: Sequence[Position],
    open_rows: Mapping[str, int],
    newest: Mapping[str, dt.datetime],
    is_old: bool,
) -> VenueAccount:
    """Return one account: a row for each instrument that it or one of its bots holds."""
    seen_at = min((row.seen_at for row in seen), default=None)
    names = {row.instrument for row in ours} | {row.instrument for row in held if row.quantity}
    rows = [
        _row(
            name,
            [row for row in ours if row.instrument == name],
            [row for row in held if row.instrument == name],
            open_rows.get(name),
            seen_at,
            newest.get(name),
        )
        for name in sorted(names)
    ]
    # What the owner holds there of other markets is counted and not shown.
    others = {row.instrument for row in seen} - {row.instrument for row in ours}
    return VenueAccount(market, venue, rows, len(others), seen_at, is_old)


def _is_old(seen: Sequence[AccountHolding], now: dt.datetime, speed: float) -> bool:
    """Return whether the account was last looked at too long ago to be believed."""
    seen_at = min((row.seen_at for row in seen), default=None)
    return seen_at is not None and now - seen_at > LOOK_IS_OLD * speed


def _row(
    name: str,
    seen: Sequence[AccountHolding],
    held: Sequence[Position],
    discrepancy: int | None,
    seen_at: dt.datetime | None,
    filled_at: dt.datetime | None,
) -> HeldRow:
    net = sum((row.quantity for row in seen), ZERO)
    bots = sum((row.quantity for row in held), ZERO)
    state = ""
    if discrepancy is not None:
        state = UNEXPLAINED
    elif seen_at is None:
        state = UNSEEN
    elif net != bots and filled_at is not None and filled_at > seen_at:
        state = MOVING
    legs = [(row.product, row.quantity) for row in seen if row.product]
    return HeldRow(name, net, bots, legs, state, discrepancy)


def _is_ours(instruments: Instruments, name: str) -> bool:
    try:
        instruments.parse(name)
    except BadInstrument:
        return False
    return True
