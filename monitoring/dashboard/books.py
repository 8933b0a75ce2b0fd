"""Read one market's database for the overview: few queries, nothing written, times as they are.

A market whose database does not answer gives a book with an `error`, so that the page can still
show the others and say which one is missing.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from typing import Any

from django.core.cache import cache
from django.db import InterfaceError, OperationalError, connections
from django.db.models import Count, Q, QuerySet

from bots.models import (
    AccountHolding,
    Discrepancy,
    Fill,
    Order,
    PnlSnapshot,
    Position,
    RiskState,
)
from markets import freshness
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar
from markets.freshness import Datum, NewestBar
from markets.models import Bar, Quote, TradingDay
from tradingsite import clock
from tradingsite.registry import SLOTS, Market

# The page needs the sessions round now only; the whole calendar is thousands of rows.
CALENDAR_BACK = dt.timedelta(days=12)
CALENDAR_AHEAD = dt.timedelta(days=20)
PAST_KEPT_SECONDS = 30
TRADES_SHOWN = 4
DOES_NOT_ANSWER = (OperationalError, InterfaceError)
HOURLY_FOR = dt.timedelta(days=7)

# DISTINCT ON an expression, which the ORM cannot say.
_PAST_MARKS = f"""
    SELECT DISTINCT ON (slot, bucket) slot, at, equity, charges
    FROM (
        SELECT *, date_trunc(CASE WHEN at < %(week)s THEN 'day' ELSE 'hour' END,
                             at AT TIME ZONE 'Asia/Kolkata') AS bucket
        FROM {PnlSnapshot._meta.db_table}
        WHERE at < %(until)s
    ) AS marks
    ORDER BY slot, bucket, at DESC
"""  # noqa: S608

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """A slot's equity and charges since its start, at one closed bar."""

    slot: str
    at: dt.datetime
    equity: Decimal
    charges: Decimal


@dataclass(slots=True)
class Book:
    """What the page shows of one market; `today` and `opening` split at IST midnight."""

    market: Market
    calendar: Calendar
    date: dt.date
    error: str = ""
    positions: dict[str, Position] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    """Last prices by instrument: the market's lasting name and the contracts in use."""
    opening: dict[str, Mark] = field(default_factory=dict)
    past: list[Mark] = field(default_factory=list)
    """Marks before today, thinned out."""
    today: list[Mark] = field(default_factory=list)
    latest_fills: list[Fill] = field(default_factory=list)
    fills_today: dict[str, int] = field(default_factory=dict)
    risk: dict[str, RiskState] = field(default_factory=dict)
    unknown_orders: int = 0
    holdings: list[AccountHolding] = field(default_factory=list)
    """What the market's accounts held at their last look."""
    discrepancies: list[Discrepancy] = field(default_factory=list)
    """Those that are open."""
    bars: dict[str, NewestBar] = field(default_factory=dict)
    beside: dict[str, Datum | None] = field(default_factory=dict)
    """How the streams beside the bars stand, by title."""

    @property
    def quote(self) -> Quote | None:
        """Return the last price under the market's lasting name."""
        return self.quotes.get(self.market.instrument)

    @property
    def slots(self) -> list[str]:
        """Return the slugs of the slots that trade this market."""
        return slots_of(self.market)

    @property
    def is_generated(self) -> bool:
        """Return whether the newest bars of any timeframe come from the generator."""
        return any(bar.source == "generated" for bar in self.bars.values())


def slots_of(market: Market) -> list[str]:
    """Return the slugs of a market's slots."""
    return [slot.slug for slot in SLOTS.values() if slot.market == market.slug]


def read(market: Market, day_starts_at: dt.datetime, now: dt.datetime) -> Book:
    """Return the book of a market for the trading date that began at `day_starts_at`."""
    calendar = NseCalendar([]) if market.calendar == "NSE" else CryptoCalendar()
    book = Book(market, calendar, clock.trading_date(now))
    try:
        _fill(book, day_starts_at, now)
    except DOES_NOT_ANSWER as error:
        log.warning("the %s database does not answer: %s", market.slug, error)
        # What was read before the failure is dropped: half a book adds up to wrong sums.
        words = f"the {market.slug} database does not answer"
        return Book(market, calendar, book.date, error=words)
    return book


