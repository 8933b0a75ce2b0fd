"""Which quotes are believed: what is stale, has no price, or has an absurd one, is quarantined.

A premium can multiply within a minute, and then its neighbours' do too; a wrong one stands alone.
So a price is held against three others: its own before, the middle of its own bid and ask, and what
the strikes beside it leave room for, since premiums rise or fall from strike to strike. It is
absurd where it is far from the median of those there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from markets.venues.base import MarketQuote, VenueInstrument

# A venue's own time of a quote may lie this far back from the minute it is stored for: an index is
# computed every second, a far strike may see no order for minutes.
STALE_SECONDS = {"INDEX": 90.0}
STALE_OPTION_SECONDS = 300.0
# Beyond these times the median of what it is held against, and this many rupees.
ABSURD_TIMES = 5.0
ABSURD_RUPEES = 4.0
# The exchange halts at 20 %.
ABSURD_INDEX_TIMES = 1.25
# What the columns hold.
LARGEST_INT4, LARGEST_INT2 = 2**31 - 1, 2**15 - 1


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold the quotes that are believed, and the reasons of those that are not, by name."""

    good: dict[str, MarketQuote]
    bad: dict[str, str]


def judge(
    quotes: Mapping[str, MarketQuote],
    listed: Mapping[str, VenueInstrument],
    minute: float,
    before: Mapping[str, float],
) -> Judged:
    """Return which quotes are believed at a minute, in epoch seconds.

    `before` are the last prices that were believed. Every quote's instrument is in `listed`.
    """
    bad: dict[str, str] = {}
    for name, quote in quotes.items():
        if reason := _by_itself(quote, listed[name], minute):
            bad[name] = reason
    plain = {name: float(quote.last) for name, quote in quotes.items() if name not in bad}
    beside = _neighbours(plain, listed)
    for name, price in plain.items():
        if reason := _against_others(price, quotes[name], listed[name], before, beside):
            bad[name] = reason
    return Judged({name: quote for name, quote in quotes.items() if name not in bad}, bad)


def _by_itself(quote: MarketQuote, listed: VenueInstrument, minute: float) -> str:
    age = minute - quote.at.timestamp()
    if age > STALE_SECONDS.get(listed.kind, STALE_OPTION_SECONDS):
        return f"stale: the venue's own time is {age:.0f} s before the minute"
    if abs(age) > LARGEST_INT2:
        return "the venue's own time is hours after the minute"
    if not quote.last.is_finite() or quote.last <= 0:
        return f"no price: the last is {quote.last}"
    if quote.bid < 0 or quote.ask < 0 or 0 < quote.ask < quote.bid:
        return f"crossed: bid {quote.bid:f}, ask {quote.ask:f}"
    if max(quote.last, quote.bid, quote.ask) * 100 > LARGEST_INT4:
        return f"absurd: {quote.last:f} is more than can be stored"
    if not 0 <= quote.interest <= LARGEST_INT4 or quote.volume < 0:
        return f"absurd: an open interest of {quote.interest:f}, a volume of {quote.volume:f}"
    return ""


def _against_others(
    price: float,
    quote: MarketQuote,
    listed: VenueInstrument,
    before: Mapping[str, float],
    beside: Mapping[str, tuple[float, float]],
) -> str:
    own = before.get(listed.name)
    if listed.kind == "INDEX":
        if own and not 1.0 / ABSURD_INDEX_TIMES <= price / own <= ABSURD_INDEX_TIMES:
            return f"absurd: {price:g} after {own:g}"
        return ""
    middle = float(quote.bid + quote.ask) / 2.0 if quote.bid > 0 and quote.ask > 0 else None
    low, high = beside.get(listed.name, (0.0, 0.0))
    others = [each for each in (own, middle, min(max(price, low), high)) if each]
    if not others:
        return ""
    # Of two the one that speaks for the price.
    fair = sorted(others, key=lambda each: abs(each - price) if len(others) == 2 else each)[
        len(others) // 3
    ]
    if max(price, fair) > min(price, fair) * ABSURD_TIMES + ABSURD_RUPEES:
        return f"absurd: {price:g} where {fair:g} is usual"
    return ""


def _neighbours(
    prices: Mapping[str, float], listed: Mapping[str, VenueInstrument]
) -> dict[str, tuple[float, float]]:
    """Return the lower and the higher price of the strikes beside each option's."""
    series: defaultdict[tuple[object, ...], list[tuple[float, str]]] = defaultdict(list)
    for name in prices:
        row = listed[name]
        if row.kind != "INDEX":
            series[row.underlying, row.expiry, row.kind].append((float(row.strike), name))
    found: dict[str, tuple[float, float]] = {}
    for strikes in series.values():
        names = [name for _, name in sorted(strikes)]
        for below, name, above in zip(names, names[1:], names[2:], strict=False):
            low, high = sorted((prices[below], prices[above]))
            found[name] = low, high
    return found
