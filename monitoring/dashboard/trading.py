"""The trading page: what each bot may do, what the account and the ledger disagree on, and why.

Looking changes nothing. What changes something is in `halting` and `resolving`: a POST of who
may do it, with a reason and the password once more.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from bots import no_trade_causes
from bots.execution import break_resolution, pretrade_checks, shortfall
from bots.execution.closures import SIDES
from bots.models import (
    AccountHolding,
    Discrepancy,
    Fill,
    Order,
    Position,
    RiskState,
    ShadowAccount,
)
from bots.modelstore import services as modelstore
from markets.domain.calendar import CryptoCalendar
from monitoring.dashboard import account, overview
from monitoring.dashboard.books import DOES_NOT_ANSWER, calendar_round
from monitoring.templatetags.desk import slot_title
from tradingsite import clock
from tradingsite.registry import BOTS, MARKETS, SLOTS, Bot

ORDERS_SHOWN = 25


@dataclass(frozen=True, slots=True)
class BotRow:
    """How one bot stands before its limits."""

    bot: Bot
    risk: RiskState | None
    lots: int
    holds: bool
    """Anything, less than a lot too."""
    venue: str
    orders_a_day: int = pretrade_checks.ORDERS_A_DAY

    @property
    def currency(self) -> str:
        """Return the currency of its market."""
        return MARKETS[self.bot.market].currency

    @property
    def loss(self) -> Decimal:
        """Return what it has lost today; nothing where it is ahead."""
        if self.risk is None:
            return Decimal(0)
        return max(self.risk.start_equity - self.risk.last_equity, Decimal(0))


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order as the table shows it."""

    order: Order
    market: str
    title: str
    currency: str
    bps: float | None
    """What it cost against the price it was decided at."""
    is_doubtful: bool
    closed_by: str = ""
    """Who closed it for the bot: then it is no order of the bot's, and nobody decided it here."""

    @property
    def left(self) -> Decimal:
        """Return what is not booked of it, without a sign."""
        return abs(self.order.quantity) - abs(self.order.filled_quantity)


@dataclass(frozen=True, slots=True)
class Difference:
    """One open difference, and what a person may say of it in short."""

    market: str
    row: Discrepancy
    words: str


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show the page; a market whose database does not answer is named and left out."""
    context: dict[str, Any] = {
        "mode": settings.MODE,
        "here": "trading",
        "now": clock.market(),
        "bots": [],
        "accounts": [],
        "can_halt_all": True,
        "discrepancies": [],
        "orders": [],
        "causes": [],
        "shadows": [],
        "shortfalls": [],
        "errors": [],
    }
    for market in MARKETS:
        try:
            _read(market, context)
        except DOES_NOT_ANSWER:
            context["errors"].append(f"the {market} database does not answer")
    context["orders"].sort(key=lambda row: row.order.created_at, reverse=True)
    # However old: they stand in the way of new ones.
    context["unknown"] = [row for row in context["orders"] if row.is_doubtful]
    context["orders"] = context["orders"][:ORDERS_SHOWN]
    context["cause_titles"] = [
        (cause, title)
        for cause, title in no_trade_causes.TITLES.items()
        if any(cause in day.counts for _, day in context["causes"])
    ]
    context["causes"] = [
        (slot, day, [day.counts.get(cause, 0) for cause, _ in context["cause_titles"]])
        for slot, day in context["causes"]
    ]
    return render(request, "dashboard/trading.html", context)


def _read(market: str, context: dict[str, Any]) -> None:
    risks = {row.bot: row for row in RiskState.on(market).objects.all()}
    held = {row.slot: row for row in Position.on(market).objects.all()}
    bots = [bot for bot in BOTS.values() if bot.market == market]
    rows = [
        BotRow(
            bot,
            risks.get(bot.slug),
            sum(held[slot.slug].lots for slot in bot.slots if slot.slug in held),
            any(held[slot.slug].quantity for slot in bot.slots if slot.slug in held),
            next((held[slot.slug].venue for slot in bot.slots if slot.slug in held), ""),
        )
        for bot in bots
    ]
    open_rows = list(Discrepancy.on(market).objects.filter(closed_at=None).order_by("instrument"))
    found = [Difference(market, row, _answer(market, row)) for row in open_rows]
    accounts = _accounts(market, held.values(), open_rows)
    orders = Order.on(market).objects
    newest = list(orders.order_by("-created_at", "-id")[:ORDERS_SHOWN])
    doubtful = list(orders.filter(state=Order.State.UNKNOWN).exclude(pk__in=[o.pk for o in newest]))
    since = clock.market() - dt.timedelta(days=5)
    slots = [slot for slot in SLOTS.values() if slot.market == market]
    days = [(slot.slug, day) for slot in slots for day in no_trade_causes.by_day(slot, since)[:1]]
    costs = [row for bot in bots for row in shortfall.report(bot, clock.market())]
    context["bots"] += rows
    context["accounts"] += accounts
    context["discrepancies"] += found
    context["orders"] += [_order(market, order) for order in newest + doubtful]
    context["causes"] += days
    context["shortfalls"] += [row for row in costs if row.hour is None]
    context["shadows"] += _shadows(market, held)


def _answer(market: str, row: Discrepancy) -> str:
    """Return the words of the button: the one answer there is, else that one must be given."""
    answers = break_resolution.choices(market, row)
    return answers[0].title if len(answers) == 1 else "Say what it is"


def _accounts(
    market: str, held: Iterable[Position], open_rows: Iterable[Discrepancy]
) -> list[account.VenueAccount]:
    now = clock.market()
    seen = list(AccountHolding.on(market).objects.all())
    since = min((row.seen_at for row in seen), default=now)
    fills = Fill.on(market).objects.filter(at__gt=since)
    is_nse = MARKETS[market].calendar == "NSE"
    calendar = calendar_round(market, now) if is_nse else CryptoCalendar()
    speed = overview.read_clock(now).speed
    return account.build(MARKETS[market], calendar, seen, held, open_rows, fills, now, speed)


def _shadows(market: str, held: dict[str, Position]) -> list[tuple[ShadowAccount, float]]:
    """Return the shadows of the models that wait, with what their slots won over the same bars."""
    waiting = [str(version) for slot in held if (version := modelstore.challenger(slot))]
    rows = ShadowAccount.on(market).objects.filter(model__in=waiting, bars__gt=0)
    return [
        (row, float(held[row.slot].equity - row.champion_equity) / float(row.notional))
        for row in rows.order_by("slot")
    ]


def _order(market: str, order: Order) -> OrderRow:
    closed_by = SIDES.get(order.leg, "")
    cost = None if closed_by else shortfall.of_order(order)
    title = ", ".join(f"{slot_title(slot)} {lots:+d}" for slot, lots in order.shares.items())
    doubtful = order.state == Order.State.UNKNOWN
    currency = MARKETS[market].currency
    bps = sum(cost) if cost else None
    return OrderRow(order, market, title, currency, bps, doubtful, closed_by)
