"""An act that a person confirms: the question, what it changes, its fields, what came of it.

Every act goes through here: a POST of who may do it, with the password or a code, a reason, and
the numbers that were on show, so that nobody books what has changed while he was reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url

from bots.execution.break_resolution import Choice
from bots.models import Position
from monitoring.dashboard import confirm
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.dashboard.broker import FAIL
from monitoring.templatetags.desk import slot_title
from tradingsite.registry import BOTS, MARKETS, Bot

LARGEST = Decimal(10) ** 9
"""Of a figure that a person types; the ledger's columns hold no larger price."""
CHANGED = "The numbers have changed while you were reading. Look again: nothing was changed."


class Said(NamedTuple):
    """One sentence on what came of an act, and how it looks."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Field:
    """A figure that a person types."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    is_figure: bool = True


@dataclass(frozen=True, slots=True)
class Act:
    """Something a person may do here, in the words of the page that asks for confirmation."""

    title: str
    says: str
    button: str
    facts: Sequence[tuple[str, str]] = ()
    flatten: str = ""
    """The words beside the tick that lets bots close what they hold; "" for no such tick."""
    choices: Sequence[Choice] = ()
    fields: Sequence[Field] = ()
    seen: str = ""
    """The numbers on show; where they differ from those at the POST, nothing is done."""
    is_danger: bool = True
    here: str = "trading"
    """The page it belongs to, which is gone back to."""
    back: str = ""
    """The name or path gone back to, where that is another one."""
    onward: str = ""
    """The path gone to once it is done."""


def confirmed(
    request: HttpRequest, act: Act, carry_out: Callable[[], Sequence[Said]]
) -> HttpResponse:
    """Show the question; by a POST with the password and a reason, carry it out."""
    trouble = ""
    if request.method == "POST":
        trouble = confirm.problem(request)
        if not trouble and act.seen and request.POST.get("seen") != act.seen:
            trouble = CHANGED
        if not trouble:
            trouble = _carried_out(request, carry_out)
        if not request.user.is_authenticated:
            return signed_out(request, trouble)
        if not trouble:
            return redirect(act.onward or act.back or act.here)
    context: dict[str, Any] = {
        "mode": settings.MODE,
        "here": act.here,
        "heading": act.here.capitalize() or "Access",
        "back": resolve_url(act.back or act.here),
        "act": act,
        "problem": trouble,
        "reason": request.POST.get("reason", ""),
        "flattens": request.POST.get("flatten") == "yes",
        "answer": request.POST.get("answer", act.choices[0].key if len(act.choices) == 1 else ""),
        "fields": [(each, request.POST.get(each.name, each.value)) for each in act.fields],
        "reason_characters": confirm.REASON_CHARACTERS,
    }
    return render(request, "dashboard/confirm.html", context, status=400 if trouble else 200)


def signed_out(request: HttpRequest, text: str) -> HttpResponse:
    """Go to the sign-in page and say why the session was ended."""
    messages.add_message(request, messages.ERROR, text, FAIL)
    return redirect("sign-in")


def back(request: HttpRequest, text: str) -> HttpResponse:
    """Return to the trading page with the reason why there is nothing to confirm."""
    messages.add_message(request, messages.ERROR, text, FAIL)
    return redirect("trading")


def figure(request: HttpRequest, name: str, label: str) -> Decimal | None:
    """Return a figure of zero or more that was typed, None where the field was left empty.

    Raises ValueError for anything else; a comma too, which is a decimal point to some and a
    separator of thousands to others.
    """
    text = request.POST.get(name, "").strip()
    if not text:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or not 0 <= value < LARGEST:
        raise ValueError(f"{label}: {text!r} is no such figure; write it like 24861.40")
    return value


def person(request: HttpRequest) -> str:
    """Return who acts, and why, as it is kept with what is done."""
    return f"{username(request)}: {confirm.reason(request)}"


def username(request: HttpRequest) -> str:
    """Return who acts."""
    return request.user.get_username()


def holdings(bot: Bot) -> list[tuple[str, str]]:
    """Return what each slot of a bot holds, in words."""
    rows = Position.on(bot.market).objects.filter(bot=bot.slug).order_by("slot")
    return [(slot_title(row.slot), _holding(row)) for row in rows]


def named_bot(slug: str) -> Bot:
    """Return the bot of an address."""
    if slug not in BOTS:
        raise Http404(f"there is no bot {slug}")
    return BOTS[slug]


def named_market(slug: str) -> str:
    """Return the market of an address."""
    if slug not in MARKETS:
        raise Http404(f"there is no market {slug}")
    return slug


def _carried_out(request: HttpRequest, carry_out: Callable[[], Sequence[Said]]) -> str:
    """Do it and leave its words for the next page; return what kept it from being done."""
    try:
        for said in carry_out():
            messages.add_message(request, messages.INFO, said.text, said.level)
    except ValueError as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}."
    except DOES_NOT_ANSWER:
        return (
            "A database stopped answering. Look at the trading page before you say it again: "
            "what was done before that is kept."
        )
    return ""


def _holding(row: Position) -> str:
    if row.lots:
        return f"{row.lots:+d} lots of {row.instrument}"
    if row.quantity:
        return f"{row.quantity.normalize():+f} {row.instrument}, less than a lot"
    return "flat"
