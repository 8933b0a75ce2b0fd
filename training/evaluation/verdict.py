"""Whether a recipe may trade: what a walk forward showed, check by check, in words.

Every check must pass. Bounds are stated here and nowhere else; Sharpe ratios are a year's, after
charges, slippage and funding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_CONFIDENCE = 0.95
"""Of the deflated Sharpe ratio: the chance that this is more than the luckiest of the trials."""
MAX_OVERFITTING = 0.5
MIN_RANDOM_SHARE = 0.95
"""Of the same positions at random other times, how many must have earned less."""
MIN_ENTROPY = 0.02
MIN_SEEDS, MIN_FOLDS = 3, 3
"""Of fewer one cannot tell a good recipe from a lucky one, so nothing is approved on them."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold what the verdict rests on; the strategy's figures are its median seed's."""

    net_return: float
    sharpe: float
    seed_sharpes: Sequence[float]
    hold_sharpe: float
    ema_sharpe: float
    random_share: float
    folds_won: int
    """In how many folds it earned more than flat and than buy-and-hold."""
    folds: int
    confidence: float
    trials: int
    overfitting: float | None
    """None with a single trial on these bars."""
    entropy: float
    orders: int
    collapsed: str | None
    stressed_sharpe: float
    """At twice the charges and slippage, and deciding a bar late."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer and the figures in a sentence."""

    name: str
    passed: bool
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold every check; approved where all passed."""

    checks: tuple[Check, ...]

    @property
    def approved(self) -> bool:
        """Return whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """Return the verdict with its reasons in one line."""
        failed = [check.said for check in self.checks if not check.passed]
        if not failed:
            return f"Approved: {len(self.checks)} of {len(self.checks)} checks passed."
        return f"Refused: {'; '.join(failed)}."


def judge(seen: Evidence) -> Verdict:
    """Return the verdict on what was seen."""
    return Verdict((*_earned(seen), *_beaten(seen), *_by_luck(seen), *_sound(seen)))


def _earned(seen: Evidence) -> list[Check]:
    good = sum(each > 0.0 for each in seen.seed_sharpes)
    seeds = len(seen.seed_sharpes)
    return [
        Check(
            "enough",
            seeds >= MIN_SEEDS and seen.folds >= MIN_FOLDS,
            f"{seen.folds} folds of {seeds} seed{'s' if seeds != 1 else ''} (at least "
            f"{MIN_FOLDS} of {MIN_SEEDS})",
        ),
        # Both: wide swings lose money compounded while their mean is above 0.
        Check(
            "flat",
            seen.sharpe > 0.0 and seen.net_return > 0.0,
            f"net {seen.net_return:+.1%}, net Sharpe {seen.sharpe:+.2f}, against flat's 0",
        ),
        Check(
            "seeds",
            good > seeds / 2,
            f"{good} of {seeds} seeds made money",
        ),
        Check(
            "folds",
            seen.folds_won > seen.folds / 2,
            f"ahead of flat and of buy-and-hold in {seen.folds_won} of {seen.folds} folds",
        ),
    ]


def _beaten(seen: Evidence) -> list[Check]:
    return [
        Check(
            "buy and hold",
            seen.sharpe > seen.hold_sharpe,
            f"net Sharpe {seen.sharpe:+.2f} against buy-and-hold's {seen.hold_sharpe:+.2f}",
        ),
        Check(
            "EMA cross",
            seen.sharpe > seen.ema_sharpe,
            f"net Sharpe {seen.sharpe:+.2f} against the EMA cross's {seen.ema_sharpe:+.2f}",
        ),
        Check(
            "random timing",
            seen.random_share >= MIN_RANDOM_SHARE,
            f"better than {seen.random_share:.0%} of the same positions at other times "
            f"({MIN_RANDOM_SHARE:.0%} wanted)",
        ),
    ]


def _by_luck(seen: Evidence) -> list[Check]:
    tried = f"{seen.trials} trial{'s' if seen.trials != 1 else ''}"
    checks = [
        Check(
            "deflated Sharpe",
            seen.confidence >= MIN_CONFIDENCE,
            f"{seen.confidence:.0%} sure that it is not the luckiest of {tried} "
            f"({MIN_CONFIDENCE:.0%} wanted)",
        )
    ]
    if seen.overfitting is not None:
        checks.append(
            Check(
                "overfitting",
                seen.overfitting <= MAX_OVERFITTING,
                f"the best trial of one half of the bars is below the middle of the other in "
                f"{seen.overfitting:.0%} of the ways to halve them (at most {MAX_OVERFITTING:.0%})",
            )
        )
    return checks


def _sound(seen: Evidence) -> list[Check]:
    alive = seen.collapsed is None and seen.orders > 0 and seen.entropy >= MIN_ENTROPY
    why = seen.collapsed or (
        "it never traded" if not seen.orders else f"action entropy {seen.entropy:.2f}"
    )
    return [
        Check(
            "not collapsed",
            alive,
            f"{seen.orders:,} orders, action entropy {seen.entropy:.2f}" if alive else why,
        ),
        Check(
            "stress",
            seen.stressed_sharpe > 0.0,
            f"net Sharpe {seen.stressed_sharpe:+.2f} at twice the costs and one bar late",
        ),
    ]
