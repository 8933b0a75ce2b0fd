"""One sentence about the desk: the worst thing first, what was done about it, what to look at.

Failures (something does not work) come before warnings (something works and is worth knowing).
A losing day is neither: it is in the figures, not here, until the loss limit acts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from django.urls import reverse

from markets.freshness import Stream
from monitoring.dashboard.account import VenueAccount
from monitoring.dashboard.books import Book
from monitoring.dashboard.machine import ModelRow, RunRow, ServiceRow
from monitoring.dashboard.money import BotRow
from monitoring.dashboard.timeline import Rail
from tradingsite import format as fmt
from tradingsite.errors import cause_in
from tradingsite.models import JobRun, Notice
from tradingsite.registry import BOTS
from tradingsite.scheduling.schedules import ALL
from training.models import TrainingRun

FAIL, WARN, START, CALM = "fail", "warn", "start", "calm"
# An open notice that nobody resolved still matters for this long (real time).
NOTICE_MATTERS = {FAIL: dt.timedelta(hours=24), WARN: dt.timedelta(hours=1)}
# What these notices say is read from its own record, which also knows when it is over.
HAVE_RECORDS = (
    *("job:", "training:", "service:", "halt:", "daily-loss:", "order:", "resume:"),
    *("discrepancy:", "flatten:"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth saying, what was done about it, and where to look."""

    level: str
    headline: str
    detail: str
    link: str
    link_words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence at the top of the page."""

    level: str
    headline: str
    detail: str
    link: str = ""
    link_words: str = ""
    others: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MarketClock:
    """Market time, how fast it runs, and for how many real seconds it has stood still."""

    now: dt.datetime
    speed: float
    is_simulated: bool
    has_begun: bool
    frozen_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the verdict looks at."""

    clock: MarketClock
    real_now: dt.datetime
    books: Sequence[Book]
    bots: Sequence[BotRow]
    accounts: Sequence[VenueAccount]
    services: Sequence[ServiceRow]
    failed_jobs: Sequence[JobRun]
    models: Sequence[ModelRow]
    training: Sequence[RunRow]
    streams: Sequence[Stream]
    notices: Sequence[Notice]
    rail: Rail


def decide(facts: Facts) -> Verdict:
    """Return the sentence: the first failure, else the first warning, else that all is well."""
    findings = [*_failures(facts), *_warnings(facts)]
    if not findings:
        return _calm(facts)
    first, *others = findings
    return Verdict(first.level, first.headline, first.detail, first.link, first.link_words, others)


def _failures(facts: Facts) -> Iterator[Finding]:
    yield from _unreachable(facts.books)
    yield from _unknown_orders(facts.books)
    yield from _stopped(facts.books)
    if facts.clock.frozen_seconds:
        yield Finding(
            FAIL,
            f"The market stands still at {fmt.ist_time(facts.clock.now)} IST.",
            f"The simulator last moved the clock {fmt.ago(facts.clock.frozen_seconds)}. No bar "
            "closes and no bot decides until it runs again; positions stay as they are.",
            "#services",
            "See the services",
        )
    yield from _silent(facts)
    for run in facts.failed_jobs:
        did = "did not run at" if run.state == JobRun.State.MISSED else "failed at"
        yield Finding(
            FAIL,
            f"{ALL[run.job].title} {did} {fmt.ist_time(run.scheduled_for)}.",
            f"{_cause(run.detail)} It runs again at its next time.",
            reverse("admin:tradingsite_jobrun_change", args=[run.pk]),
            "Open the record",
        )
    yield from _failed_training(facts)
    yield from _from_notices(facts, Notice.Severity.CRITICAL, FAIL)


def _warnings(facts: Facts) -> Iterator[Finding]:
    yield from _restrained(facts.bots)
    yield from _unseen(facts.accounts, facts.clock.now)
    yield from _late(facts.streams)
    yield from _lossy(facts.streams)
    for row in facts.models:
        if row.is_refused and row.newest:
            kept = f"v{row.active.number} trades on" if row.active else "the slot holds flat"
            yield Finding(
                WARN,
                f"{row.title} v{row.newest.number} was kept from trading; {kept}.",
                row.newest.reason,
                "#models",
                "See the models",
            )
    for book in facts.books:
        if not book.error and not book.calendar.is_verified(_date(facts.clock.now)):
            yield Finding(
                WARN,
                f"The {book.market.title} calendar does not vouch for today.",
                "No order goes out on such a day. Check the trading days and mark them verified.",
                reverse("admin:index"),
                "Open the admin",
            )
    yield from _from_notices(facts, Notice.Severity.WARNING, WARN)


