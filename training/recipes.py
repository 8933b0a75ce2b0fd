"""Recipes: everything that decides how a slot is trained, but for the bars and the seed.

A recipe is canonical JSON with a hash, so that "the same recipe" has one meaning. One of a slot may
be approved: by the verdict of `evaluate`, or by the owner in words. Scheduled refits follow it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.db import transaction

from bots.execution.shortfall import assumed_bps
from markets.domain.features import schema_for
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, SLOTS, Slot
from training.evaluation.refit_gate import RefitRange
from training.models import Recipe
from training.rl.hyperparameters import Hyperparameters
from training.rl.reward import RewardSettings

REASON_CHARACTERS = 300
# A frozen encoder keeps no style: all of the policy must be free to become the owner's.
_CLONING_HYPERPARAMETERS: dict[str, Any] = {
    "clone_epochs": 40,
    "freeze_encoder": False,
    "learning_rate": 5e-4,
}
GATED, NEWEST = "gated", "newest"
"""Policies of a slot: only refits of an approved recipe trade, or the newest verified model."""


def settings_of(
    slot: Slot, timesteps: int, network: str | None = None, **changes: Any
) -> dict[str, Any]:
    """Return the recipe that a slot's bot asks for, or of another network, with changes.

    changes are hyperparameters; raises ValueError for ones that do not fit.
    """
    bot = BOTS[slot.bot]
    own = (
        _CLONING_HYPERPARAMETERS | {"style_weight": bot.style_weight}
        if bot.learns_from_owner
        else {}
    )
    learned = Hyperparameters.of(network or bot.network, **(own | changes))
    return {
        "slot": slot.slug,
        "schema": schema_for(slot.market, slot.timeframe).hash,
        "hyperparameters": learned.to_manifest(),
        "reward": asdict(
            RewardSettings(drawdown_weight=bot.drawdown_weight, sharpe_weight=bot.sharpe_weight)
        ),
        "limit_lots": bot.limit_lots,
        "slippage_bps": assumed_bps(bot),
        "timesteps": timesteps,
    }


def hash_of(recipe: dict[str, Any]) -> str:
    """Return the sha256 of a recipe's canonical JSON, in hex."""
    # Sorted and without blanks: the hash is of what it says, not of how it was written.
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def register(recipe: dict[str, Any]) -> Recipe:
    """Return the row of a recipe, made where it is new."""
    row, _ = Recipe.objects.get_or_create(
        slot=recipe["slot"],
        hash=hash_of(recipe),
        defaults={"settings": recipe, "created_at": clock.real()},
    )
    return row


def approved(slot: str) -> Recipe | None:
    """Return the approved recipe of a slot, None where there is none for today's features."""
    row = Recipe.objects.filter(slot=slot, state=Recipe.State.APPROVED).first()
    where = SLOTS[slot]
    if row is None or row.settings["schema"] != schema_for(where.market, where.timeframe).hash:
        return None
    return row


def require_approved(slot: str) -> Recipe:
    """Return the approved recipe of a slot; raise Degraded where there is none."""
    recipe = approved(slot)
    if recipe is None:
        raise Degraded(f"{slot} has no approved recipe")
    return recipe


def find(slot: str, hash_start: str) -> Recipe:
    """Return a slot's recipe by the start of its hash; raise Degraded unless it is one."""
    rows = Recipe.objects.filter(slot=slot)
    found = rows.filter(hash__startswith=hash_start)
    if found.count() != 1:
        known = ", ".join(row.hash[:8] for row in rows) or "none"
        raise Degraded(f"{hash_start!r} is not one recipe of {slot}; known are: {known}")
    return found[0]


def approve(recipe: Recipe, by: str, reason: str) -> None:
    """Make a recipe the one that a slot's refits follow; the one before it is retired."""
    with transaction.atomic():
        rows = Recipe.objects.select_for_update().filter(slot=recipe.slot)
        rows.filter(state=Recipe.State.APPROVED).exclude(pk=recipe.pk).update(
            state=Recipe.State.RETIRED
        )
        rows.filter(pk=recipe.pk).update(
            state=Recipe.State.APPROVED,
            decided_by=by,
            decided_at=clock.real(),
            reason=reason[:REASON_CHARACTERS],
        )
    recipe.refresh_from_db()


def retire(recipe: Recipe, by: str, reason: str) -> None:
    """Take a recipe's approval back: a gated slot then keeps its model and gets no new one."""
    Recipe.objects.filter(pk=recipe.pk).update(
        state=Recipe.State.RETIRED,
        decided_by=by,
        decided_at=clock.real(),
        reason=reason[:REASON_CHARACTERS],
    )
    recipe.refresh_from_db()


def range_of(recipe: Recipe | None) -> RefitRange | None:
    """Return what a refit of a recipe may earn, None where no walk forward says."""
    if recipe is None:
        return None
    done = recipe.evaluations.filter(state="done").order_by("-finished_at").first()
    return RefitRange(**done.refit_range) if done and done.refit_range else None


def policy_of(slot: str) -> str:
    """Return a slot's policy: MODEL_POLICY is one for all, or like `gated,btc-1h=newest`.

    Simulated desks trade the newest model unless it says otherwise, so that one sees them trade.
    Raises ValueError for a policy or a slot that there is not.
    """
    # The last word that names the slot, or all of them, wins.
    chosen = NEWEST if settings.MODE == "simulated" else GATED
    for part in filter(None, (each.strip() for each in settings.MODEL_POLICY.split(","))):
        name, _, policy = part.rpartition("=")
        if policy not in (GATED, NEWEST) or (name and name not in SLOTS):
            raise ValueError(f"MODEL_POLICY: {part!r} is not gated, newest, or SLOT=one of them")
        if name in ("", slot):
            chosen = policy
    return chosen
