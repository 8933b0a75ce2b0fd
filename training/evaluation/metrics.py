"""Figures of a replayed account, for the gate, the reports and the dashboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bots.decision.accounting import max_drawdown
from bots.decision.actions import DELTAS, NAMES
from bots.decision.engine import ReplayResult
from markets.domain.bars import FloatArray, IntArray

__all__ = [
    "Summary",
    "action_entropy",
    "action_shares",
    "annual_sharpe",
    "bars_per_year",
    "collapse_reason",
    "max_drawdown",
    "net_return",
    "returns",
    "sharpe",
    "summarise",
]

YEAR_SECONDS = 365.25 * 86_400
ALL_LOST = -1.0 + 1e-9
"""The return of the bar that took everything: its logarithm must still be a number."""
COLLAPSED_SHARE = 0.999
"""A policy that answers the same on more of its bars than this has stopped listening."""


def returns(equity: FloatArray) -> FloatArray:
    """Return the simple return of every bar (n,) of equities (n + 1,).

    An account that fell to nothing is over: all is lost on that bar, and nothing happens after it.
    """
    gone = np.flatnonzero(equity <= 0.0)
    if not len(gone):
        return equity[1:] / equity[:-1] - 1.0
    moves = np.zeros(len(equity) - 1)
    last = int(gone[0])
    moves[: last - 1] = equity[1:last] / equity[: last - 1] - 1.0
    moves[last - 1] = ALL_LOST
    return moves


def net_return(equity: FloatArray) -> float:
    """Return the gain over a path of equities (n + 1,) as a ratio of the first."""
    return float(equity[-1] / equity[0] - 1.0)


def sharpe(bar_returns: FloatArray) -> float:
    """Return mean over standard deviation of returns (n,); 0 for an account that never moved."""
    if len(bar_returns) < 2:
        return 0.0
    deviation = float(np.std(bar_returns, ddof=1))
    # Rounding leaves dust in the deviation of equal returns.
    if deviation <= 1e-15:
        return 0.0
    return float(np.mean(bar_returns)) / deviation


def bars_per_year(closes_at: IntArray) -> float:
    """Return how many bars of a span fall into a year, nights and holidays counted as they are.

    closes_at (n,) are its closes in ascending epoch seconds; raises ValueError for fewer than two.
    """
    if len(closes_at) < 2:
        raise ValueError("a span needs two bars to have a length")
    return (len(closes_at) - 1) * YEAR_SECONDS / float(closes_at[-1] - closes_at[0])


def annual_sharpe(bar_returns: FloatArray, bars_a_year: float) -> float:
    """Return the Sharpe ratio per year of returns (n,), as if the bars were independent."""
    return sharpe(bar_returns) * math.sqrt(bars_a_year)


def action_shares(actions: IntArray) -> FloatArray:
    """Return the share of every action, (7,), of actions (n,); zeros when there was no decision."""
    counts = np.bincount(actions, minlength=len(DELTAS)).astype(np.float64)
    return counts / max(len(actions), 1)


def action_entropy(actions: IntArray) -> float:
    """Return the entropy of actions (n,), from 0 (always the same) to 1 (all alike)."""
    shares = action_shares(actions)
    used = shares[shares > 0.0]
    # Plus 0, which turns the minus zero of a single action into a plain one.
    return float(-(used * np.log(used)).sum() / math.log(len(DELTAS))) + 0.0


def collapse_reason(actions: IntArray, lots: IntArray) -> str | None:
    """Return why a policy counts as collapsed by its actions (n,) and lots (n,), or None.

    A policy that mostly holds may still trade now and then; one that answers the same on almost
    every bar and keeps one position is no better than that position.
    """
    if not len(actions):
        return "it made no decision"
    shares = action_shares(actions)
    most = int(shares.argmax())
    if shares[most] >= COLLAPSED_SHARE and np.count_nonzero(np.diff(lots)) <= 1:
        return f'it answered "{NAMES[most]}" on {shares[most]:.1%} of {len(actions)} bars'
    return None


@dataclass(frozen=True, slots=True)
class Summary:
    """Hold the figures of one account; turnover_per_bar is in multiples of the first equity."""

    net_return: float
    sharpe_per_bar: float
    sharpe_per_year: float
    max_drawdown: float
    turnover_per_bar: float
    action_entropy: float
    action_shares: Sequence[float]
    collapsed: str | None


def summarise(result: ReplayResult) -> Summary:
    """Return the figures of a replayed slot."""
    equity = result.path.equity
    moves = returns(equity)
    return Summary(
        net_return=net_return(equity),
        sharpe_per_bar=sharpe(moves),
        sharpe_per_year=annual_sharpe(moves, bars_per_year(result.closes_at)),
        max_drawdown=max_drawdown(equity),
        turnover_per_bar=result.path.turnover / float(equity[0]) / len(moves),
        action_entropy=action_entropy(result.actions),
        action_shares=tuple(action_shares(result.actions).tolist()),
        collapsed=collapse_reason(result.actions, result.lots),
    )
