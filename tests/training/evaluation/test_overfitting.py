"""Deflated Sharpe ratios and the probability of overfitting: papers and known truths."""

import math
from itertools import combinations

import numpy as np
import pytest

from training.evaluation import overfitting
from training.evaluation.metrics import sharpe


def noise(bars: int, trials: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(bars, trials)) * 0.01


def test_the_papers_own_example() -> None:
    # Bailey and López de Prado 2014: 100 trials whose annual Sharpe ratios vary by 0.5, five years
    # of days, an annual 2.5 with a skewness of -3 and a kurtosis of 10.
    luckiest = overfitting.luckiest_sharpe(100, 0.5 / 250)
    assert luckiest == pytest.approx(0.1132, abs=1e-4)
    confidence = overfitting._confidence(2.5 / math.sqrt(250), luckiest, 1_250, -3.0, 10.0)
    assert confidence == pytest.approx(0.9004, abs=1e-4)


def test_the_luckiest_of_noise_is_as_lucky_as_said() -> None:
    best = [max(sharpe(column) for column in noise(500, 50, seed).T) for seed in range(60)]
    variance = float(np.var([sharpe(column) for column in noise(500, 400).T], ddof=1))
    assert np.mean(best) == pytest.approx(overfitting.luckiest_sharpe(50, variance), rel=0.08)


def test_more_trials_deflate_the_same_result() -> None:
    earned = noise(1_000, 1)[:, 0] + 0.0008
    alone = overfitting.deflated_sharpe(earned, [sharpe(earned)])
    assert alone == overfitting.probabilistic_sharpe(earned)
    few = [sharpe(earned), *np.random.default_rng(1).normal(0.0, 0.03, 4)]
    many = [*few, *np.random.default_rng(2).normal(0.0, 0.03, 95)]
    assert alone > overfitting.deflated_sharpe(earned, few)
    assert overfitting.deflated_sharpe(earned, few) > overfitting.deflated_sharpe(earned, many)


def test_losses_in_the_tail_cost_confidence() -> None:
    random = np.random.default_rng(3)
    even = random.normal(0.001, 0.01, 2_000)
    crashes = even.copy()
    crashes[::200] -= 0.08
    crashes += even.mean() - crashes.mean()
    crashes = (crashes - crashes.mean()) * even.std() / crashes.std() + even.mean()
    assert sharpe(crashes) == pytest.approx(sharpe(even))
    assert overfitting.probabilistic_sharpe(crashes) < overfitting.probabilistic_sharpe(even)


def test_an_account_that_never_moved_proves_nothing() -> None:
    assert overfitting.probabilistic_sharpe(np.zeros(100)) == 0.5


def test_noise_is_overfitted_half_the_time_and_an_edge_is_not() -> None:
    found = [overfitting.overfitting_probability(noise(1_200, 10, seed)) for seed in range(12)]
    assert 0.35 < np.mean(found) < 0.65
    edge = noise(1_200, 10)
    edge[:, 3] += 0.004
    assert overfitting.overfitting_probability(edge) < 0.02


def test_it_is_what_a_plain_loop_counts() -> None:
    returns = noise(120, 4, seed=5)
    parts = np.array_split(returns, 4)
    below = []
    for half in combinations(range(4), 2):
        seen = np.concatenate([parts[block] for block in half])
        rest = np.concatenate([parts[block] for block in range(4) if block not in half])
        best = int(np.argmax(seen.mean(axis=0) / seen.std(axis=0)))
        ratios = rest.mean(axis=0) / rest.std(axis=0)
        rank = 1 + int((ratios < ratios[best]).sum())
        below.append(math.log(rank / 5 / (1 - rank / 5)) <= 0.0)
    assert overfitting.overfitting_probability(returns, 4) == pytest.approx(np.mean(below))


@pytest.mark.parametrize(
    ("shape", "blocks", "said"),
    [((100, 1), 12, "one trial"), ((100, 3), 5, "even number"), ((10, 3), 12, "10 bars")],
)
def test_what_cannot_be_judged_is_refused(shape: tuple[int, int], blocks: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        overfitting.overfitting_probability(np.zeros(shape), blocks)
