"""Walk a recipe forward over a history, as its scheduled refits would have gone.

Each fold trains anew on all bars before it, several seeds each, and is tested on the bars after an
embargo, through the bots' own decision path with every cost on. The folds' tests follow each other,
so that a seed has one path of returns over half of the history; each test begins flat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bots.decision.engine import Policy, ReplayResult, SlotInputs, replay_slot
from bots.decision.observation import WINDOW, Float32Array
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from tradingsite.registry import Slot
from training.evaluation import baselines, metrics
from training.evaluation.splits import Split, walk_forward
from training.pipeline.dataset import Dataset
from training.rl.barppo import BarPPO
from training.rl.fit import fit, with_assumed_slippage
from training.rl.progress import Progress
from training.rl.torch_policy import TorchPolicy

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
        """Return a seed's returns (bars,) over all folds, one after the other."""
        return np.concatenate(
            [metrics.returns(fold[seed].result.path.equity) for fold in self.tests]
        )

    def median_seed(self) -> int:
        """Return the seed in the middle by its Sharpe ratio, the lower one of an even number."""
        # Not the best one: a lucky seed is not what will trade.
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
    report: Report = lambda done, total, text: None,
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
            text = f"fold {number + 1} of {folds}, seed {seed + 1} of {seeds}"
            done = number * seeds + seed
            report(done, total, text)
            model = fit(slot, data, split.train, recipe, seed, _progress(report, done, total, text))
            made.append(_test_model(slot, data, split, recipe, model, number, seed))
        tests.append(tuple(made))
        capital = float(made[0].result.path.equity[0])
        for found, returns in zip(
            (hold, ema), _baseline_returns(data, split, recipe["limit_lots"], capital), strict=True
        ):
            found.append(returns)
    report(total, total, "weighed")
    closes_at = np.concatenate([data.features.closes_at[split.holdout] for split in splits])
    return WalkForward(
        tuple(splits), tuple(tests), tuple(hold), tuple(ema), closes_at, len(data.features)
    )


def _baseline_returns(
    data: Dataset, split: Split, limit_lots: int, capital: float
) -> tuple[FloatArray, FloatArray]:
    """Return buy-and-hold's and the EMA cross's returns (bars,) on a fold's test."""
    panel, _ = _test_rows(data, split)
    bars = len(split.holdout)
    # Of all closes before the test too, as a trader's averages would be.
    closes = data.panel.close[: split.holdout.stop - 1]
    crossed = baselines.ema_cross(closes, limit_lots)[-bars:]
    hold, ema = (
        metrics.returns(baselines.simulate(panel.slice(WINDOW - 1), lots, capital).equity)
        for lots in (baselines.constant_lots(limit_lots, bars), crossed)
    )
    return hold, ema


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
    result = replay_slot(SlotInputs(slot.slug, panel, values, policy, limit))
    # Every row a bar later: what a bot decides whose data came too late for its bar.
    late = np.concatenate((values[:1], values[:-1]))
    dear = baselines.scale_costs(panel, STRESS_TIMES)
    stressed = replay_slot(SlotInputs(slot.slug, dear, late, policy, limit))
    moved = baselines.shifted_positions(result.lots, seed=fold)
    others = baselines.simulate(panel.slice(WINDOW - 1), moved, float(result.path.equity[0]))
    # An account that lost all has no logarithm: it counts as having next to nothing.
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


def _progress(report: Report, done: int, total: int, text: str) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.phase == "forecast":
            report(done, total, f"{text}: forecast {progress.forecast_epoch:.0f}")
        else:
            report(done, total, f"{text}: {progress.timesteps:,} steps")

    return tell
