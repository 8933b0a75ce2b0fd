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
    sentence: str


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
        failed = [check.sentence for check in self.checks if not check.passed]
        if not failed:
            return f"Approved: {len(self.checks)} of {len(self.checks)} checks passed."
        return f"Refused: {'; '.join(failed)}."


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict on a walk forward's evidence."""
    return Verdict(
        (
            *_profit_checks(evidence),
            *_baseline_checks(evidence),
            *_luck_checks(evidence),
            *_behaviour_checks(evidence),
        )
    )


def _profit_checks(evidence: Evidence) -> list[Check]:
    good = sum(each > 0.0 for each in evidence.seed_sharpes)
    seeds = len(evidence.seed_sharpes)
    return [
        Check(
            "enough",
            seeds >= MIN_SEEDS and evidence.folds >= MIN_FOLDS,
            f"{evidence.folds} folds of {seeds} seed{'s' if seeds != 1 else ''} (at least "
            f"{MIN_FOLDS} of {MIN_SEEDS})",
        ),
        # Both: wide swings lose money compounded while their mean is above 0.
        Check(
            "flat",
            evidence.sharpe > 0.0 and evidence.net_return > 0.0,
            f"net {evidence.net_return:+.1%}, net Sharpe {evidence.sharpe:+.2f}, against flat's 0",
        ),
        Check(
            "seeds",
            good > seeds / 2,
            f"{good} of {seeds} seeds made money",
        ),
        Check(
            "folds",
            evidence.folds_won > evidence.folds / 2,
            f"ahead of flat and of buy-and-hold in {evidence.folds_won} of {evidence.folds} folds",
        ),
    ]


def _baseline_checks(evidence: Evidence) -> list[Check]:
    return [
        Check(
            "buy and hold",
            evidence.sharpe > evidence.hold_sharpe,
            f"net Sharpe {evidence.sharpe:+.2f} against buy-and-hold's {evidence.hold_sharpe:+.2f}",
        ),
        Check(
            "EMA cross",
            evidence.sharpe > evidence.ema_sharpe,
            f"net Sharpe {evidence.sharpe:+.2f} against the EMA cross's {evidence.ema_sharpe:+.2f}",
        ),
        Check(
            "random timing",
            evidence.random_share >= MIN_RANDOM_SHARE,
            f"better than {evidence.random_share:.0%} of the same positions at other times "
            f"({MIN_RANDOM_SHARE:.0%} wanted)",
        ),
    ]


def _luck_checks(evidence: Evidence) -> list[Check]:
    tried = f"{evidence.trials} trial{'s' if evidence.trials != 1 else ''}"
    checks = [
        Check(
            "deflated Sharpe",
            evidence.confidence >= MIN_CONFIDENCE,
            f"{evidence.confidence:.0%} sure that it is not the luckiest of {tried} "
            f"({MIN_CONFIDENCE:.0%} wanted)",
        )
    ]
    if evidence.overfitting is not None:
        checks.append(
            Check(
                "overfitting",
                evidence.overfitting <= MAX_OVERFITTING,
                f"the best trial of one half of the bars is below the middle of the other in "
                f"{evidence.overfitting:.0%} of the ways to halve them "
                f"(at most {MAX_OVERFITTING:.0%})",
            )
        )
    return checks


def _behaviour_checks(evidence: Evidence) -> list[Check]:
    alive = evidence.collapsed is None and evidence.orders > 0 and evidence.entropy >= MIN_ENTROPY
    why = evidence.collapsed or (
        "it never traded" if not evidence.orders else f"action entropy {evidence.entropy:.2f}"
    )
    return [
        Check(
            "not collapsed",
            alive,
            f"{evidence.orders:,} orders, action entropy {evidence.entropy:.2f}" if alive else why,
        ),
        Check(
            "stress",
            evidence.stressed_sharpe > 0.0,
            f"net Sharpe {evidence.stressed_sharpe:+.2f} at twice the costs and one bar late",
        ),
    ]
