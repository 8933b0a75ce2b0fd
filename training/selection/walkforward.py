"""Walk a recipe forward over a history, as its scheduled refits would have gone, and weigh it.

Each fold trains anew on all bars before it, several seeds each, and is tested on the bars after an
embargo, through the bots' own decision path with every cost on. The folds' tests follow each other,
so that a seed has one path of returns over half of the history; each test begins flat.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bots.decision.engine import Policy, ReplayResult, SlotTape, replay_slot
from bots.decision.observation import WINDOW, Float32Array
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from tradingsite.registry import Slot
from training.evaluation import baselines, metrics
from training.evaluation.overfitting import deflated_sharpe, overfitting_probability
from training.evaluation.refit_gate import RefitRange, refit_range
from training.evaluation.splits import Split, default_holdout_bars, walk_forward
from training.evaluation.verdict import Evidence, Verdict, judge
from training.pipeline.dataset import Dataset
from training.pipeline.trainer import fit, with_assumed_slippage
from training.rl.barppo import BarPPO
from training.rl.onnx_export import TorchPolicy
from training.rl.progress import Progress

STRESS_TIMES = 2.0
"""By how much charges and slippage are raised under stress; the decisions come a bar late too."""

Report = Callable[[int, int, str], None]
"""Called with the trainings done, how many there are, and what is being done."""


@dataclass(frozen=True, slots=True)
class FoldTest:
    """Hold one model's test: the replay, and the same under stress."""

    fold: int
    seed: int
    result: ReplayResult
    stressed: FloatArray
    """Returns a bar at twice the costs and a bar late."""
    others: FloatArray
    """Net log returns of the same positions at other times, (paths,)."""