def _unreachable(books: Iterable[Book]) -> Iterator[Finding]:
    for book in books:
        if not book.error:
            continue
        market = book.market
        bots = " and ".join(bot.title for bot in BOTS.values() if bot.market == market.slug)
        yield Finding(
            FAIL,
            f"{book.error[0].upper()}{book.error[1:]}.",
            f"{bots} can neither decide nor record until it does; the figures below leave "
            f"{market.title} out. This page asks again at every refresh.",
            "#services",
            "See the services",
        )


def _unknown_orders(books: Iterable[Book]) -> Iterator[Finding]:
    for book in books:
        if book.unknown_orders:
            yield Finding(
                FAIL,
                f"{book.market.title} has {fmt.plural(book.unknown_orders, 'order')} whose fate is "
                "unknown.",
                "New risk on that instrument is blocked until the venue's book has answered. "
                "Nothing is sent twice.",
                reverse("trading"),
                "Say what became of it",
            )


def _stopped(books: Iterable[Book]) -> Iterator[Finding]:
    for book in books:
        for row in book.discrepancies:
            yield Finding(
                FAIL,
                f"{row.instrument} is stopped: {row}.",
                "Neither the bots' fills nor your own trades explain it. No bot trades it until "
                "the two agree or you say what it is.",
                reverse("trading"),
                "Say what it is",
            )


def _unseen(accounts: Iterable[VenueAccount], now: dt.datetime) -> Iterator[Finding]:
    for each in accounts:
        if each.is_old and each.seen_at:
            yield Finding(
                WARN,
                f"The account {each.title} was last looked at "
                f"{fmt.ago((now - each.seen_at).total_seconds())}.",
                "Its bot looks each minute while it runs and the venue answers; what you see of "
                "it may be over.",
                "#account",
                "See the accounts",
            )


def _silent(facts: Facts) -> Iterator[Finding]:
    gone = [row for row in facts.services if row.level in {"late", "ended"}]
    if not gone:
        return
    first = next((row for row in gone if row.words == "refused"), gone[0])
    if first.words == "refused":
        yield Finding(
            FAIL,
            f"{first.service.name} {first.detail.partition('. ')[0].rstrip('.')}.",
            first.detail.partition(". ")[2],
            "#services",
            "See the services",
        )
        gone.remove(first)
        if not gone:
            return
        first = gone[0]
    names = ", ".join(row.service.name for row in gone[:3])
    if len(gone) > 3:
        names += f" and {len(gone) - 3} more"
    since = (
        f"for {fmt.duration((facts.real_now - first.beat_at).total_seconds())}"
        if first.beat_at
        else "for a while"
    )
    verb = "is" if len(gone) == 1 else "are"
    is_bot = any(row.service.name.endswith("-bot") for row in gone)
    kept = (
        "Positions stay as they are; without its bot a market decides nothing. " if is_bot else ""
    )
    yield Finding(
        FAIL,
        f"{names} {verb} silent {since}." if first.level == "late" else f"{names} ended.",
        f"{kept}What ends is started again by the supervisor. "
        f"{len(facts.services) - len(gone)} of {len(facts.services)} services answer.",
        "#services",
        "See the services",
    )


def _failed_training(facts: Facts) -> Iterator[Finding]:
    seen: set[str] = set()
    active = {row.slot.slug: row.active for row in facts.models}
    newest_first = sorted(facts.training, key=lambda row: row.run.created_at, reverse=True)
    for row in newest_first:
        if row.run.slot in seen:
            continue
        seen.add(row.run.slot)
        if row.run.state not in {TrainingRun.State.FAILED, TrainingRun.State.REFUSED}:
            continue
        version = active.get(row.run.slot)
        kept = f"v{version.number} trades on" if version else "the slot holds flat"
        is_refused = row.run.state == TrainingRun.State.REFUSED
        yield Finding(
            WARN if is_refused else FAIL,
            f"Training of {row.title} {'was refused' if is_refused else 'failed'}; {kept}.",
            f"{_cause(row.run.detail)} Nothing was activated.",
            reverse("admin:training_trainingrun_change", args=[row.run.pk]),
            "Open the record",
        )


