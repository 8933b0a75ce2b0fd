"""Target weights: which assets are known well enough, and what each of them gets.

The weights are hierarchical risk parity, by skfolio: it needs no expected returns, which nobody
has, and no inverse of a matrix that few data determine badly. Correlated assets share the weight of
their branch, and within a branch the calmer one gets more. Long only, and they add up to one.

skfolio was chosen of the well-kept libraries as the smallest that the locked versions allow: 190 MB
beside the scipy and pandas that the options' volatilities bring anyway, where PyPortfolioOpt 1.6
does not resolve and riskfolio-lib takes 1.2 GB. Loaded it takes 190 MB of memory for one sum a
month, so it runs in a process of its own: `python -m markets.allocator.weights` reads the returns
from its input and writes the weights.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from markets.allocator import metrics
from markets.allocator.metrics import FEWEST_WEEKS, STILL, WINDOW_MONTHS, Series, Weekly
from markets.domain.bars import FloatArray

METHOD = "hierarchical risk parity of weekly returns"
FEWEST_ASSETS = 2
PATIENCE_SECONDS = 300
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Choice:
    """Say which assets are weighted, on which returns, and why the others are not."""

    weekly: Weekly
    reasons: dict[str, str]
    """Of the assets that get no weight."""
    note: str = ""
    """Why there are no weights at all."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Hold the target weights, which add up to one, or none and the reason."""

    weights: dict[str, float] = field(default_factory=dict)
    method: str = ""
    note: str = ""


class CannotWeigh(RuntimeError):
    """The process that works out the weights failed; the message has its last words."""


def choose(all_series: Sequence[Series], as_of: dt.date) -> Choice:
    """Return which assets can be weighted as of a date: a year known, up to now, that moves."""
    reasons = {series.name: why_not(series, as_of) for series in all_series}
    fit = [series for series in all_series if not reasons[series.name]]
    reasons = {name: reason for name, reason in reasons.items() if reason}
    weekly = metrics.weekly(fit, as_of)
    note = ""
    if len(fit) < FEWEST_ASSETS:
        note = "one asset only: no weights" if fit else "no asset that is known: no weights"
    elif len(weekly.returns) < FEWEST_WEEKS:
        note = f"only {len(weekly.returns)} weeks that all assets have: no weights"
    return Choice(weekly, reasons, note)


def why_not(series: Series, as_of: dt.date) -> str:
    """Return why an asset gets no weight, "" where it may get one."""
    known = series.before(as_of)
    if known.first_on is None or known.last_on is None:
        return "it has no closes"
    if known.level_at(as_of) is None:
        return f"its last close is of {known.last_on:%d %b %Y}"
    if known.level_at(metrics.months_back(as_of, WINDOW_MONTHS)) is None:
        return f"it has fewer than {WINDOW_MONTHS} months of closes, from {known.first_on:%d %b %Y}"
    returns = metrics.weekly([series], as_of).returns
    if len(returns) < FEWEST_WEEKS:
        return f"it has only {len(returns)} whole weeks"
    if np.std(returns) <= STILL:
        return "its price does not move"
    return ""


def target_weights(names: Sequence[str], returns: FloatArray) -> Targets:
    """Return the weights of assets by their weekly returns, one column an asset."""
    import skfolio
    from skfolio import RiskMeasure
    from skfolio.optimization import HierarchicalRiskParity

    with warnings.catch_warnings():
        # Two assets that move as one have no definite matrix; the method needs none.
        warnings.filterwarnings("ignore", "The covariance matrix is not positive definite")
        model = HierarchicalRiskParity(risk_measure=RiskMeasure.VARIANCE)
        found = model.fit(returns).weights_
    shares = np.clip(found, 0.0, None) / np.clip(found, 0.0, None).sum()
    weights = dict(zip(names, map(float, shares), strict=True))
    return Targets(weights, f"{METHOD}, skfolio {skfolio.__version__}")


def weigh(choice: Choice) -> Targets:
    """Return the weights of a choice, worked out in a process of its own; raise CannotWeigh."""
    if choice.note:
        return Targets(note=choice.note)
    asked = {"names": list(choice.weekly.names), "returns": choice.weekly.returns.tolist()}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=ROOT,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CannotWeigh(f"the target weights could not be worked out: {last}")
    answer: Mapping[str, object] = json.loads(done.stdout)
    return Targets(**answer)  # type: ignore[arg-type]  # what `main` wrote


def main() -> None:
    """Answer the question on the standard input."""
    asked = json.load(sys.stdin)
    found = target_weights(asked["names"], np.array(asked["returns"], dtype=np.float64))
    json.dump({"weights": found.weights, "method": found.method}, sys.stdout)


if __name__ == "__main__":
    main()
