"""Follow an evaluation on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from training.models import Evaluation
from training.selection import evaluations

FOLLOW_EVERY_SECONDS = 0.5


def follow(row: Evaluation, is_alive: Callable[[], bool] = lambda: True) -> None:
    """Show a row's progress until it ends or nothing works on it."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(f"{row.recipe.slot}: waiting for a worker", total=None)
        while True:
            # Asked before the row is read: work that ends in between has written its end.
            alive = is_alive()
            row.refresh_from_db()
            if row.progress:
                shown.update(
                    task,
                    total=row.progress["total"],
                    completed=row.progress["done"],
                    description=f"{row.recipe.slot}: {row.progress['said']}",
                )
            if row.state not in evaluations.OPEN or not alive:
                return
            time.sleep(FOLLOW_EVERY_SECONDS)
