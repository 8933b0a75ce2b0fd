"""Where a training stands: what it tells of itself while it runs, and when its time is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from tradingsite.errors import Degraded

REPORT_EVERY_SECONDS = 0.1

Phase = Literal["forecast", "policy"]


class TrainingDiverged(Degraded):
    """A training whose numbers ran away: its model is worthless, the champion stays."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Say where a training stands after an update; losses and reward are of the last rollout.

    In the forecast phase only the epochs, the times and the forecast loss tell anything yet; the
    time left is then that of the phase.
    """

    timesteps: int
    total_timesteps: int
    elapsed_seconds: float
    eta_seconds: float
    steps_per_second: float = 0.0
    mean_reward: float = 0.0
    policy_loss: float = 0.0
    value_loss: float = 0.0
    entropy: float = 0.0
    approx_kl: float = 0.0
    clip_fraction: float = 0.0
    gradient_norm: float = 0.0
    explained_variance: float = 0.0
    learning_rate: float = 0.0
    stopped_early: bool = False
    phase: Phase = "policy"
    forecast_epoch: int = 0
    forecast_epochs: int = 0
    forecast_loss: float = 0.0
    """Mean squared error of the last epoch, of targets whose own mean square is about 1."""


class Reporter:
    """Tell of one training's progress, at most ten times a second, and watch its time budget."""

    def __init__(
        self,
        report: Callable[[Progress], None] | None = None,
        time_budget_seconds: float | None = None,
        done_before: int = 0,
    ) -> None:
        self._report = report
        self._budget = time_budget_seconds
        self._done_before = done_before
        self._began = self._policy_began = self._reported = time.monotonic()
        self._last: Progress | None = None

    def is_out_of_time(self) -> bool:
        """Return whether the time budget is spent."""
        return self._budget is not None and time.monotonic() - self._began >= self._budget

    def forecast(self, epoch: int, epochs: int, loss: float, total_timesteps: int) -> None:
        """Tell that an epoch of the forecast phase is done."""
        now = time.monotonic()
        elapsed = now - self._began
        left = self._within_budget(elapsed / epoch * (epochs - epoch), elapsed)
        self._policy_began = now
        self._last = Progress(
            timesteps=self._done_before,
            total_timesteps=total_timesteps,
            elapsed_seconds=elapsed,
            eta_seconds=left,
            phase="forecast",
            forecast_epoch=epoch,
            forecast_epochs=epochs,
            forecast_loss=loss,
        )
        # Epochs are few and slow: each is told.
        self._send(now)

    def policy(
        self,
        timesteps: int,
        total_timesteps: int,
        means: dict[str, Any],
        *,
        mean_reward: float,
        explained_variance: float,
        learning_rate: float,
    ) -> None:
        """Tell where the policy stands after an update; the means are Progress's, by name."""
        now = time.monotonic()
        elapsed = now - self._began
        rate = (timesteps - self._done_before) / max(now - self._policy_began, 1e-9)
        left = self._within_budget(max(total_timesteps - timesteps, 0) / rate, elapsed)
        forecast = self._last
        self._last = Progress(
            timesteps=timesteps,
            total_timesteps=total_timesteps,
            elapsed_seconds=elapsed,
            eta_seconds=left,
            steps_per_second=rate,
            mean_reward=mean_reward,
            explained_variance=explained_variance,
            learning_rate=learning_rate,
            forecast_epoch=forecast.forecast_epoch if forecast else 0,
            forecast_epochs=forecast.forecast_epochs if forecast else 0,
            forecast_loss=forecast.forecast_loss if forecast else 0.0,
            **means,
        )
        if now - self._reported >= REPORT_EVERY_SECONDS:
            self._send(now)

    def end(self, *, stopped_early: bool) -> None:
        """Tell the whole story once more, with how it ended."""
        if self._report is not None and self._last is not None:
            self._report(replace(self._last, stopped_early=stopped_early))

    def _within_budget(self, left: float, elapsed: float) -> float:
        return left if self._budget is None else min(left, max(self._budget - elapsed, 0.0))

    def _send(self, now: float) -> None:
        self._reported = now
        if self._report is not None and self._last is not None:
            self._report(self._last)
