"""The kill switch on the page: halt a bot, or all of them; close what one holds; let it go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from django.db import Error
from django.http import HttpRequest, HttpResponse

from bots.execution import kill_switch
from bots.models import Position, RiskState
from monitoring.dashboard import acts, confirm
from monitoring.dashboard.acts import Act, Said
from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.dashboard.broker import CALM, FAIL, WARN
from tradingsite.access.acts import may
from tradingsite.registry import BOTS, Bot

NO_ORDER_BEGINS = (
    "No order begins from the moment you say so; one on its way leaves within seconds or never, "
    "and this page waits for it. What is open is cancelled."
)
HOW_IT_CLOSES = (
    "Each minute until it is gone an exit is sent, cut to what the account really holds, so that "
    "none opens the other side. What is less than a lot goes with it; dust that the venue takes no "
    "order for is named in a notice, and must be closed there by hand."
)

log = logging.getLogger(__name__)


@confirm.guarded("halt")
def halt(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whether a bot is to be halted; by POST, halt it."""
    bot = acts.named_bot(slug)
    act = Act(
        f"Halt the {bot.title} bot?",
        f"{NO_ORDER_BEGINS} Its position stays, unless you want it closed.",
        "Halt it",
        acts.holdings(bot),
        flatten="Close what it holds, too" if may(request.user, "flatten") else "",
    )
    return acts.confirmed(request, act, lambda: _halt_as_asked(request, [bot]))


@confirm.guarded("halt")
def halt_all(request: HttpRequest) -> HttpResponse:
    """Ask whether every bot is to be halted; by POST, halt all that can be reached."""
    act = Act(
        "Halt every bot?",
        f"{NO_ORDER_BEGINS} Positions stay, unless you want them closed. A bot whose database does "
        f"not answer is named, and the others are halted all the same.",
        "Halt all bots",
        [(bot.title, _stands(bot)) for bot in BOTS.values()],
        flatten="And close what they hold" if may(request.user, "flatten") else "",
    )
    return acts.confirmed(request, act, lambda: _halt_as_asked(request, list(BOTS.values())))


@confirm.guarded("flatten")
def close(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whether a halted bot is to close what it holds; by POST, let it."""
    bot = acts.named_bot(slug)
    row = RiskState.on(bot.market).objects.filter(bot=slug, halted=True).first()
    if row is None:
        text = f"The {bot.title} bot is not halted. Halting it asks whether to close, too."
        return acts.back(request, text)
    if row.flatten:
        return acts.back(request, f"The {bot.title} bot closes what it holds already.")
    if not _holds(bot):
        return acts.back(request, f"The {bot.title} bot holds nothing.")
    act = Act(
        f"Close what the {bot.title} bot holds?",
        f"It stays halted ({row.halt_reason}) and opens nothing. {HOW_IT_CLOSES}",
        "Close what it holds",
        acts.holdings(bot),
    )

    def carry_out() -> Sequence[Said]:
        return stop([bot], confirm.reason(request), acts.username(request), flatten=True)

    return acts.confirmed(request, act, carry_out)


@confirm.guarded("resume")
def resume(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask whether a bot is to trade again; by POST, let it."""
    bot = acts.named_bot(slug)
    row = RiskState.on(bot.market).objects.filter(bot=slug, halted=True).first()
    if row is None:
        return acts.back(request, f"The {bot.title} bot is not halted.")
    act = Act(
        f"Let the {bot.title} bot trade again?",
        f"It was halted: {row.halt_reason}. It decides again at its next bar, and its limits and "
        f"the day's loss stay as they are."
        f"{' It no longer closes what it holds.' if row.flatten else ''}",
        "Let it trade",
        acts.holdings(bot),
        is_danger=False,
    )

    def carry_out() -> Sequence[Said]:
        kill_switch.resume(bot, acts.person(request))
        return [Said(CALM, f"The {bot.title} bot trades again from its next bar on.")]

    return acts.confirmed(request, act, carry_out)


def stop(bots: Iterable[Bot], reason: str, by: str, *, flatten: bool) -> list[Said]:
    """Halt bots and wait for what was on its way; return a sentence or more for each.

    All flags first. A market whose database does not answer keeps no other from being halted.
    """
    done: dict[str, kill_switch.Halted] = {}
    gone: set[str] = set()
    bots = list(bots)
    for bot in bots:
        if bot.market in gone:
            continue  # it would but take the others' time
        try:
            done[bot.slug] = kill_switch.halt(bot, reason, by, flatten=flatten)
        except Error as error:
            log.warning("the %s bot could not be halted: %s", bot.slug, error)
            gone.add(bot.market)
    # What was on its way of all bots has left by the same moment.
    until = time.monotonic() + kill_switch.ANSWERED_WITHIN_SECONDS
    return [
        _stopped(bot, done[bot.slug], until) if bot.slug in done else _unreached(bot)
        for bot in bots
    ]


def _halt_as_asked(request: HttpRequest, bots: Sequence[Bot]) -> list[Said]:
    flattens = request.POST.get("flatten") == "yes"
    if flattens:
        confirm.require(request, "flatten")
    return stop(bots, confirm.reason(request), acts.username(request), flatten=flattens)


def _stopped(bot: Bot, done: kill_switch.Halted, until: float) -> Said:
    words = f"{bot.title} bot: {done.words}."
    try:
        begun = kill_switch.orders_on_their_way(bot, max(until - time.monotonic(), 0.0))
        if not RiskState.on(bot.market).objects.filter(bot=bot.slug, flatten=True).exists():
            words += " What it holds stays."
    except Error as error:
        log.warning("orders of the %s bot could not be read: %s", bot.slug, error)
        return Said(FAIL, f"{words} What was on its way could not be read: look at the venue.")
    if not begun:
        return Said(CALM, f"{words} Nothing was on its way.")
    return Said(WARN, " ".join([words, *(f"{each[0].upper()}{each[1:]}." for each in begun)]))


def _unreached(bot: Bot) -> Said:
    text = f"The {bot.title} bot could not be reached: the {bot.market} database does not answer. "
    return Said(FAIL, f"{text}It is not halted by this. Say it again, or stop its service.")


def _stands(bot: Bot) -> str:
    """Return whether a bot is halted already, and what it holds, in words."""
    try:
        row = RiskState.on(bot.market).objects.filter(bot=bot.slug, halted=True).first()
        held = [f"{slot} {words}" for slot, words in acts.holdings(bot) if words != "flat"]
    except DOES_NOT_ANSWER:
        return f"the {bot.market} database does not answer"
    state = f"halted already ({row.halt_reason})" if row else "free"
    return f"{state}, {', '.join(held) or 'flat'}"


def _holds(bot: Bot) -> bool:
    rows = Position.on(bot.market).objects.filter(bot=bot.slug)
    return rows.exclude(quantity=0).exists()
