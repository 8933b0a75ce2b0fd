"""Models that do worse live than their recipe ever did go back, where the owner asked for it.

What a model may lose is the lower end of its recipe's walk forward, over as many bars as it has
traded: the same bound that a refit passes before it trades. A slot takes part only where
`DEMOTE_SLOTS` names it, and only once its model has decided often enough for luck to even out.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.conf import settings

from bots.decision.observation import limit_notional
from bots.models import Decision, PnlSnapshot
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from markets.domain import contracts
from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.models import JobRun
from tradingsite.registry import BOTS, SLOTS
from tradingsite.scheduling.jobs import NotWanted
from training import recipes
from training.evaluation.refit_gate import RefitRange

MIN_BARS = 20
BY = "automatic demotion"


@dataclass(frozen=True, slots=True)
class LivePerformance:
    """Hold what a model did since it trades: net return on the slot's limit, over some bars."""

    net_return: float
    bars: int


def demotion_reason(live: LivePerformance, allowed: RefitRange) -> str:
    """Return why a model must go back, "" while it may stay."""
    if live.bars < MIN_BARS:
        return ""
    # Luck grows as the root of the bars: what the walk forward bore over many is less over few.
    low = min(allowed.low, 0.0) * (live.bars / allowed.bars) ** 0.5
    if live.net_return >= low:
        return ""
    return (
        f"{live.net_return:+.2%} over {live.bars} live bars, its recipe's walk forward never lost "
        f"more than {-low:.2%} over as many"
    )


def require_participants(at: dt.datetime) -> None:
    """Want a firing only where some slot takes part."""
    if not participating_slots():
        raise NotWanted


def run_for_job(run: JobRun) -> str:
    """Look at every slot that takes part; return a sentence about it."""
    return "; ".join(review_slot(slot) for slot in participating_slots())


def participating_slots() -> list[str]:
    """Return the slots that take part; raise ValueError for one that there is not."""
    named = [each.strip() for each in settings.DEMOTE_SLOTS.split(",") if each.strip()]
    if unknown := sorted(set(named) - SLOTS.keys()):
        known = ", ".join(SLOTS)
        raise ValueError(f"DEMOTE_SLOTS names {', '.join(unknown)}; the slots are {known}")
    return named


def review_slot(slot: str) -> str:
    """Demote a slot's model where it is too bad; return what was seen."""
    version = modelstore.active(slot)
    if version is None:
        return f"{slot} has no model"
    allowed = recipes.range_of(recipes.approved(slot))
    if allowed is None:
        return f"{slot} has no recipe to hold it to"
    live = live_performance(slot, version)
    if live is None:
        return f"{version} has not traded yet"
    reason = demotion_reason(live, allowed)
    if not reason:
        return f"{version} {live.net_return:+.2%} over {live.bars} bars"
    try:
        done = modelstore.roll_back(slot, BY, reason, Activation.Kind.DEMOTION)
    except Degraded as error:
        _notify(slot, f"{version} does badly ({reason}), and there is no way back: {error}.")
        return f"{version} is too bad, and there is no other"
    text = f"{version} went back to v{done.model.number}: {reason}. New models wait; look at it."
    _notify(slot, text)
    return f"{version} went back to v{done.model.number}"


def live_performance(slot: str, version: ModelVersion) -> LivePerformance | None:
    """Return what the version did since it last began to trade, None before its first bar."""
    where = SLOTS[slot]
    switch = Activation.objects.filter(slot=slot, model=version).order_by("-at").first()
    if switch is None:
        return None
    decisions = Decision.on(where.market).objects.filter(slot=slot, model=str(version))
    bars = decisions.filter(bar_closes_at__gte=switch.market_at).order_by("bar_closes_at")
    first = bars.first()
    marks = PnlSnapshot.on(where.market).objects.filter(slot=slot)
    newest = marks.order_by("-at").first()
    before = marks.filter(at__lte=switch.market_at).order_by("-at").first()
    if first is None or newest is None:
        return None
    lots = contracts.lot_size(where.market, clock.trading_date(first.bar_closes_at))
    notional = limit_notional(BOTS[where.bot].limit_lots, lots, float(first.price))
    gained = float(newest.equity) - (float(before.equity) if before else 0.0)
    return LivePerformance(gained / notional, bars.count())


def _notify(slot: str, text: str) -> None:
    notices.notify("trading", "critical", f"demotion:{slot}", text)
