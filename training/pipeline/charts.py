"""The charts of a training run: as data for the page, and as one picture.

What is drawn is what the run told of itself while it went, and how its model did on the bars it was
held out on, beside flat and buy-and-hold.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np

from bots.decision.actions import NAMES
from bots.decision.engine import ReplayResult
from markets.domain.bars import FloatArray
from training.evaluation import metrics
from training.rl.progress import Progress

MOST_POINTS = 240
CURVE_FIELDS = ("timesteps", "mean_reward", "policy_loss", "value_loss", "entropy", "approx_kl")

# The desk's colours on white.
_INK, _MUTED, _LINE = "#10181e", "#616f7a", "#dfe5e8"
_MODEL, _HOLD, _LOSS, _BUY, _SELL = "#16628a", "#b9a06a", "#c2410c", "#1d63c9", "#8a4bb8"


class TrainingCurves:
    """Collect what a run tells, thinned out as it grows, so that its ends are always there."""

    def __init__(self) -> None:
        self.policy: list[dict[str, float]] = []
        self.forecast: list[float] = []
        self._every, self._seen = 1, 0

    def add(self, progress: Progress) -> None:
        """Take one report."""
        if progress.phase == "forecast":
            self.forecast.append(round(progress.forecast_loss, 5))
            return
        point = {name: round(float(getattr(progress, name)), 6) for name in CURVE_FIELDS}
        if self.policy and self.policy[-1]["timesteps"] == point["timesteps"]:
            return
        self._seen += 1
        if self._seen % self._every:
            return
        self.policy.append(point)
        # Every other point goes and half as many come: a long run costs no more than a short one.
        if len(self.policy) > MOST_POINTS:
            self.policy = self.policy[1::2]
            self._every *= 2

    def to_json(self, held_out: ReplayResult) -> dict[str, Any]:
        """Return everything that is drawn, for a record."""
        places = _thinned(len(held_out.closes_at))
        return {
            "policy": self.policy,
            "forecast": self.forecast,
            "held_out": {
                "at": held_out.closes_at[places].tolist(),
                "model": _growth(held_out.path.equity, places),
                "buy_and_hold": _growth(held_out.buy_and_hold.equity, places),
                "lots": [0, *held_out.lots.tolist()][:: max(len(held_out.lots) // MOST_POINTS, 1)],
            },
            "actions": dict(
                zip(NAMES, metrics.action_shares(held_out.actions).round(4).tolist(), strict=True)
            ),
        }


def draw(curves: dict[str, Any], title: str, path: Path) -> None:
    """Draw a run's curves into a PNG of 1600 x 1000 points."""
    # Here, for it takes half a second to load and a worker may train for hours without a picture.
    import matplotlib as mpl

    # Without a screen: a worker has none.
    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update(
        {
            "font.size": 11,
            "text.color": _INK,
            "axes.labelcolor": _MUTED,
            "axes.edgecolor": _LINE,
            "xtick.color": _MUTED,
            "ytick.color": _MUTED,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": _LINE,
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "legend.frameon": False,
        }
    )
    figure, axes = pyplot.subplots(2, 2, figsize=(16, 10), layout="constrained")
    figure.suptitle(title, x=0.008, ha="left", fontsize=15, fontweight="bold", color=_INK)
    _draw_reward(axes[0, 0], curves)
    _draw_losses(axes[0, 1], curves)
    _draw_equity(axes[1, 0], curves)
    _draw_actions(axes[1, 1], curves)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    figure.savefig(half, format="png", dpi=100)
    pyplot.close(figure)
    half.replace(path)


def prune(folder: Path, kept: int) -> None:
    """Delete all but the newest pictures of a folder."""
    found = sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime)
    for path in found[:-kept]:
        path.unlink()


def _draw_reward(axes: Any, curves: dict[str, Any]) -> None:
    axes.set_title("Reward a step")
    steps, rewards = _columns(curves, "mean_reward")
    axes.plot(steps, rewards, color=_MODEL, linewidth=1.8)
    axes.axhline(0.0, color=_MUTED, linewidth=0.8)
    axes.set_xlabel("steps")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:,.0f}k")


def _draw_losses(axes: Any, curves: dict[str, Any]) -> None:
    axes.set_title("Losses and entropy")
    entropy = axes.twinx()
    entropy.grid(visible=False)
    lines = [
        side.plot(*_columns(curves, name), color=colour, linewidth=1.6, label=label)[0]
        for side, name, colour, label in (
            (axes, "value_loss", _LOSS, "critic"),
            (axes, "policy_loss", _MODEL, "policy"),
            (axes, "approx_kl", _SELL, "step (KL)"),
            (entropy, "entropy", _HOLD, "entropy (right)"),
        )
    ]
    if curves["forecast"]:
        losses = ", ".join(f"{loss:.3f}" for loss in curves["forecast"])
        axes.set_xlabel(f"steps; forecast loss by epoch before them: {losses}")
    else:
        axes.set_xlabel("steps")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:,.0f}k")
    axes.legend(handles=lines, loc="center right")


def _draw_equity(axes: Any, curves: dict[str, Any]) -> None:
    axes.set_title("Held-out bars, after charges, slippage and funding")
    held = curves["held_out"]
    at = [dt.datetime.fromtimestamp(each, dt.UTC) for each in held["at"]]
    for name, colour, label in (
        ("buy_and_hold", _HOLD, "buy and hold"),
        ("model", _MODEL, "model"),
    ):
        values = np.array(held[name]) * 100.0
        axes.plot(at, values, color=colour, linewidth=1.8, label=f"{label} {values[-1]:+.1f} %")
    axes.axhline(0.0, color=_MUTED, linewidth=0.8, label="flat")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.0f} %")
    axes.tick_params(axis="x", rotation=20)
    axes.legend(loc="upper left")


def _draw_actions(axes: Any, curves: dict[str, Any]) -> None:
    axes.set_title("What it did on them")
    shares = curves["actions"]
    names = list(shares)[::-1]
    colours = [_BUY if "buy" in name else _SELL if "sell" in name else _LINE for name in names]
    widths = [100.0 * shares[name] for name in names]
    axes.barh(names, widths, color=colours)
    for place, width in enumerate(widths):
        axes.text(width + 0.6, place, f"{width:.1f} %", va="center", color=_MUTED)
    axes.set_xlim(0.0, max(*widths, 1.0) * 1.12)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")


def _columns(curves: dict[str, Any], name: str) -> tuple[list[float], list[float]]:
    points = curves["policy"]
    return [point["timesteps"] for point in points], [point[name] for point in points]


def _thinned(count: int) -> list[int]:
    places: list[int] = np.unique(
        np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int)
    ).tolist()
    return places


def _growth(equity: FloatArray, places: list[int]) -> list[float]:
    grown: list[float] = (equity[places] / equity[0] - 1.0).round(6).tolist()
    return grown
