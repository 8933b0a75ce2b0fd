"""How likely a good result is luck: deflated Sharpe ratios and the probability of overfitting.

Sharpe ratios here are per bar, not annualised. Sources: Bailey and López de Prado, The Deflated
Sharpe Ratio, Journal of Portfolio Management 40 (2014); Bailey, Borwein, López de Prado and Zhu,
The Probability of Backtest Overfitting, Journal of Computational Finance 20 (2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np

from markets.domain.bars import FloatArray
from training.evaluation.metrics import sharpe

BLOCKS = 12
"""Parts a history is cut into: 924 ways to choose half of them."""

_NORMAL = NormalDist()
_EULER = 0.5772156649015329


def probabilistic_sharpe(bar_returns: FloatArray, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above a benchmark.

    bar_returns are (n,). Skewness and fat tails widen the doubt. Returns 0.5 for returns that never
    moved.
    """
    ratio, count = sharpe(bar_returns), len(bar_returns)
    deviation = float(np.std(bar_returns)) if count > 1 else 0.0
    if deviation <= 1e-15:
        return 0.5
    scaled = (bar_returns - bar_returns.mean()) / deviation
    return _confidence(
        ratio, benchmark, count, float(np.mean(scaled**3)), float(np.mean(scaled**4))
    )


def luckiest_sharpe(trials: int, variance: float) -> float:
    """Return the Sharpe ratio to expect of the best of so many worthless trials.

    variance is that of the trials' Sharpe ratios.
    """
    if trials < 2:
        return 0.0
    first = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    second = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(max(variance, 0.0)) * ((1.0 - _EULER) * first + _EULER * second)


def deflated_sharpe(bar_returns: FloatArray, trial_sharpes: Sequence[float]) -> float:
    """Return the probability that a result is better than the luckiest of all trials would be.

    bar_returns are (n,), trial_sharpes the Sharpe ratios of every trial that was made, this one's
    among them.
    """
    trials = len(trial_sharpes)
    variance = float(np.var(trial_sharpes, ddof=1)) if trials > 1 else 0.0
    return probabilistic_sharpe(bar_returns, luckiest_sharpe(trials, variance))


def overfitting_probability(trial_returns: FloatArray, blocks: int = BLOCKS) -> float:
    """Return how often the best trial of one half of history is below the median of the other.

    trial_returns are (bars, trials), every trial on the same bars; combinatorially symmetric
    cross-validation over `blocks` consecutive parts, an even number. Raises ValueError for fewer
    than two trials or bars than blocks.
    """
    bars, trials = trial_returns.shape
    if trials < 2:
        raise ValueError("one trial cannot be overfitted against others")
    if blocks % 2 or not 2 <= blocks <= bars // 2:
        raise ValueError(f"{bars} bars do not make {blocks} blocks, an even number of them")
    # Sums of the blocks are enough for the Sharpe ratio of any half: no half is put together.
    parts = np.array_split(trial_returns, blocks)
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    sums = np.stack([part.sum(axis=0) for part in parts])
    squares = np.stack([(part * part).sum(axis=0) for part in parts])
    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for row, half in enumerate(combinations(range(blocks), blocks // 2)):
        chosen[row, list(half)] = 1.0
    seen = _sharpes(chosen, counts, sums, squares)
    unseen = _sharpes(1.0 - chosen, counts, sums, squares)
    rows = np.arange(len(chosen))
    best = unseen[rows, seen.argmax(axis=1)][:, None]
    # Ranks from 1 to trials; ties, as of a trial entered twice, share theirs.
    below = (unseen < best).sum(axis=1) + 0.5 * ((unseen == best).sum(axis=1) - 1.0)
    relative = (below + 1.0) / (trials + 1.0)
    return float(np.mean(relative <= 0.5))


def _confidence(ratio: float, benchmark: float, count: int, skew: float, kurtosis: float) -> float:
    spread = 1.0 - skew * ratio + 0.25 * (kurtosis - 1.0) * ratio * ratio
    return _NORMAL.cdf((ratio - benchmark) * math.sqrt(count - 1.0) / math.sqrt(max(spread, 1e-12)))


def _sharpes(
    chosen: FloatArray, counts: FloatArray, sums: FloatArray, squares: FloatArray
) -> FloatArray:
    """Return the Sharpe ratio (choices, trials) over the blocks that each row chooses."""
    bars = (chosen @ counts)[:, None]
    mean = chosen @ sums / bars
    variance = np.maximum(chosen @ squares / bars - mean * mean, 0.0)
    deviation = np.sqrt(variance)
    ratios: FloatArray = np.divide(
        mean, deviation, out=np.zeros_like(mean), where=deviation > 1e-15
    )
    return ratios
