"""The ledger held against the simulated venues' own books: what is there twice, lost or stuck."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

STUCK_SECONDS = 90.0


def problems() -> list[str]:
    """Return what is wrong, in words; nothing where all is well."""
    return [*_orders("nifty", _kite_tags()), *_orders("btc", _exchange_tags()), *_decisions()]


def count() -> dict[str, int]:
    """Return how many orders each ledger holds, and how many bars were decided."""
    from bots.models import Decision, Order

    found = {market: Order.on(market).objects.count() for market in ("nifty", "btc")}
    decided = sum(Decision.on(market).objects.count() for market in ("nifty", "btc"))
    return {**found, "decisions": decided}


def _orders(market: str, there: Counter[str]) -> Iterator[str]:
    from bots.execution.states import IN_FLIGHT
    from bots.models import Discrepancy, Order
    from tradingsite import clock

    # The personal bot trades on paper, which has a book of its own.
    rows = {row.tag: row for row in Order.on(market).objects.exclude(bot="personal")}
    for tag, times in there.items():
        if times > 1:
            yield f"{market}: {tag} is {times} orders at the venue"
        if tag not in rows:
            yield f"{market}: the venue has {tag}, the ledger has not"
    sent = {"acked", "partial", "filled"}
    for tag, row in rows.items():
        # One that was crossed inside the bot was never sent.
        if row.sent_at and row.state in sent and tag not in there and market == "btc":
            yield f"{market}: the ledger says {row.state} of {tag}, the venue knows nothing of it"
        age = (clock.real() - row.created_at).total_seconds()
        if row.state in IN_FLIGHT and age > STUCK_SECONDS and row.sent_at:
            age = (clock.real() - row.sent_at).total_seconds()
            if age > STUCK_SECONDS:
                yield f"{market}: {tag} is {row.state} since {age:.0f} s"
    open_ones = Discrepancy.on(market).objects.filter(closed_at=None).exclude(venue="paper")
    yield from (f"{market}: {each}" for each in open_ones)


def _decisions() -> Iterator[str]:
    from django.db.models import Count

    from bots.models import Decision

    for market in ("nifty", "btc"):
        grouped = Decision.on(market).objects.values("slot", "bar_closes_at")
        for row in grouped.annotate(times=Count("id")).filter(times__gt=1):
            yield f"{market}: {row['slot']} decided {row['bar_closes_at']} {row['times']} times"


def _kite_tags() -> Counter[str]:
    from django.conf import settings

    from markets.venues.kite.rows import OUR_TAG

    orders = _truth(f"{settings.KITE_ROOT}/_sim/kite")["orders"]
    tags = (str(order.get("tag") or "") for order in orders)
    return Counter(tag for tag in tags if OUR_TAG.fullmatch(tag))


def _exchange_tags() -> Counter[str]:
    from django.conf import settings

    from markets.venues.ccxt.client import tag_of

    truth = _truth(f"{settings.EXCHANGE_URL}/_sim/exchange")
    found = {
        (str(order["cloid"]), str(order["oid"]))
        for account in truth["accounts"].values()
        for order in account["orders"]
        if order.get("cloid")
    }
    return Counter(tag for cloid, _ in found if (tag := tag_of(cloid)))


def _truth(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own simulator
        return json.load(answer)
