"""Bars that the calendar expects and that are not there: found, written down, and filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from django.db import connections

from markets import store
from markets.domain.bar_rule import Span, expected, spans
from markets.domain.bars import IntArray
from markets.models import Bar, BarGap
from tradingsite import clock
from tradingsite.clock import Epoch

REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Report:
    """Say how whole a timeframe's bars are, from the first stored one to now."""

    timeframe: str
    first: Epoch | None
    """When the first stored bar opened; None where there is none."""
    stored: int
    expected: int
    spans: list[Span]
    reasons: dict[Epoch, str]
    """What was written down of a missing bar, by its open."""

    @property
    def missing(self) -> int:
        """Return how many bars are missing."""
        return sum(span.bars for span in self.spans)


def missing(
    market: str, timeframe: str, start: Epoch, end: Epoch
) -> tuple[IntArray, IntArray, IntArray]:
    """Return all opens the calendar expects to close in (start, end], those missing, their closes.

    Nothing is expected before the first stored bar.
    """
    opens, closes = expected(store.load_calendar(market), timeframe, start, end)
    stored = Bar.on(market).objects.filter(timeframe=timeframe)
    first = stored.order_by("opens_at").values_list("opens_at", flat=True).first()
    if first is None or not len(opens):
        return opens[:0], opens[:0], closes[:0]
    begun = opens >= clock.epoch(first)
    opens, closes = opens[begun], closes[begun]
    inside = stored.order_by().filter(closes_at__gt=clock.from_seconds(start))
    found = [clock.epoch(each) for each in inside.values_list("opens_at", flat=True)]
    absent = ~np.isin(opens, found)
    return opens, opens[absent], closes[absent]


def report(market: str, timeframe: str) -> Report:
    """Return what is missing of a timeframe up to now."""
    stored = Bar.on(market).objects.filter(timeframe=timeframe).order_by("opens_at")
    first = stored.values_list("opens_at", flat=True).first()
    noted = {
        clock.epoch(row.opens_at): row.reason
        for row in BarGap.on(market).objects.filter(timeframe=timeframe, filled_at=None)
    }
    if first is None:
        return Report(timeframe, None, 0, 0, [], noted)
    start = clock.epoch(first)
    opens, absent, _ = missing(market, timeframe, start, clock.market_epoch())
    return Report(timeframe, start, stored.count(), len(opens), spans(opens, absent), noted)


def record(market: str, timeframe: str, opens: IntArray, reason: str) -> int:
    """Write down missing bars; return how many had not been. One known keeps its first reason."""
    rows = [
        BarGap.on(market)(
            timeframe=timeframe,
            opens_at=clock.from_seconds(opens_at),
            found_at=clock.market(),
            reason=reason[:REASON_CHARACTERS],
        )
        for opens_at in opens.tolist()
    ]
    before = BarGap.on(market).objects.count()
    BarGap.on(market).objects.bulk_create(rows, ignore_conflicts=True)
    return BarGap.on(market).objects.count() - before


def mark_filled(market: str) -> int:
    """Mark the gaps whose bars have come; return how many."""
    gap, bar = BarGap._meta.db_table, Bar._meta.db_table
    with connections[market].cursor() as cursor:
        cursor.execute(
            f"UPDATE {gap} SET filled_at = %s FROM {bar} WHERE {gap}.filled_at IS NULL "  # noqa: S608
            f"AND {bar}.timeframe = {gap}.timeframe AND {bar}.opens_at = {gap}.opens_at",
            [clock.market()],
        )
        return int(cursor.rowcount)


def count_noted(market: str, timeframe: str, opens: IntArray) -> int:
    """Return how many of some missing bars have been written down."""
    first, last = (clock.from_seconds(int(opens[row])) for row in (0, -1))
    rows = BarGap.on(market).objects.filter(timeframe=timeframe, opens_at__range=(first, last))
    noted = [clock.epoch(each) for each in rows.values_list("opens_at", flat=True)]
    return int(np.isin(opens, noted).sum())
