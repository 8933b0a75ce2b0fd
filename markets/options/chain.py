"""Which instruments the collector wants: strikes round the money of the nearest expiries.

What is listed decides: expiries are dates of the venue's list, never computed, and the strikes
round the money are the listed ones nearest to the spot. What was wanted once is wanted all day, so
a series has no holes where the spot went away and came back; as the spot moves on, new strikes join
until two calls of quotes are full, and then the furthest from the money leave.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markets.venues.base import VenueInstrument

OPTION_KINDS = ("CE", "PE")
# Two calls of 500.
MOST = 1_000
WITH_MONTH_FROM = 3


@dataclass(frozen=True, slots=True)
class Chain:
    """Say how much of an underlying's options is wanted."""

    underlying: str
    expiries: int
    """The nearest ones that are listed, today's included; the last is the month's where the month's
    last expiry would be left out."""
    strikes_each_side: int
    """Of the strike nearest to the spot."""


# 408, 164 and 156 options.
CHAINS = (Chain("NIFTY", 4, 25), Chain("BANKNIFTY", 2, 20), Chain("SENSEX", 2, 19))


def indices(chains: Sequence[Chain] = CHAINS) -> tuple[str, ...]:
    """Return the desk's names of the indices whose spot decides."""
    return tuple(chain.underlying for chain in chains)


def wanted(
    listed: Iterable[VenueInstrument],
    spots: Mapping[str, float],
    today: dt.date,
    already: Collection[str] = (),
    chains: Sequence[Chain] = CHAINS,
    most: int = MOST,
) -> list[VenueInstrument]:
    """Return what to ask quotes of: the indices, then the options, nearest to the money first.

    `already` are the names wanted before on this day; those that are listed no longer are left out.
    An underlying without a spot has only what was wanted before.
    """
    rows = list(listed)
    names = set(indices(chains))
    found = [row for row in rows if row.kind == "INDEX" and row.name in names]
    ranked: list[tuple[float, str, VenueInstrument]] = []
    for chain in chains:
        options = _live(rows, chain.underlying, today)
        spot = spots.get(chain.underlying, 0.0)
        fresh = _round_the_money(options, chain, spot) if spot > 0.0 else set()
        for row in options:
            if row.name in fresh or row.name in already:
                distance = abs(float(row.strike) / spot - 1.0) if spot > 0.0 else 0.0
                # What is round the money now goes before what was.
                ranked.append((distance if row.name in fresh else 1.0 + distance, row.name, row))
    ranked.sort(key=lambda each: each[:2])
    return found + [row for _, _, row in ranked[: most - len(found)]]


def _live(
    rows: Iterable[VenueInstrument], underlying: str, today: dt.date
) -> list[VenueInstrument]:
    return [
        row
        for row in rows
        if row.underlying == underlying
        and row.kind in OPTION_KINDS
        and row.expiry is not None
        and row.expiry >= today
    ]


def _round_the_money(options: Sequence[VenueInstrument], chain: Chain, spot: float) -> set[str]:
    by_expiry: defaultdict[dt.date, list[VenueInstrument]] = defaultdict(list)
    for row in options:
        if row.expiry is not None:
            by_expiry[row.expiry].append(row)
    found: set[str] = set()
    for expiry in _nearest(sorted(by_expiry), chain.expiries):
        strikes = sorted({row.strike for row in by_expiry[expiry]})
        at = min(range(len(strikes)), key=lambda place: abs(float(strikes[place]) - spot))
        side = chain.strikes_each_side
        near = set(strikes[max(at - side, 0) : at + side + 1])
        found |= {row.name for row in by_expiry[expiry] if row.strike in near}
    return found


def _nearest(expiries: Sequence[dt.date], count: int) -> list[dt.date]:
    """Return the nearest expiries, with the last of the nearest's month among them from three on.

    A month can have five of them, and its last is traded more than those before it.
    """
    chosen = list(expiries[:count])
    if count >= WITH_MONTH_FROM and chosen:
        month = chosen[0].replace(day=1)
        last = max(expiry for expiry in expiries if expiry.replace(day=1) == month)
        if last not in chosen:
            chosen[-1] = last
    return chosen
