"""The models' page: every version of a slot, and the way back to any of them.

Looking changes nothing. A switch is a POST of who may switch, has read from which version
to which, says why, and gives the password once more: a session that somebody left
open moves no money.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from bots.models import Position, ShadowAccount
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from monitoring.dashboard import acts, confirm
from monitoring.dashboard.broker import CALM, FAIL
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import SLOTS, Slot
from training import recipes

SHOWN = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One version as the table shows it."""

    version: ModelVersion
    net_return: float | None
    buy_and_hold: float | None
    sharpe: float | None
    max_drawdown: float | None
    gate: str
    since: dt.datetime | None
    """Since when it trades, of the one that does."""
    traded: bool
    is_here: bool
    is_archived: bool
    shadow: ShadowAccount | None = None
    """What it would have won on the bars since it waits."""

    @property
    def can_trade(self) -> bool:
        """Return whether one may go to it: its files are somewhere, and another one trades."""
        other = self.version.state != ModelVersion.State.ACTIVE
        whole = self.version.state != ModelVersion.State.QUARANTINED
        return other and whole and (self.is_here or self.is_archived)


@require_safe
@never_cache
def page(request: HttpRequest, slug: str = "") -> HttpResponse:
    """Show a slot's versions, the newest first; the first slot's where none is named."""
    slot = _slot(slug or next(iter(SLOTS)))
    context = {"slot": slot, "rows": rows_of(slot), **_frame(slot)}
    return render(request, "dashboard/models.html", context)


@confirm.guarded("switch_model")
def switch(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Show from which version to which; by POST, with the password and a reason, switch."""
    slot = _slot(slug)
    target = next((row for row in rows_of(slot) if row.version.number == number), None)
    if target is None:
        raise Http404(f"{slug} has no version {number}")
    if not target.can_trade:
        text = f"{target.version} cannot be switched to: it trades already, or its files are gone."
        messages.add_message(request, messages.ERROR, text, FAIL)
        return redirect("models-of", slug)
    problem = ""
    if request.method == "POST":
        problem = confirm.problem(request)
        if not request.user.is_authenticated:
            return acts.signed_out(request, problem)
        if not problem:
            return _switched(request, slot, number)
    held = Position.on(slot.market).objects.filter(slot=slot.slug).values_list("lots", flat=True)
    now_trades = next((row for row in rows_of(slot) if row.since), None)
    context = {
        "slot": slot,
        "target": target,
        "now_trades": now_trades,
        "goes_back": now_trades is not None and number < now_trades.version.number,
        "holds": held.first() or 0,
        "problem": problem,
        "reason": request.POST.get("reason", ""),
        "reason_characters": confirm.REASON_CHARACTERS,
        **_frame(slot),
    }
    return render(request, "dashboard/switch.html", context, status=400 if problem else 200)


def rows_of(slot: Slot) -> list[Row]:
    """Return a slot's newest versions and whichever trades."""
    archived = modelstore.archived_runs(slot.slug)
    switches = list(Activation.objects.filter(slot=slot.slug).order_by("-at"))
    traded = {each.model_id for each in switches}
    versions = list(ModelVersion.objects.filter(slot=slot.slug).order_by("-number")[:SHOWN])
    active = modelstore.active(slot.slug)
    if active is not None and active not in versions:
        versions.append(active)
    names = [str(version) for version in versions]
    shadows = {
        row.model: row
        for row in ShadowAccount.on(slot.market).objects.filter(
            slot=slot.slug, model__in=names, bars__gt=0
        )
    }
    return [
        _row(
            version,
            archived,
            switches[0].at if version == active else None,
            version.pk in traded,
            shadows.get(str(version)),
        )
        for version in versions
    ]


def _row(
    version: ModelVersion,
    archived: set[int],
    since: dt.datetime | None,
    traded: bool,
    shadow: ShadowAccount | None,
) -> Row:
    held_out = version.metrics.get("holdout", {})
    hold = version.metrics.get("baselines", {}).get("buy_and_hold", {})
    return Row(
        version=version,
        net_return=held_out.get("net_return"),
        buy_and_hold=hold.get("net_return"),
        sharpe=held_out.get("sharpe_per_year"),
        max_drawdown=held_out.get("max_drawdown"),
        gate=version.reason,
        since=since,
        traded=traded,
        is_here=modelstore.folder(version).is_dir(),
        is_archived=version.run_id in archived,
        shadow=shadow,
    )


def _switched(request: HttpRequest, slot: Slot, number: int) -> HttpResponse:
    reason = confirm.reason(request)
    by = request.user.get_username()
    try:
        done = modelstore.choose(slot.slug, number, by, reason)
    except Degraded as error:
        messages.add_message(request, messages.ERROR, f"{error}. Nothing was changed.", FAIL)
    else:
        text = f"{done.model} trades from the bot's next bar on. The position stays as it is."
        messages.add_message(request, messages.SUCCESS, text, CALM)
    return redirect("models-of", slot.slug)


def _slot(slug: str) -> Slot:
    if slug not in SLOTS:
        raise Http404(f"there is no slot {slug}")
    return SLOTS[slug]


def _frame(slot: Slot) -> dict[str, Any]:
    return {
        "mode": settings.MODE,
        "here": "models",
        "slots": list(SLOTS.values()),
        "policy": recipes.policy_of(slot.slug),
        "recipe": recipes.approved(slot.slug),
        "lock": modelstore.rollback_lock(slot.slug),
        "now": clock.market(),
    }
