"""How like the owner a policy is, on bars that it was not trained on.

That it trades when he did says little, for whoever trades all the time does: precision, sides and
overlap are told too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bots.decision.actions import DELTAS
from bots.decision.engine import ReplayResult
from bots.decision.observation import WINDOW, limit_notional
from bots.decision.owner import Owned
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from training.evaluation import baselines, metrics
from training.pipeline.dataset import Dataset
from training.rl.cloning import account_states
from training.rl.torch_policy import TorchPolicy


@dataclass(frozen=True, slots=True)
class OwnerSimilarity:
    """Say how like the owner a policy is on bars it was not trained on.

    Recall is the share of his trades that it makes too, on the same bar and side, precision the
    share of its trades that are his; both with his account before its eyes. The rest is of its own
    path: overlap is the share of bars on which both stand on the same side or flat.
    """

    decisions: int
    recall: float | None
    precision: float | None
    overlap: float
    long_share: float
    short_share: float
    owner_long_share: float
    owner_short_share: float
    net_return: float


def similarity(
    policy: TorchPolicy, data: Dataset, owned: Owned, result: ReplayResult, first: int
) -> OwnerSimilarity:
    """Return how like the owner a policy is, given its own path from the decision at `first`."""
    limit = max(int(np.abs(owned.lots).max(initial=0)), 1)
    bars = np.arange(first, first + len(result.actions))
    states = account_states(data.panel, owned.lots, limit, max(owned.first, WINDOW - 1))
    seen = states[bars - max(owned.first, WINDOW - 1)]
    windows = np.lib.stride_tricks.sliding_window_view(data.features.values, WINDOW, axis=0)
    codes = policy.encode(np.ascontiguousarray(windows[bars - WINDOW + 1].transpose(0, 2, 1)))
    chosen = policy.act(codes, seen).argmax(axis=1)
    his = _sides(owned.actions[bars])
    its = _sides(chosen)
    together = int(np.count_nonzero((his == its) & (his != 0)))
    his_path, its_path = np.sign(owned.lots[bars + 1]), np.sign(result.lots)
    return OwnerSimilarity(
        decisions=int(np.count_nonzero(his)),
        recall=_share(together, np.count_nonzero(his)),
        precision=_share(together, np.count_nonzero(its)),
        overlap=float(np.mean(his_path == its_path)),
        long_share=float(np.mean(its_path > 0)),
        short_share=float(np.mean(its_path < 0)),
        owner_long_share=float(np.mean(his_path > 0)),
        owner_short_share=float(np.mean(his_path < 0)),
        net_return=metrics.net_return(result.path.equity),
    )


def report(
    clone_is: OwnerSimilarity, model_is: OwnerSimilarity, data: Dataset, owned: Owned, rows: range
) -> dict[str, Any]:
    """Return the figures of a personal model for its manifest, beside doing nothing and copying.

    Just copying him cannot be done, for it knows his trades before he makes them; it is what he
    himself earned.
    """
    copied = _copied_return(data.panel, owned, rows)
    return {
        "clone": asdict(clone_is),
        "model": asdict(model_is),
        "just_copy_me": {"net_return": copied, "recall": 1.0, "precision": 1.0, "overlap": 1.0},
        "always_hold": {
            "net_return": 0.0,
            "recall": 0.0,
            "precision": None,
            "overlap": float(np.mean(owned.lots[rows.start : rows.stop] == 0)),
        },
        "executions": owned.trades,
        "left_out": owned.left_out,
    }


def _copied_return(panel: PricePanel, owned: Owned, rows: range) -> float:
    cut = panel.slice(rows.start - 1, rows.stop)
    limit = max(int(np.abs(owned.lots).max(initial=0)), 1)
    capital = limit_notional(limit, float(cut.lot_size[0]), float(cut.close[0]))
    followed = baselines.simulate(cut, owned.lots[rows.start : rows.stop], capital)
    return metrics.net_return(followed.equity)


def _sides(actions: IntArray) -> FloatArray:
    sides: FloatArray = np.sign(np.array(DELTAS)[actions])
    return sides


def _share(part: int, whole: Any) -> float | None:
    return part / int(whole) if whole else None
