"""A walk forward: nothing of the future, every cost, and a verdict that tells an edge from none."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from bots.decision.observation import WINDOW
from markets.domain.features import Features, schema_for
from tests.training.rl import toy
from tradingsite.registry import SLOTS
from training.evaluation.splits import TooFewBars
from training.pipeline.dataset import Dataset
from training.rl.hyperparameters import Hyperparameters
from training.rl.reward import RewardSettings
from training.selection import walkforward
from training.selection.assessment import assess
from training.selection.walkforward import WalkForward, run_walk_forward

SLOT = SLOTS["btc-4h"]


def toy_data(bars: int = 2_400, seed: int = 1) -> Dataset:
    panel, values = toy.mean_reverting(bars, seed)
    schema = replace(schema_for("btc", "4h"), names=tuple(f"f{i}" for i in range(toy.FEATURES)))
    return Dataset(Features(panel.opens_at, panel.closes_at, values, schema), panel, "toy")


def recipe(timesteps: int = 40_000) -> dict[str, Any]:
    learned = Hyperparameters(accounts=32, rollout_steps=64, batch_size=512, learning_rate=3e-3)
    return {
        "slot": SLOT.slug,
        "schema": "toy",
        "hyperparameters": learned.to_manifest(),
        "reward": asdict(RewardSettings()),
        "limit_lots": toy.LIMIT_LOTS,
        "slippage_bps": 1.0,
        "timesteps": timesteps,
    }


@pytest.fixture(scope="module")
def reports() -> list[tuple[int, int, str]]:
    return []


@pytest.fixture(scope="module")
def edge(reports: list[tuple[int, int, str]]) -> WalkForward:
    return run_walk_forward(SLOT, toy_data(), recipe(), 2, 2, lambda *told: reports.append(told))


def test_folds_follow_each_other_and_learn_from_before_only(edge: WalkForward) -> None:
    first, second = edge.folds
    assert (first.holdout, second.holdout) == (range(1_200, 1_800), range(1_800, 2_400))
    assert first.train == range(1_200 - WINDOW) and second.train == range(1_800 - WINDOW)
    for fold, split in zip(edge.tests, edge.folds, strict=True):
        for test in fold:
            # The first decision is at the close before the test, the first fill in its first bar.
            assert len(test.result.actions) == len(split.holdout)
            assert test.result.closes_at[0] == toy_data().panel.closes_at[split.holdout.start - 1]
    assert len(edge.returns(0)) == len(edge.closes_at) == 1_200


def test_progress_is_told(edge: WalkForward, reports: list[tuple[int, int, str]]) -> None:
    assert reports[0] == (0, 4, "fold 1 of 2, seed 1 of 2")
    assert reports[-1] == (4, 4, "weighed")
    assert any("steps" in text for _, _, text in reports)


def test_an_edge_is_approved(edge: WalkForward) -> None:
    assessment = assess(edge, [])
    failed = {check.name for check in assessment.verdict.checks if not check.passed}
    assert failed == {"enough"}, assessment.verdict.sentence  # two folds of two seeds are few
    assert assessment.evidence.trials == 1 and assessment.evidence.overfitting is None
    assert assessment.evidence.sharpe > 0.0 and assessment.evidence.random_share == 1.0
    assert assessment.figures["net_return"] == pytest.approx(
        np.prod(1.0 + assessment.returns) - 1.0
    )
    # This edge lasts for some bars, so that dear and late decisions still earn, and otherwise.
    assert 0.0 < assessment.evidence.stressed_sharpe != assessment.evidence.sharpe
    assert (
        assessment.refit_range.bars == 250
        and assessment.refit_range.low < assessment.refit_range.high
    )
    assert [fold["bars"] for fold in assessment.by_fold] == [600, 600]
    assert all(len(fold["seed_returns"]) == 2 for fold in assessment.by_fold)


def test_the_bars_after_a_fold_change_nothing_in_it(edge: WalkForward) -> None:
    data = toy_data()
    values, close = data.features.values.copy(), data.panel.close.copy()
    values[1_800:] = 9.0
    close[1_800:] *= 3.0
    other = Dataset(
        replace(data.features, values=values), replace(data.panel, close=close), "changed"
    )
    again = run_walk_forward(SLOT, other, recipe(), 2, 1)
    ours, theirs = edge.tests[0][0].result, again.tests[0][0].result
    np.testing.assert_array_equal(ours.actions, theirs.actions)
    np.testing.assert_array_equal(ours.path.equity, theirs.path.equity)
    np.testing.assert_array_equal(edge.ema[0], again.ema[0])


def test_noise_is_refused(edge: WalkForward) -> None:
    data = toy_data(seed=2)
    rows = np.random.default_rng(0).permutation(len(data.features))
    shuffled = replace(data.features, values=data.features.values[rows])
    assessment = assess(
        run_walk_forward(SLOT, replace(data, features=shuffled), recipe(20_000), 2, 1), []
    )
    assert not assessment.verdict.approved
    assert assessment.verdict.sentence.startswith("Refused: ")


def test_trials_count_against_what_they_found(edge: WalkForward) -> None:
    random = np.random.default_rng(3)
    alone, many = assess(edge, []), assess(edge, random.normal(0.0, 0.15, 60).tolist())
    assert many.evidence.trials == 61
    assert many.evidence.confidence < alone.evidence.confidence
    competitors = [random.permutation(alone.returns) - alone.returns.mean() for _ in range(5)]
    assert assess(edge, [], competitors).evidence.overfitting == pytest.approx(0.0, abs=0.05)


def test_too_few_bars_are_said() -> None:
    with pytest.raises(TooFewBars, match="fewer folds"):
        run_walk_forward(SLOT, toy_data(1_000), recipe(), 6, 1)
    with pytest.raises(ValueError, match="at least 1"):
        run_walk_forward(SLOT, toy_data(), recipe(), 2, 0)
    assert walkforward.STRESS_TIMES == 2.0