def _fill(book: Book, day_starts_at: dt.datetime, now: dt.datetime) -> None:
    alias = book.market.slug
    # Asked first: a database that is down fails here, before anything is half filled.
    book.positions = {row.slot: row for row in Position.on(alias).objects.all()}
    book.quotes = {row.instrument: row for row in Quote.on(alias).objects.all()}
    book.opening = {mark.slot: mark for mark in _last_before(book.market, day_starts_at)}
    book.past = _past(book.market, day_starts_at)
    book.today = _marks(PnlSnapshot.on(alias).objects.filter(at__gte=day_starts_at))
    book.fills_today = dict(
        Fill.on(alias)
        .objects.filter(at__gte=day_starts_at)
        .order_by()
        .values_list("bot")
        .annotate(Count("id"))
    )
    newest = Fill.on(alias).objects.select_related("order").order_by("-at", "-id")
    book.latest_fills = list(newest[:TRADES_SHOWN])
    book.risk = {row.bot: row for row in RiskState.on(alias).objects.all()}
    book.unknown_orders = Order.on(alias).objects.filter(state=Order.State.UNKNOWN).count()
    book.holdings = list(AccountHolding.on(alias).objects.all())
    book.discrepancies = list(Discrepancy.on(alias).objects.filter(closed_at=None))
    book.bars = {bar.timeframe: bar for bar in _newest_bars(book.market)}
    if book.market.calendar == "NSE":
        book.calendar = calendar_round(alias, now)
    book.beside = freshness.exogenous(book.market, book.calendar, now)


def past_marks(market: Market, day_starts_at: dt.datetime) -> list[Mark]:
    """Return the marks before a day: the last of each hour of a week, of each day before that."""
    with connections[market.slug].cursor() as cursor:
        cursor.execute(_PAST_MARKS, {"until": day_starts_at, "week": day_starts_at - HOURLY_FOR})
        marks = [Mark(*row) for row in cursor.fetchall()]
    return sorted(marks, key=lambda mark: mark.at)


def _past(market: Market, day_starts_at: dt.datetime) -> list[Mark]:
    # What happened before today does not change while it is today, and is the longest query.
    key = f"past:{market.slug}:{day_starts_at:%Y-%m-%d}"
    marks: list[Mark] | None = cache.get(key)
    if marks is None:
        marks = past_marks(market, day_starts_at)
        cache.set(key, marks, PAST_KEPT_SECONDS)
    return marks


def by_bot(marks: Iterable[Mark]) -> dict[str, list[Mark]]:
    """Return the marks of each bot's slots, in the order given."""
    found: defaultdict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        if mark.slot in SLOTS:
            found[SLOTS[mark.slot].bot].append(mark)
    return dict(found)


def _last_before(market: Market, at: dt.datetime) -> list[Mark]:
    # One index look-up per slot; DISTINCT ON would read every snapshot ever made.
    rows = PnlSnapshot.on(market.slug).objects.filter(at__lt=at)
    return _marks(_union([rows.filter(slot=slot).order_by("-at")[:1] for slot in slots_of(market)]))


def _newest_bars(market: Market) -> list[NewestBar]:
    rows = Bar.on(market.slug).objects.order_by("-opens_at")
    newest = _union([rows.filter(timeframe=timeframe)[:1] for timeframe in market.timeframes])
    found = [
        NewestBar(*row)
        for row in newest.values_list("timeframe", "opens_at", "closes_at", "source")
    ]
    if not found:
        return []
    # Counted once a bar, and again after a while for what a repair has brought.
    key = f"bars:{market.slug}:{max(bar.closes_at for bar in found):%Y%m%d%H%M}"
    counts: dict[str, tuple[int, int]] | None = cache.get(key)
    if counts is None:
        counts = {row[0]: row[1:] for row in _union([_counts(market, bar) for bar in found])}
        cache.set(key, counts, PAST_KEPT_SECONDS)
    return [replace(bar, of_day=_of_day(*counts.get(bar.timeframe, (0, 0)))) for bar in found]


def _counts(market: Market, bar: NewestBar) -> QuerySet[Any]:
    """Return how many bars there are of the newest one's day, and of some days before it."""
    begins = freshness.day_begins(clock.trading_date(bar.opens_at))
    near = Bar.on(market.slug).objects.filter(
        timeframe=bar.timeframe, closes_at__gt=begins - CALENDAR_BACK
    )
    return (
        near.order_by()
        .values("timeframe")
        .annotate(
            of_day=Count("id", filter=Q(closes_at__gt=begins)),
            before=Count("id", filter=Q(closes_at__lte=begins)),
        )
        .values_list("timeframe", "of_day", "before")
    )


def _of_day(of_day: int, before: int) -> int | None:
    """Return a day's count of bars; None for the first day of a market, which began within it."""
    return of_day if before else None


def calendar_round(alias: str, now: dt.datetime) -> NseCalendar:
    """Return the exchange's sessions of the days round now."""
    today = clock.trading_date(now)
    rows = TradingDay.on(alias).objects.filter(
        date__range=(today - CALENDAR_BACK, today + CALENDAR_AHEAD)
    )
    return NseCalendar.from_days(row.as_day() for row in rows.order_by("date"))


def _marks(rows: QuerySet[PnlSnapshot]) -> list[Mark]:
    return [Mark(*row) for row in rows.values_list("slot", "at", "equity", "charges")]


def _union(queries: list[QuerySet[Any]]) -> QuerySet[Any]:
    return reduce(lambda first, second: first.union(second, all=True), queries)
