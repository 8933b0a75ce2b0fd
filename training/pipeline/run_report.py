"""What came of a training run, in sentences for a terminal."""

from __future__ import annotations

from typing import Any

from bots.modelstore import services as modelstore
from tradingsite.errors import cause_in
from training.models import TrainingRun
from training.pipeline import folders


def run_report(run: TrainingRun) -> list[str]:
    """Return the lines about a run that is over: its model, or why there is none."""
    if run.state != TrainingRun.State.DONE:
        return [f"{run.slot}: {run.state}. {cause_in(run.detail) or 'nothing works on it now'}"]
    holdout, baselines = run.metrics["holdout"], run.metrics["baselines"]
    version = modelstore.get(run.slot, run.model_number or 0)
    trades = version.state == version.State.ACTIVE
    outcome = "is active" if trades else f"waits ({version.reason})"
    lines = [
        f"{version} {outcome}. Held out, after charges and slippage: "
        f"{holdout['net_return']:+.2%} in {holdout['trades']} orders; flat +0.00%, "
        f"buy-and-hold {baselines['buy_and_hold']['net_return']:+.2%}."
    ]
    if "owner" in holdout:
        lines.append(owner_similarity(holdout["owner"]))
    picture = folders.charts_of(run)
    if picture.exists():
        lines.append(f"Its charts: {picture}")
    return lines


def owner_similarity(figures: dict[str, Any]) -> str:
    """Return how like the owner a personal model is, beside its clone, holding and copying him."""

    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.0%}"

    lines = [
        f"Like the owner, on the held-out bars ({figures['model']['decisions']} trades of his):"
    ]
    for name, title in (("model", "the model"), ("clone", "its clone")):
        found = figures[name]
        sides = ", ".join(
            f"{side} {share(found[f'{side}_share'])} (he {share(found[f'owner_{side}_share'])})"
            for side in ("long", "short")
        )
        lines.append(
            f"  {title:<12} makes {share(found['recall'])} of his trades, "
            f"{share(found['precision'])} of its own are his; same side {share(found['overlap'])}, "
            f"{sides}; net {found['net_return']:+.2%}"
        )
    lines.append(
        f"  always hold  same side {share(figures['always_hold']['overlap'])}, net +0.00%; "
        f"just copy me  net {figures['just_copy_me']['net_return']:+.2%}, which nobody can: it "
        "knows his trades before he makes them"
    )
    return "\n".join(lines)
