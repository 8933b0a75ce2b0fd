"""The kill switch: a flag in the ledger that is read inside the transaction that sends an order.

Once `halt` has returned, no order leaves. The bot cancels what is open at the venue, again and
again until it is gone, and still takes in fills. Positions are kept, unless a person
asked for them to be closed.
"""

from django.db import transaction

from bots.models import RiskState
from tradingsite import clock, notices
from tradingsite.registry import Bot

REASON_CHARACTERS = 200


def halt(bot: Bot, reason: str, by: str, *, flatten: bool = False) -> bool:
    """Stop a bot from sending orders; return whether it was free before. The first reason stays.

    To flatten is to let it close what is its own, and nothing else.
    """
    with transaction.atomic(using=bot.market):
        row = _locked(bot)
        if flatten and not row.flatten:
            row.flatten = True
            row.save(update_fields=["flatten"])
        if row.halted:
            return False
        row.halted = True
        row.halt_reason = reason[:REASON_CHARACTERS]
        row.updated_at = clock.market()
        row.save(update_fields=["halted", "halt_reason", "updated_at"])
    notices.notify(
        "trading",
        "critical",
        _key(bot),
        f"{bot.title} bot halted by {by}: {reason}. It sends no orders and "
        f"{'closes what it holds' if flatten else 'keeps its position'}. "
        f"When it is right again: manage.py resume {bot.slug} --yes",
    )
    return True


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
    text = f"{bot.title} bot resumed by {by}. It had been halted: {reason}"
    notices.notify("trading", "warning", f"resume:{bot.slug}", text)
    return True


def _locked(bot: Bot) -> RiskState:
    rows = RiskState.on(bot.market).objects
    rows.get_or_create(bot=bot.slug, defaults={"updated_at": clock.market()})
    return rows.select_for_update().get(bot=bot.slug)


def _key(bot: Bot) -> str:
    return f"halt:{bot.slug}"
