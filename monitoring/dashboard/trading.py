"""The trading page: what each bot may do, what the account and the ledger disagree on, and why.

Looking changes nothing. Halting, resuming, adopting and giving up are POSTs of a signed-in person
of the staff who gives a reason and the password once more.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from bots import causes
from bots.live import discrepancies, givingup, halting, limits, shortfall
from bots.models import Discrepancy, Order, Position, RiskState, ShadowAccount
from bots.modelstore import services as modelstore
from monitoring.dashboard import confirm
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.dashboard.broker import CALM, FAIL
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
    venue: str
    orders_a_day: int = limits.ORDERS_A_DAY

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


@dataclass(frozen=True, slots=True)
class Act:
    """Something a person may do here, in the words of the page that asks for confirmation."""

    title: str
    says: str
    button: str
    facts: tuple[tuple[str, str], ...] = ()
    may_flatten: bool = False
    is_danger: bool = True


@require_safe
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """Show the page; a market whose database does not answer is named and left out."""
    context: dict[str, Any] = {
        "mode": settings.MODE,
        "here": "trading",
        "now": clock.market(),
        "bots": [],
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
        for cause, title in causes.TITLES.items()
        if any(cause in day.counts for _, day in context["causes"])
    ]
    context["causes"] = [
        (slot, day, [day.counts.get(cause, 0) for cause, _ in context["cause_titles"]])
        for slot, day in context["causes"]
    ]
    return render(request, "dashboard/trading.html", context)


@confirm.guarded
def halt(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whether a bot is to be halted; by POST, halt it."""
    bot = _bot(slug)
    act = Act(
        f"Halt the {bot.title} bot?",
        "It sends no order from the moment you say so. What is open is cancelled; its position "
        "stays, unless you want it closed.",
        "Halt it",
        _holdings(bot),
        may_flatten=True,
    )

    def carry_out() -> str:
        flattens = request.POST.get("flatten") == "yes"
        halting.halt(bot, confirm.reason(request), _by(request), flatten=flattens)
        ends = "It closes what it holds." if flattens else "Its position stays."
        return f"The {bot.title} bot is halted. {ends}"

    return _confirmed(request, act, carry_out)


