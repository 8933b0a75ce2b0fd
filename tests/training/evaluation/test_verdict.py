"""Verdicts that a person can read: each check fails alone, and says its figures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from training.evaluation import refit_gate
from training.evaluation.refit_gate import RefitRange, judge_refit, refit_range
from training.evaluation.verdict import Evidence, judge

GOOD = Evidence(
    net_return=0.3,
    sharpe=1.4,
    seed_sharpes=(1.2, 1.4, 1.9),
    hold_sharpe=0.6,
    ema_sharpe=0.2,
    random_share=0.99,
    folds_won=4,
    folds=5,
    confidence=0.97,
    trials=3,
    overfitting=0.2,
    entropy=0.4,
    orders=210,
    collapsed=None,
    stressed_sharpe=0.5,
)


def test_all_that_is_wanted_is_approved() -> None:
    verdict = judge(GOOD)
    assert verdict.approved
    assert verdict.sentence == "Approved: 11 of 11 checks passed."


@pytest.mark.parametrize(
    ("changes", "failed", "said"),
    [
        ({"hold_sharpe": 1.5}, {"buy and hold"}, "net Sharpe +1.40 against buy-and-hold's +1.50"),
        ({"ema_sharpe": 1.4}, {"EMA cross"}, "against the EMA cross's +1.40"),
        ({"random_share": 0.9}, {"random timing"}, "better than 90% of the same positions"),
        ({"seed_sharpes": (1.4, 1.4)}, {"enough"}, "5 folds of 2 seeds (at least 3 of 3)"),
        ({"folds": 2, "folds_won": 2}, {"enough"}, "2 folds of 3 seeds"),
        ({"folds_won": 2}, {"folds"}, "in 2 of 5 folds"),
        ({"seed_sharpes": (-1.0, -0.1, 1.4)}, {"seeds"}, "1 of 3 seeds made money"),
        ({"confidence": 0.94}, {"deflated Sharpe"}, "94% sure that it is not the luckiest of 3"),
        ({"overfitting": 0.51}, {"overfitting"}, "51% of the ways to halve them"),
        ({"orders": 0}, {"not collapsed"}, "it never traded"),
        ({"entropy": 0.01}, {"not collapsed"}, "action entropy 0.01"),
        ({"collapsed": 'it answered "hold"'}, {"not collapsed"}, 'it answered "hold"'),
        ({"stressed_sharpe": -0.1}, {"stress"}, "-0.10 at twice the costs and one bar late"),
        ({"net_return": -0.08}, {"flat"}, "net -8.0%, net Sharpe +1.40, against flat's 0"),
        (
            {"sharpe": -0.2},
            {"flat", "buy and hold", "EMA cross"},
            "net Sharpe -0.20, against flat's 0",
        ),
    ],
)
def test_each_check_refuses_with_its_figures(
    changes: dict[str, Any], failed: set[str], said: str
) -> None:
    verdict = judge(replace(GOOD, **changes))
    assert {check.name for check in verdict.checks if not check.passed} == failed
    assert verdict.sentence.startswith("Refused: ") and said in verdict.sentence


def test_a_single_trial_has_no_overfitting_to_count() -> None:
    assert judge(replace(GOOD, overfitting=None, trials=1)).approved


def test_the_range_is_that_of_as_many_bars() -> None:
    random = np.random.default_rng(0)
    seeds = [random.normal(0.0005, 0.01, 2_000) for _ in range(3)]
    found = refit_range(seeds, 250)
    sums = np.concatenate(
        [[np.prod(1.0 + each[i : i + 250]) - 1.0 for i in range(1_751)] for each in seeds]
    )
    assert found.bars == 250
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(sums, refit_gate.RANGE)))
    assert refit_range(seeds, 9_000).bars == 2_000


@pytest.mark.parametrize(
    ("earned", "collapsed", "verdict", "said"),
    [
        (0.02, None, refit_gate.APPROVED, "+2.00% over 250 unseen bars"),
        (-0.09, None, refit_gate.REFUSED, "worse than its recipe ever was"),
        (0.5, None, refit_gate.REFUSED, "too good to be true"),
        (0.02, 'it answered "hold" on 100.0% of 250 bars', refit_gate.REFUSED, "collapsed"),
    ],
)
def test_a_refit_is_held_to_its_recipe(
    earned: float, collapsed: str | None, verdict: str, said: str
) -> None:
    found = judge_refit(earned, 250, collapsed, RefitRange(250, -0.08, 0.12), "abc")
    assert found.verdict == verdict and said in found.reason
    assert found.to_manifest()["recipe"] == "abc"


def test_without_a_recipe_nothing_can_be_said() -> None:
    found = judge_refit(0.02, 250, None, None, "")
    assert found.verdict == refit_gate.NO_RECIPE and "manage.py evaluate" in found.reason


def test_more_bars_have_a_wider_range() -> None:
    allowed = RefitRange(250, -0.08, 0.12)
    assert judge_refit(-0.12, 250, None, allowed, "").verdict == refit_gate.REFUSED
    assert judge_refit(-0.12, 1_000, None, allowed, "").verdict == refit_gate.APPROVED
