"""Follow a training run's seven steps on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tradingsite import clock
from training.background import run_while_shown
from training.models import TrainingRun, TrainingStep
from training.pipeline import runs as pipeline_runs

FOLLOW_EVERY_SECONDS = 0.5


def run_here(run: TrainingRun) -> None:
    """Run what is left of a run in a thread of this process while its steps are shown.

    What fails or refuses the run stands in its row; raises any other error.
    """
    error = run_while_shown(
        f"training run {run.pk}",
        lambda: pipeline_runs.run_in_place(run),
        lambda is_alive: follow(run, is_alive),
    )
    if error and run.state not in (TrainingRun.State.FAILED, TrainingRun.State.REFUSED):
        raise error


def follow(run: TrainingRun, is_alive: Callable[[], bool] = lambda: True) -> None:
    """Show a run's steps, with its row kept fresh, until it ends or nothing works on it."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        display = _StepDisplay(console, shown)
        while True:
            # Asked before the row is read: work that ends in between has written its end.
            alive = is_alive()
            run.refresh_from_db()
            display.update(run)
            if run.state not in pipeline_runs.OPEN or not alive:
                return
            time.sleep(FOLLOW_EVERY_SECONDS)


class _StepDisplay:
    """Draw a bar a step, and print a line for each that ended."""

    def __init__(self, console: Console, shown: Progress) -> None:
        self._console, self._shown = console, shown
        self._tasks: dict[int, TaskID] = {}
        self._printed: set[int] = set()

    def update(self, run: TrainingRun) -> None:
        """Show what a run's steps say now."""
        for step in run.steps.all():
            if step.number not in self._tasks:
                title = f"{run.slot}  {step.number}/7 {step.name}"
                self._tasks[step.number] = self._shown.add_task(title, total=None)
            if step.number == 3 and run.progress and not step.finished_at:
                self._shown.update(
                    self._tasks[3],
                    total=run.figures.get("total_timesteps"),
                    completed=run.figures.get("timesteps", 0),
                    description=f"{run.slot}  3/7 train {_pace(run.progress)}",
                )
            if step.finished_at and step.number not in self._printed:
                self._printed.add(step.number)
                self._shown.update(self._tasks[step.number], total=1, completed=1)
                self._console.print(f"  {run.slot}  {_line(step)}", highlight=False)


def _pace(progress: dict[str, Any]) -> str:
    if progress.get("phase") == "forecast":
        return f"forecast {progress['forecast_epoch']:.0f} of {progress['forecast_epochs']:.0f}"
    return f"{progress['steps_per_second']:,.0f} steps/s"


def _line(step: TrainingStep) -> str:
    finished_at = step.finished_at or clock.real()
    took = (finished_at - step.started_at).total_seconds()
    return f"{step.number}/7 {step.name:<8} {took:6.1f} s  {step.detail}"
