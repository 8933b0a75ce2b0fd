"""Which slots a person's training is of, and what keeps the others out."""

from __future__ import annotations

from dataclasses import dataclass

from bots.decision.actions import dead_actions
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, SLOTS, Slot, find_slot
from training.models import TrainingRun
from training.pipeline import runs as pipeline_runs


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the slots that can be trained, and a sentence for each thing to know beside them."""

    slots: list[Slot]
    remarks: list[str]


def choose(bot: str | None, timeframe: str | None, *, served: bool) -> Choice:
    """Return what of a bot, of one slot of it, or of every bot can be trained now.

    served says whether workers serve the queues; without, runs that were left open are ended.
    Raises Degraded where there is no such slot, or the one asked for cannot be trained.
    """
    try:
        named = (
            [find_slot(bot, timeframe)]
            if bot and timeframe
            else [slot for slot in SLOTS.values() if bot in (None, slot.bot)]
        )
    except ValueError as error:
        raise Degraded(str(error)) from error
    choice = Choice([], [])
    for slot in named:
        reason = pipeline_runs.untrainable_reason(slot) or open_run_reason(slot, served=served)
        if reason is None:
            choice.slots.append(slot)
        elif timeframe:
            raise Degraded(f"{slot.slug}: {reason}")
        else:
            choice.remarks.append(f"{slot.slug} left out: {reason}")
    choice.remarks.extend(_dead_actions(choice.slots))
    return choice


def open_run_reason(slot: Slot, *, served: bool = True) -> str | None:
    """Return why a new run must wait; where no worker serves, a run that nobody holds is ended."""
    going = TrainingRun.objects.filter(slot=slot.slug, state__in=pipeline_runs.OPEN).first()
    if going is None:
        return None
    if not served and pipeline_runs.fail_unleased(
        going, "it was left lying; a new run takes its place"
    ):
        return None
    return f"{going} is still going; wait for it, or see it in the admin"


def _dead_actions(slots: list[Slot]) -> list[str]:
    bots = {slot.bot: BOTS[slot.bot] for slot in slots}.values()
    dead = {bot.slug: (bot.limit_lots, dead_actions(bot.limit_lots)) for bot in bots}
    return [
        f"{bot} holds at most {lots} lots, so these actions round to nothing: {', '.join(names)}"
        for bot, (lots, names) in dead.items()
        if names
    ]
