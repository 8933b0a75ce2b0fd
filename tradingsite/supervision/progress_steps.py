"""The steps of a long start, shown: a moving line on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

# Where nothing can move, a long step says how far it is this often.
SAYS_EVERY_SECONDS = 5.0


class Step:
    """One step while it runs."""

    def __init__(self, console: Console, title: str) -> None:
        self.note = ""
        """What the step came to, shown when it is done."""
        self._console = console
        self._title = title
        self._said_at = time.monotonic()
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(title, total=None)

    def report(self, what: str, done: int, total: int) -> None:
        """Say how far it is."""
        if self._progress is not None:
            text = f"{self._title}: {what}"
            self._progress.update(self._task, description=text, completed=done, total=total)
        elif time.monotonic() - self._said_at >= SAYS_EVERY_SECONDS:
            self._said_at = time.monotonic()
            self._console.print(f"  ... {self._title}: {what}, {done} of {total}")

    def close(self) -> None:
        """Take the moving line away."""
        if self._progress is not None:
            self._progress.stop()


class Steps:
    """Show steps one after the other, each with what it came to and how long it took."""

    def __init__(self, stream: IO[str]) -> None:
        self.console = Console(file=stream, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show one step while the block runs."""
        began = time.monotonic()
        step = Step(self.console, title)
        try:
            yield step
        except BaseException:
            step.close()
            self.console.print(Text.assemble(("✗ ", "bold red"), title))
            raise
        step.close()
        note = f": {step.note}" if step.note else ""
        seconds = f"  {time.monotonic() - began:.1f} s"
        self.console.print(Text.assemble(("✓ ", "bold green"), title, note, (seconds, "dim")))
