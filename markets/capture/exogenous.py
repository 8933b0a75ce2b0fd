"""Collect the exogenous series: India VIX at each close, and what funding cost.

A reading is upserted: asked for again it changes nothing, and a corrected one replaces the old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from markets import store
from markets.capture.bars import polling
from markets.capture.bars import sources as bar_sources
from markets.capture.bars.due import FRESH_SECONDS, OFTEN_MINUTES
from markets.capture.bars.polling import BarRequest
from markets.domain.exogenous import FUNDING as FUNDING_NAME
from markets.domain.exogenous import LONGEST_INTERVAL_SECONDS, SERIES_OF
from markets.domain.expected_bars import newest
from markets.models import Reading, Source
from tradingsite import bulk, clock
from tradingsite.clock import Epoch

FIRST_DAYS = 30
"""How far back the first readings reach; `manage.py bars backfill` reaches further."""
FUNDING_WAIT_SECONDS = 60
PLACES = Decimal("1e-10")

Rows = Sequence[tuple[int, Decimal]]


@dataclass(frozen=True, slots=True)
class Series:
    """Name a series, the market whose database holds it, and for closes their timeframe."""

    name: str
    market: str
    timeframe: str = ""


VIX = tuple(
    Series(f"{bar_sources.VOLATILITY} {timeframe}", "nifty", timeframe)
    for timeframe in ("15m", "1h", "1d")
)
FUNDING = Series(FUNDING_NAME, "btc")
ALL = (*VIX, FUNDING)


def of_market(market: str) -> list[Series]:
    """Return the series that a market's database holds."""
    return [series for series in ALL if series.market == market]


def due(series: Series, at: Epoch) -> int | None:
    """Return from when on readings are to be fetched now, in epoch seconds; None for not now."""
    last = last_at(series)
    # The last day again, for what the venue has corrected since.
    start = at - FIRST_DAYS * 86_400 if last is None else last - 86_400
    expected_at = _expected(series, last, at)
    if expected_at is None or (last is not None and last >= expected_at):
        return None
    is_time = at - expected_at < FRESH_SECONDS or at // 60 % OFTEN_MINUTES == 0
    return start if is_time else None


def fetch(series: Series, start: Epoch, end: Epoch) -> list[tuple[int, Decimal]]:
    """Return the readings in (start, end] as the venue has them; raises Retry and Degraded."""
    if series == FUNDING:
        return bar_sources.exchange().funding(start + 1, end + 1)
    calendar = store.load_calendar(series.market)
    # A day earlier, for a bar that closes after the start may open before it.
    request = BarRequest(bar_sources.VOLATILITY, series.timeframe, start - 86_400, end, start)
    bars = polling.fetch(bar_sources.venue_of(series.market), calendar, request)
    return [
        (closes_at, Decimal(repr(close)))
        for closes_at, close in zip(bars.closes_at.tolist(), bars.close.tolist(), strict=True)
        if start < closes_at <= end
    ]


def upsert(series: Series, rows: Rows, source: str) -> int:
    """Store readings and what follows from them; return how many are new or changed.

    A venue's reading gives way to a venue's only. Raises WrongSource where the market's bars are
    generated and the readings are not, or the other way round.
    """
    if not rows:
        return 0
    values = [(clock.from_seconds(at), value.quantize(PLACES)) for at, value in rows]
    with transaction.atomic(using=series.market):
        _require_source(series.market, source)
        counts = bulk.upsert(
            series.market,
            Reading._meta.db_table,
            ("at", "value"),
            values,
            ("series", "at"),
            constants={"series": series.name, "source": source},
            where=f"excluded.source = '{Source.VENUE}' OR stored.source <> '{Source.VENUE}'",
            lowest="at",
        )
        if counts.lowest and series.name in SERIES_OF[series.market]:
            # A row of features that knew of the old reading is computed again.
            store.recompute_features_after(series.market, clock.epoch(counts.lowest))
    return counts.written


def is_of_same_world(market: str, source: str) -> bool:
    """Return whether readings of a source are of the world that a market's bars are of."""
    others = store.sources(market) - {source}
    return not others or Source.GENERATED not in {source, *others}


def _require_source(market: str, source: str) -> None:
    store.lock_bars(market)
    if not is_of_same_world(market, source):
        raise store.WrongSource(
            f"{market} holds {' and '.join(sorted(store.sources(market)))} bars, and {source} "
            f"readings are of another world than those."
        )


def last_at(series: Series) -> Epoch | None:
    """Return when the newest reading is of."""
    rows = _times(series)[:1]
    return clock.epoch(rows[0]) if rows else None


def interval(series: Series) -> int:
    """Return the seconds between the last two readings, as long as it ever is where unknown."""
    rows = _times(series)[:2]
    if len(rows) < 2:
        return LONGEST_INTERVAL_SECONDS
    return int((rows[0] - rows[1]).total_seconds())


def _times(series: Series) -> QuerySet[Any]:
    rows = Reading.on(series.market).objects.filter(series=series.name).order_by("-at")
    return rows.values_list("at", flat=True)


def _expected(series: Series, last: Epoch | None, at: Epoch) -> int | None:
    """Return the instant of the newest reading there should be."""
    if series == FUNDING:
        length = interval(series)
        if last is None:
            return at
        paid = (at - last - FUNDING_WAIT_SECONDS) // length
        return last + paid * length if paid > 0 else last
    found = newest(store.load_calendar(series.market), series.timeframe, at)
    return found[1] if found else None