def _restrained(bots: Iterable[BotRow]) -> Iterator[Finding]:
    for row in bots:
        if row.is_halted:
            yield Finding(
                WARN,
                f"{row.bot.title} is halted: it sends no orders and "
                f"{'closes what it holds' if row.is_closing else 'keeps its position'}.",
                f"Reason: {row.halt_reason or 'none given'}. Closing what it holds and resuming "
                f"are on the trading page.",
                reverse("trading"),
                "Open trading",
            )
        elif row.is_latched:
            limit = fmt.money(row.bot.daily_loss_limit, row.currency)
            yield Finding(
                WARN,
                f"{row.bot.title} reached its daily loss limit of {limit}.",
                "Until the next trading date it only reduces its positions.",
                "#bots",
                "See the bots",
            )


def _late(streams: Iterable[Stream]) -> Iterator[Finding]:
    late = [stream for stream in streams if stream.state == "late"]
    if late:
        names = ", ".join(stream.title for stream in late[:3])
        more = f" and {len(late) - 3} more" if len(late) > 3 else ""
        yield Finding(
            WARN,
            f"{names}{more} {'is' if len(late) == 1 else 'are'} late.",
            "Bots decide on closed bars only, so they wait for the missing ones.",
            "#data",
            "See the data",
        )


def _lossy(streams: Iterable[Stream]) -> Iterator[Finding]:
    for stream in streams:
        if stream.is_lossy:
            yield Finding(
                WARN,
                f"{stream.title}: {stream.note}.",
                stream.remedy,
                "#data",
                "See the data",
            )


def _from_notices(facts: Facts, severity: str, level: str) -> Iterator[Finding]:
    trading = {f"model:{row.active}" for row in facts.models if row.active}
    for notice in facts.notices:
        if notice.severity != severity or notice.resolved_at:
            continue
        if facts.real_now - notice.last_at > NOTICE_MATTERS[level]:
            continue
        if notice.key.startswith(HAVE_RECORDS):
            continue
        if notice.key.startswith("model:") and notice.key not in trading:
            continue  # about a version that another has replaced since
        headline, _, detail = notice.text.partition(". ")
        yield Finding(level, f"{headline.rstrip('.')}.", detail, "#notices", "See the notices")


def _calm(facts: Facts) -> Verdict:
    if facts.clock.is_simulated and not facts.clock.has_begun:
        return Verdict(
            START,
            "The desk is starting.",
            "The market has not begun its day yet; this page fills by itself.",
        )
    models = sum(1 for row in facts.models if row.active)
    running = next((row for row in facts.training if row.run.state == "running"), None)
    parts = [f"{models} of {len(facts.models)} slots have a model, the others hold flat."]
    if models == 0:
        parts = ["No slot has a model yet, so every slot holds flat."]
    elif models == len(facts.models):
        parts = [f"All {models} slots have a model."]
    if running:
        parts.append(f"{running.title} is training.")
    if facts.rail.upcoming:
        tick = facts.rail.upcoming
        wait = fmt.duration((tick.at - facts.clock.now).total_seconds())
        parts.append(f"Next: {tick.job.title} in {wait}.")
    unseen = sum(1 for row in facts.services if row.level == "unseen")
    if unseen:
        up = len(facts.services) - unseen
        headline = f"{up} of {len(facts.services)} services are up, the others are starting."
        return Verdict(START, headline, " ".join(parts), "#services", "See the services")
    return Verdict(CALM, "Everything is running.", " ".join(parts))


def _cause(text: str) -> str:
    said = cause_in(text).rstrip(".")
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _date(at: dt.datetime) -> dt.date:
    return at.astimezone(fmt.IST).date()