@confirm.guarded
def resume(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whether a bot is to trade again; by POST, let it."""
    bot = _bot(slug)
    row = RiskState.on(bot.market).objects.filter(bot=slug, halted=True).first()
    if row is None:
        return _back(request, f"The {bot.title} bot is not halted.")
    act = Act(
        f"Let the {bot.title} bot trade again?",
        f"It was halted: {row.halt_reason}. It decides again at its next bar, and its limits and "
        f"the day's loss stay as they are.",
        "Let it trade",
        _holdings(bot),
        is_danger=False,
    )

    def carry_out() -> str:
        halting.resume(bot, f"{_by(request)}: {confirm.reason(request)}")
        return f"The {bot.title} bot trades again from its next bar on."

    return _confirmed(request, act, carry_out)


@confirm.guarded
def adopt(request: HttpRequest, market: str, number: int) -> HttpResponse:
    """Ask whether what nobody explains is the owner's; by POST, take it over."""
    row = Discrepancy.on(_market(market)).objects.filter(pk=number, closed_at=None).first()
    if row is None:
        return _back(request, "The ledger and the venue agree there by now.")
    rest = row.venue_quantity - row.ledger_quantity
    act = Act(
        f"Is the rest in {row.instrument} yours?",
        "The bots' fills and your own trades do not explain what the account holds. Say yes only "
        "once you have looked at the venue's own pages: the rest counts as yours from then on, "
        "and no bot touches it.",
        "It is mine",
        (
            ("The ledger has", f"{row.ledger_quantity.normalize():+f}"),
            (f"{row.venue} has", f"{row.venue_quantity.normalize():+f}"),
            ("You take over", f"{rest.normalize():+f}"),
        ),
    )

    def carry_out() -> str:
        done = discrepancies.adopt(market, row.instrument, _by(request))
        if done is None:
            return f"{row.instrument}: the two sides agree by now; nothing was taken over."
        return f"{row.instrument}: the rest is yours. The bots trade it again."

    return _confirmed(request, act, carry_out)


@confirm.guarded
def give_up(request: HttpRequest, market: str, tag: str) -> HttpResponse:
    """Ask whether an unknown order was never placed; by POST, end it."""
    order = Order.on(_market(market)).objects.filter(tag=tag, state=Order.State.UNKNOWN).first()
    if order is None:
        return _back(request, f"Order {tag} is not unknown any more.")
    act = Act(
        f"Was order {tag} never placed?",
        "Look at the venue's own order book and positions first. Should it arrive after all, it "
        "is taken in as late, on top of what was traded since.",
        "It was never placed",
        (
            ("Order", f"{order.quantity.normalize():+f} {order.instrument}"),
            ("Since", f"{order.created_at.astimezone(clock.IST):%a %d %b %H:%M}"),
            ("What is known", order.message),
        ),
    )

    def carry_out() -> str:
        if not givingup.give_up(market, tag, f"{_by(request)}: {confirm.reason(request)}"):
            return f"Order {tag} is not unknown any more; nothing was changed."
        return f"Order {tag} counts as never placed."

    return _confirmed(request, act, carry_out)


def _read(market: str, context: dict[str, Any]) -> None:
    risks = {row.bot: row for row in RiskState.on(market).objects.all()}
    held = {row.slot: row for row in Position.on(market).objects.all()}
    bots = [bot for bot in BOTS.values() if bot.market == market]
    rows = [
        BotRow(
            bot,
            risks.get(bot.slug),
            sum(held[slot.slug].lots for slot in bot.slots if slot.slug in held),
            next((held[slot.slug].venue for slot in bot.slots if slot.slug in held), ""),
        )
        for bot in bots
    ]
    open_rows = Discrepancy.on(market).objects.filter(closed_at=None).order_by("instrument")
    found = [(market, row) for row in open_rows]
    orders = Order.on(market).objects
    newest = list(orders.order_by("-created_at", "-id")[:ORDERS_SHOWN])
    doubtful = list(orders.filter(state=Order.State.UNKNOWN).exclude(pk__in=[o.pk for o in newest]))
    since = clock.market() - dt.timedelta(days=5)
    slots = [slot for slot in SLOTS.values() if slot.market == market]
    days = [(slot.slug, day) for slot in slots for day in causes.by_day(slot, since)[:1]]
    costs = [row for bot in bots for row in shortfall.report(bot, clock.market())]
    context["bots"] += rows
    context["discrepancies"] += found
    context["orders"] += [_order(market, order) for order in newest + doubtful]
    context["causes"] += days
    context["shortfalls"] += [row for row in costs if row.hour is None]
    context["shadows"] += _shadows(market, held)


def _shadows(market: str, held: dict[str, Position]) -> list[tuple[ShadowAccount, float]]:
    """Return the shadows of the models that wait, with what their slots won over the same bars."""
    waiting = [str(version) for slot in held if (version := modelstore.challenger(slot))]
    rows = ShadowAccount.on(market).objects.filter(model__in=waiting, bars__gt=0)
    return [
        (row, float(held[row.slot].equity - row.champion_equity) / float(row.notional))
        for row in rows.order_by("slot")
    ]


def _order(market: str, order: Order) -> OrderRow:
    cost = shortfall.of_order(order)
    title = ", ".join(f"{slot_title(slot)} {lots:+d}" for slot, lots in order.shares.items())
    doubtful = order.state == Order.State.UNKNOWN
    currency = MARKETS[market].currency
    return OrderRow(order, market, title, currency, sum(cost) if cost else None, doubtful)


def _confirmed(request: HttpRequest, act: Act, carry_out: Any) -> HttpResponse:
    """Show the question; by a POST with the password and a reason, carry it out."""
    trouble = ""
    if request.method == "POST":
        trouble = confirm.problem(request)
        if not trouble:
            messages.add_message(request, messages.SUCCESS, carry_out(), CALM)
            return redirect("trading")
        if not request.user.is_authenticated:
            return redirect("trading")
    context = {
        "mode": settings.MODE,
        "here": "trading",
        "act": act,
        "problem": trouble,
        "reason": request.POST.get("reason", ""),
        "reason_characters": confirm.REASON_CHARACTERS,
    }
    return render(request, "dashboard/confirm.html", context, status=400 if trouble else 200)


def _back(request: HttpRequest, text: str) -> HttpResponse:
    messages.add_message(request, messages.ERROR, text, FAIL)
    return redirect("trading")


def _holdings(bot: Bot) -> tuple[tuple[str, str], ...]:
    rows = Position.on(bot.market).objects.filter(bot=bot.slug).order_by("slot")
    return tuple(
        (slot_title(row.slot), f"{row.lots:+d} lots of {row.instrument}" if row.lots else "flat")
        for row in rows
    )


def _bot(slug: str) -> Bot:
    if slug not in BOTS:
        raise Http404(f"there is no bot {slug}")
    return BOTS[slug]


def _market(slug: str) -> str:
    if slug not in MARKETS:
        raise Http404(f"there is no market {slug}")
    return slug


def _by(request: HttpRequest) -> str:
    return request.user.get_username()