@dataclass(frozen=True, slots=True)
class WalkForward:
    """Hold every test of a walk forward, and what else could have been held on the same bars."""

    folds: tuple[Split, ...]
    tests: tuple[tuple[FoldTest, ...], ...]
    """By fold, then by seed."""
    hold: tuple[FloatArray, ...]
    ema: tuple[FloatArray, ...]
    """Returns a bar, by fold."""
    closes_at: IntArray
    """Of the tested bars, all folds after each other."""
    bars: int
    """Of the whole history."""

    @property
    def seeds(self) -> int:
        """Return how many models each fold has."""
        return len(self.tests[0])

    def returns(self, seed: int) -> FloatArray:
        """Return a seed's returns a bar over all folds."""
        return np.concatenate(
            [metrics.returns(fold[seed].result.path.equity) for fold in self.tests]
        )

    def median_seed(self) -> int:
        """Return the seed in the middle by its Sharpe ratio, the lower one of an even number."""
        ratios = [metrics.sharpe(self.returns(seed)) for seed in range(self.seeds)]
        return int(np.argsort(ratios)[(self.seeds - 1) // 2])

    @property
    def tested(self) -> str:
        """Return a hash of the tested bars: trials on the same ones can be compared."""
        return hashlib.sha256(np.ascontiguousarray(self.closes_at).tobytes()).hexdigest()


def run_walk_forward(
    slot: Slot,
    data: Dataset,
    recipe: dict[str, Any],
    folds: int,
    seeds: int,
    report: Report = lambda done, total, said: None,
) -> WalkForward:
    """Return the walk forward of a recipe over all rows of a dataset.

    Raises TooFewBars, ValueError for folds or seeds that make no sense, and TrainingDiverged.
    """
    if seeds < 1:
        raise ValueError(f"{seeds} seeds: at least 1, better 3")
    data = with_assumed_slippage(data, recipe)
    splits = walk_forward(len(data.features), folds, window=WINDOW)
    total = folds * seeds
    tests: list[tuple[FoldTest, ...]] = []
    hold: list[FloatArray] = []
    ema: list[FloatArray] = []
    for number, split in enumerate(splits):
        made = []
        for seed in range(seeds):
            said = f"fold {number + 1} of {folds}, seed {seed + 1} of {seeds}"
            done = number * seeds + seed
            report(done, total, said)
            told = _progress(report, done, total, said)
            model = fit(slot, data, split.train, recipe, seed, told)
            made.append(_test_model(slot, data, split, recipe, model, number, seed))
        tests.append(tuple(made))
        cut, _ = _test_rows(data, split)
        capital = float(made[0].result.path.equity[0])
        limit = recipe["limit_lots"]
        closes = data.panel.close[: split.holdout.stop - 1]
        crossed = baselines.ema_cross(closes, limit)[-len(split.holdout) :]
        for lots, found in (
            (baselines.constant_lots(limit, len(split.holdout)), hold),
            (crossed, ema),
        ):
            followed = baselines.simulate(cut.slice(WINDOW - 1), lots, capital)
            found.append(metrics.returns(followed.equity))
    report(total, total, "weighed")
    closes_at = np.concatenate([data.features.closes_at[split.holdout] for split in splits])
    return WalkForward(
        tuple(splits), tuple(tests), tuple(hold), tuple(ema), closes_at, len(data.features)
    )


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
    hold, ema = np.concatenate(found.hold), np.concatenate(found.ema)
    year = metrics.bars_per_year(found.closes_at)
    median_tests = [fold[seed] for fold in found.tests]
    actions = np.concatenate([each.result.actions for each in median_tests])
    lots = np.concatenate([each.result.lots for each in median_tests])
    stressed = np.concatenate([each.stressed for each in median_tests])
    others = np.sum([each.others for each in median_tests], axis=0)
    earned = float(np.log1p(returns).sum())
    orders = sum(len(each.result.path.trades) for each in median_tests)
    turnover = sum(each.result.path.turnover / each.result.path.equity[0] for each in median_tests)
    evidence = Evidence(
        net_return=math.expm1(earned),
        sharpe=metrics.annual_sharpe(returns, year),
        seed_sharpes=tuple(
            metrics.annual_sharpe(found.returns(each), year) for each in range(found.seeds)
        ),
        hold_sharpe=metrics.annual_sharpe(hold, year),
        ema_sharpe=metrics.annual_sharpe(ema, year),
        random_share=float(np.mean(others < earned)),
        folds_won=_folds_won(median_tests, found.hold),
        folds=len(found.folds),
        confidence=deflated_sharpe(returns, [*earlier, metrics.sharpe(returns)]),
        trials=len(earlier) + 1,
        overfitting=_overfitting(returns, competitors),
        entropy=metrics.action_entropy(actions),
        orders=orders,
        collapsed=metrics.collapse_reason(actions, lots),
        stressed_sharpe=metrics.annual_sharpe(stressed, year),
    )
    figures = {
        "net_return": math.expm1(earned),
        "sharpe": evidence.sharpe,
        "max_drawdown": metrics.max_drawdown(_wealth(returns)),
        "turnover_per_bar": float(turnover) / len(returns),
        "orders": float(orders),
        "bars": float(len(returns)),
        "hold_return": _net_return(hold),
        "hold_sharpe": evidence.hold_sharpe,
        "hold_drawdown": metrics.max_drawdown(_wealth(hold)),
        "ema_return": _net_return(ema),
        "ema_sharpe": evidence.ema_sharpe,
        "ema_drawdown": metrics.max_drawdown(_wealth(ema)),
        "random_return": math.expm1(float(np.median(others))),
    }
    allowed = refit_range(
        [found.returns(each) for each in range(found.seeds)], default_holdout_bars(found.bars)
    )
    by_fold = tuple(_fold_row(found, number, seed) for number in range(len(found.folds)))
    return Assessment(evidence, judge(evidence), by_fold, figures, allowed, returns)


def _test_model(
    slot: Slot,
    data: Dataset,
    split: Split,
    recipe: dict[str, Any],
    model: BarPPO,
    fold: int,
    seed: int,
) -> FoldTest:
    panel, values = _test_rows(data, split)
    policy: Policy = TorchPolicy(model)
    limit = recipe["limit_lots"]
    result = replay_slot(SlotTape(slot.slug, panel, values, policy, limit))
    late = np.concatenate((values[:1], values[:-1]))
    dear = baselines.scale_costs(panel, STRESS_TIMES)
    stressed = replay_slot(SlotTape(slot.slug, dear, late, policy, limit))
    moved = baselines.shifted_positions(result.lots, seed=fold)
    others = baselines.simulate(panel.slice(WINDOW - 1), moved, float(result.path.equity[0]))
    growth = others.equity[:, -1] / others.equity[:, 0]
    return FoldTest(
        fold,
        seed,
        result,
        metrics.returns(stressed.path.equity),
        np.log(np.maximum(growth, 1e-9)),
    )


def _test_rows(data: Dataset, split: Split) -> tuple[PricePanel, Float32Array]:
    """Return the rows of a test, with the window before its first decision."""
    rows = slice(split.holdout.start - WINDOW, split.holdout.stop)
    return data.panel.slice(rows.start, rows.stop), data.features.values[rows]


def _progress(report: Report, done: int, total: int, said: str) -> Callable[[Progress], None]:
    def told(progress: Progress) -> None:
        if progress.phase == "forecast":
            report(done, total, f"{said}: forecast {progress.forecast_epoch:.0f}")
        else:
            report(done, total, f"{said}: {progress.timesteps:,} steps")

    return told


def _folds_won(median_tests: Sequence[FoldTest], hold: Sequence[FloatArray]) -> int:
    earned = [metrics.net_return(each.result.path.equity) for each in median_tests]
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
