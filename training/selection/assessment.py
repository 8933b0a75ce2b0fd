"""What a walk forward came to: evidence, figures, verdict, and what its refits may earn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from markets.domain.bars import FloatArray
from training.evaluation import metrics
from training.evaluation.overfitting import deflated_sharpe, overfitting_probability
from training.evaluation.refit_gate import RefitRange, refit_range
from training.evaluation.splits import default_holdout_bars
from training.evaluation.verdict import Evidence, Verdict, judge
from training.selection.walkforward import FoldTest, WalkForward


@dataclass(frozen=True, slots=True)
class Assessment:
    """Hold what a walk forward came to."""

    evidence: Evidence
    verdict: Verdict
    by_fold: tuple[dict[str, Any], ...]
    figures: dict[str, float]
    refit_range: RefitRange
    returns: FloatArray
    """Of the median seed, a bar each."""


def assess(
    found: WalkForward, earlier: Sequence[float], competitors: Sequence[FloatArray] = ()
) -> Assessment:
    """Return the verdict on a walk forward.

    earlier are the Sharpe ratios a bar of the slot's earlier trials, competitors the returns
    (bars,) of other recipes on the very same bars.
    """
    seed = found.median_seed()
    returns = found.returns(seed)
    tests = [fold[seed] for fold in found.tests]
    random = np.sum([each.others for each in tests], axis=0)
    evidence = _evidence(found, returns, tests, random, earlier, competitors)
    allowed = refit_range(
        [found.returns(each) for each in range(found.seeds)], default_holdout_bars(found.bars)
    )
    by_fold = tuple(_fold_row(found, number, seed) for number in range(len(found.folds)))
    figures = _figures(found, returns, tests, random, evidence)
    return Assessment(evidence, judge(evidence), by_fold, figures, allowed, returns)


def _evidence(
    found: WalkForward,
    returns: FloatArray,
    tests: Sequence[FoldTest],
    random: FloatArray,
    earlier: Sequence[float],
    competitors: Sequence[FloatArray],
) -> Evidence:
    """Return what the verdict rests on.

    returns (bars,) and tests are the median seed's; random (paths,) are the net log returns of its
    positions at other times.
    """
    year = metrics.bars_per_year(found.closes_at)
    actions = np.concatenate([each.result.actions for each in tests])
    lots = np.concatenate([each.result.lots for each in tests])
    earned = float(np.log1p(returns).sum())

    def sharpe(series: FloatArray) -> float:
        return metrics.annual_sharpe(series, year)

    return Evidence(
        net_return=math.expm1(earned),
        sharpe=sharpe(returns),
        seed_sharpes=tuple(sharpe(found.returns(each)) for each in range(found.seeds)),
        hold_sharpe=sharpe(np.concatenate(found.hold)),
        ema_sharpe=sharpe(np.concatenate(found.ema)),
        random_share=float(np.mean(random < earned)),
        folds_won=_folds_won(tests, found.hold),
        folds=len(found.folds),
        # This trial is one of those it may be the luckiest of.
        confidence=deflated_sharpe(returns, [*earlier, metrics.sharpe(returns)]),
        trials=len(earlier) + 1,
        overfitting=_overfitting(returns, competitors),
        entropy=metrics.action_entropy(actions),
        orders=sum(len(each.result.path.trades) for each in tests),
        collapsed=metrics.collapse_reason(actions, lots),
        stressed_sharpe=sharpe(np.concatenate([each.stressed for each in tests])),
    )


def _figures(
    found: WalkForward,
    returns: FloatArray,
    tests: Sequence[FoldTest],
    random: FloatArray,
    evidence: Evidence,
) -> dict[str, float]:
    """Return what is shown beside the evidence, by name; the arrays are those of `_evidence`."""
    hold, ema = np.concatenate(found.hold), np.concatenate(found.ema)
    turnover = sum(each.result.path.turnover / each.result.path.equity[0] for each in tests)
    return {
        "net_return": evidence.net_return,
        "sharpe": evidence.sharpe,
        "max_drawdown": metrics.max_drawdown(_wealth(returns)),
        "turnover_per_bar": float(turnover) / len(returns),
        "orders": float(evidence.orders),
        "bars": float(len(returns)),
        "hold_return": _net_return(hold),
        "hold_sharpe": evidence.hold_sharpe,
        "hold_drawdown": metrics.max_drawdown(_wealth(hold)),
        "ema_return": _net_return(ema),
        "ema_sharpe": evidence.ema_sharpe,
        "ema_drawdown": metrics.max_drawdown(_wealth(ema)),
        "random_return": math.expm1(float(np.median(random))),
    }


def _folds_won(tests: Sequence[FoldTest], hold: Sequence[FloatArray]) -> int:
    earned = [metrics.net_return(each.result.path.equity) for each in tests]
    return sum(one > max(0.0, _net_return(other)) for one, other in zip(earned, hold, strict=True))


def _overfitting(returns: FloatArray, competitors: Sequence[FloatArray]) -> float | None:
    if not competitors:
        return None
    return overfitting_probability(np.stack([returns, *competitors], axis=1))


def _fold_row(found: WalkForward, number: int, seed: int) -> dict[str, Any]:
    split = found.folds[number]
    made = [each.result.path for each in found.tests[number]]
    lengths = np.cumsum([0, *(len(fold.holdout) for fold in found.folds)])
    return {
        "from": int(found.closes_at[lengths[number]]),
        "to": int(found.closes_at[lengths[number + 1] - 1]),
        "trained_bars": len(split.train),
        "bars": len(split.holdout),
        "net_return": metrics.net_return(made[seed].equity),
        "seed_returns": [metrics.net_return(path.equity) for path in made],
        "max_drawdown": made[seed].max_drawdown,
        "orders": len(made[seed].trades),
        "hold_return": _net_return(found.hold[number]),
        "ema_return": _net_return(found.ema[number]),
    }


def _wealth(returns: FloatArray) -> FloatArray:
    return np.concatenate(([1.0], np.cumprod(1.0 + returns)))


def _net_return(returns: FloatArray) -> float:
    return float(np.prod(1.0 + returns) - 1.0)


def to_json(found: Assessment) -> dict[str, Any]:
    """Return the evidence and figures for a record."""
    return {**asdict(found.evidence), **found.figures}


def sharpe_per_bar(found: Assessment) -> float:
    """Return the median seed's Sharpe ratio a bar, by which trials are compared."""
    return metrics.sharpe(found.returns)
