"""The kill switch: a flag in the ledger that is read inside the transaction that sends an order.

Once `halt` has returned, no order begins; one that had begun leaves within seconds or never, and
`orders_on_their_way` waits for it. The bot cancels what is open at the venue, again and again until
it is gone, and still takes in fills. Positions are kept, unless a person asked for them to be
closed.
"""

import time
from dataclasses import dataclass

from django.db import transaction

from bots.execution.states import State
from bots.models import Order, RiskState
from markets.venues.base import SEND_WITHIN
from tradingsite import clock, notices
from tradingsite.registry import Bot

REASON_CHARACTERS = 200
ANSWERED_WITHIN_SECONDS = SEND_WITHIN.total_seconds() + 10.0
"""After a halt: an order that had begun has left by then, and its answer is there or overdue."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Halted:
    """Say what a halt has changed."""

    was_free: bool
    """The bot was not halted before; else the first reason stays."""
    flatten_is_new: bool
    """It is asked now, and was not before, to close what it holds."""

    @property
    def words(self) -> str:
        """Return it for people."""
        state = "halted" if self.was_free else "was halted already"
        return f"{state}; it closes what it holds now" if self.flatten_is_new else state


def halt(bot: Bot, reason: str, by: str, *, flatten: bool = False) -> Halted:
    """Stop a bot from sending orders; return what was changed. The first reason stays.

    To flatten is to let it close what is its own, and nothing else.
    """
    with transaction.atomic(using=bot.market):
        row = _locked(bot)
        done = Halted(not row.halted, flatten and not row.flatten)
        row.flatten |= flatten
        if done.was_free:
            row.halted = True
            row.halt_reason = reason[:REASON_CHARACTERS]
        row.updated_at = clock.market()
        row.save(update_fields=["flatten", "halted", "halt_reason", "updated_at"])
    if done.was_free:
        notices.notify(
            "trading",
            "critical",
            _key(bot),
            f"{bot.title} bot halted by {by}: {reason}. It sends no orders and "
            f"{'closes what it holds' if flatten else 'keeps its position'}. "
            f"When it is right again: manage.py resume {bot.slug} --yes",
        )
    elif done.flatten_is_new:
        text = f"{bot.title} bot, halted already ({row.halt_reason}), is to close what it holds: "
        text += f"{by} asked for it ({reason})."
        notices.notify("trading", "critical", f"flatten:{bot.slug}", text)
    return done


def orders_on_their_way(bot: Bot, wait_seconds: float = ANSWERED_WITHIN_SECONDS) -> list[str]:
    """Wait for the orders that had begun when the bot was halted; return what became of each.

    Not for the bot itself: it would wait for its own.
    """
    rows = Order.on(bot.market).objects
    begun = list(rows.filter(bot=bot.slug, state=State.SUBMITTING).values_list("pk", flat=True))
    until = time.monotonic() + wait_seconds
    while rows.filter(pk__in=begun, state=State.SUBMITTING).exists():
        if time.monotonic() > until:
            break
        time.sleep(_LOOK_SECONDS)
    return [
        f"order {order.tag} ({order.quantity.normalize():+f} {order.instrument}) was on its way "
        f"when the bot was halted: {_became(order)}"
        for order in rows.filter(pk__in=begun).order_by("pk")
    ]


def _became(order: Order) -> str:
    if order.state == State.SUBMITTING:
        return "no answer yet; it counts as unknown, and is looked for in the venue's book"
    return f"{order.get_state_display().lower()} {order.message}".strip()


def resume(bot: Bot, by: str) -> bool:
    """Let a bot send orders again; return whether it was halted."""
    with transaction.atomic(using=bot.market):
        row = _locked(bot)
        if not row.halted:
            return False
        reason = row.halt_reason
        row.halted = False
        row.halt_reason = ""
        row.flatten = False
        row.updated_at = clock.market()
        row.save(update_fields=["halted", "halt_reason", "flatten", "updated_at"])
    notices.resolve(_key(bot))
    notices.resolve(f"flatten:{bot.slug}")
    text = f"{bot.title} bot resumed by {by}. It had been halted: {reason}"
    notices.notify("trading", "warning", f"resume:{bot.slug}", text)
    return True


def _locked(bot: Bot) -> RiskState:
    rows = RiskState.on(bot.market).objects
    rows.get_or_create(bot=bot.slug, defaults={"updated_at": clock.market()})
    return rows.select_for_update().get(bot=bot.slug)


def _key(bot: Bot) -> str:
    return f"halt:{bot.slug}"
