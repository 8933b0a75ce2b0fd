"""Gather the overview page: read-only, a fixed number of queries, real rows or an honest gap."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Count

from markets.domain.calendar import Session
from markets.freshness import Stream
from monitoring.dashboard import account, freshness, machine, money, timeline, verdict
from monitoring.dashboard import books as bookkeeping
from monitoring.dashboard.account import VenueAccount
from monitoring.dashboard.books import Book
from monitoring.dashboard.machine import ModelRow, RunRow, ServiceRow
from monitoring.dashboard.money import BotRow, Money, PositionRow, Trade
from monitoring.dashboard.timeline import Band, Rail
from monitoring.dashboard.verdict import MarketClock, Verdict
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.format import ist_near
from tradingsite.models import JobRun, Notice
from tradingsite.notices import open_keys
from tradingsite.registry import MARKETS, Market
from tradingsite.scheduling.jobs import notice_key
from tradingsite.scheduling.schedules import JOBS

POLL_SECONDS = {"simulated": 4, "paper": 10, "live": 10}
DRAWN_ONE_BY_ONE = [job.name for job in JOBS if not timeline.is_band(job)]


@dataclass(frozen=True, slots=True)
class MarketState:
    """Whether a market is open, and what comes next for it."""

    title: str
    is_open: bool
    words: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the page shows, gathered at one instant."""

    mode: str
    clock: MarketClock
    real_now: dt.datetime
    markets: list[MarketState]
    verdict: Verdict
    money: Money
    bots: list[BotRow]
    trades: list[Trade]
    positions: list[PositionRow]
    accounts: list[VenueAccount]
    services: list[ServiceRow]
    models: list[ModelRow]
    training: list[RunRow]
    rail: Rail
    session: Band | None
    streams: list[Stream]
    notices: list[Notice]
    usdc_inr: float
    is_generated: bool
    errors: list[str]

    @property
    def poll_seconds(self) -> int:
        """Return how often the page asks for fresh cards."""
        return POLL_SECONDS[self.mode]

    @property
    def has_charts(self) -> bool:
        """Return whether the chart library is installed on this machine."""
        return bool(settings.CHARTS_INSTALLED)

    @property
    def open_positions(self) -> int:
        """Return how many slots hold something."""
        return sum(1 for row in self.positions if row.side != "Flat")


def gather() -> Overview:
    """Return the overview as of now."""
    now, real_now = clock.market(), clock.real()
    midnight = now.astimezone(clock.IST).replace(hour=0, minute=0, second=0, microsecond=0)
    books = {slug: bookkeeping.read(market, midnight, now) for slug, market in _markets().items()}
    session = _session_today(books.get("nifty"), midnight)
    facts = _facts(books, session, midnight, now, real_now)
    traded = {row.slot.slug: row.active for row in facts.models}
    return Overview(
        mode=settings.MODE,
        clock=facts.clock,
        real_now=real_now,
        markets=[market_state(book, now) for book in books.values()],
        verdict=verdict.decide(facts),
        money=money.summary(books, midnight, now, money.rates(settings.USDC_INR)),
        bots=list(facts.bots),
        trades=money.latest_trades(books.values()),
        positions=money.position_rows(books, traded),
        accounts=list(facts.accounts),
        services=list(facts.services),
        models=list(facts.models),
        training=list(facts.training),
        rail=facts.rail,
        session=timeline.session_band(session, "NIFTY session") if session else None,
        streams=list(facts.streams),
        notices=list(facts.notices),
        usdc_inr=settings.USDC_INR,
        is_generated=any(book.is_generated for book in books.values()),
        errors=[book.error for book in books.values() if book.error],
    )


def _facts(
    books: Mapping[str, bookkeeping.Book],
    session: Session | None,
    midnight: dt.datetime,
    now: dt.datetime,
    real_now: dt.datetime,
) -> verdict.Facts:
    """Return what the verdict is made of, which the page shows below it."""
    market_clock = read_clock(now)
    runs, counts = _job_runs(midnight)
    return verdict.Facts(
        clock=market_clock,
        real_now=real_now,
        books=list(books.values()),
        bots=money.bot_rows(books),
        accounts=[each for book in books.values() for each in _accounts(book, now, market_clock)],
        services=machine.services(settings.MODE, real_now),
        failed_jobs=_failed(runs),
        models=machine.models(),
        training=machine.training_runs(real_now),
        streams=freshness.streams(books.values(), now, market_clock.speed),
        notices=machine.notices(real_now),
        rail=timeline.build(now, session, runs, counts),
    )


def read_clock(now: dt.datetime) -> MarketClock:
    """Return the state of market time; frozen once the simulator has stopped rewriting it."""
    simulated = clock.simulated()
    if simulated is None:
        return MarketClock(now, 1.0, is_simulated=False, has_begun=True)
    anchor = simulated.anchor()
    if anchor is None:
        return MarketClock(now, 1.0, is_simulated=True, has_begun=False)
    silent = clock.real().timestamp() - anchor.real
    frozen = silent if silent > clock.FROZEN_AFTER_SECONDS else 0.0
    return MarketClock(now, anchor.speed, True, True, frozen)


def market_state(book: Book, now: dt.datetime) -> MarketState:
    """Return whether a market is open and when that changes."""
    title = {"NSE": "NSE", "CRYPTO": "Crypto"}[book.market.calendar]
    if book.market.calendar == "CRYPTO":
        return MarketState(title, True, "open")
    if book.error:
        return MarketState(title, False, "unknown")
    at = clock.epoch(now)
    session = book.calendar.session_at(at)
    if session:
        return MarketState(title, True, f"open until {_near(session.closes_at, now)}")
    following = book.calendar.next_session(at)
    words = f"closed, opens {_near(following.opens_at, now)}" if following else "closed"
    return MarketState(title, False, words)


def _markets() -> dict[str, Market]:
    return {slug: market for slug, market in MARKETS.items() if slug in settings.DATABASES}


def _accounts(book: Book, now: dt.datetime, market_clock: MarketClock) -> list[VenueAccount]:
    if book.error:
        return []
    held, fills = book.positions.values(), book.latest_fills
    return account.build(
        *(book.market, book.calendar, book.holdings, held, book.discrepancies, fills),
        *(now, market_clock.speed),
    )


def _session_today(book: Book | None, midnight: dt.datetime) -> Session | None:
    return book.calendar.session_on(midnight.date()) if book and not book.error else None


def _job_runs(midnight: dt.datetime) -> tuple[list[JobRun], dict[str, dict[str, int]]]:
    today = JobRun.objects.filter(
        scheduled_for__gte=midnight, scheduled_for__lt=midnight + dt.timedelta(days=1)
    )
    runs = list(today.filter(job__in=DRAWN_ONE_BY_ONE))
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    others = today.exclude(job__in=DRAWN_ONE_BY_ONE).order_by()
    for job, state, number in others.values_list("job", "state").annotate(Count("id")):
        counts[job][state] = number
    return runs, counts


def _failed(runs: list[JobRun]) -> list[JobRun]:
    """Return the newest runs that failed or were missed, where nobody has made up for it since."""
    states = {JobRun.State.FAILED, JobRun.State.MISSED}
    failed = [run for run in timeline.newest_of_each(runs) if run.state in states]
    still_open = open_keys(notice_key("")) if failed else set()
    return [run for run in failed if notice_key(run.job) in still_open]


def _near(at: Epoch, now: dt.datetime) -> str:
    return ist_near(clock.from_seconds(at), now)
