"""Train one slot, one bot, or all of them, through the seven steps."""

import datetime as dt
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.postgresql import timeouts
from tradingsite.registry import BOTS, Slot
from tradingsite.supervision.heartbeat import is_alive
from training.models import TrainingRun
from training.pipeline import follow, slots
from training.pipeline import runs as pipeline_runs
from training.pipeline.run_report import run_report

# Who must be up for a run to go through the queues.
WORKERS = ("worker", "gpu-worker", "pc-worker")


class Command(BaseCommand):
    """Enqueue and follow, or run in place where no worker serves the queues."""

    help = (
        "Train models through the seven steps: export, ship, train, hash, verify, archive, clean. "
        "With workers up it follows them (Ctrl-C ends the following, not the training); without, "
        "it runs here."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the slots, the span and the size of the training."""
        parser.add_argument("bot", nargs="?", choices=sorted(BOTS), help="a bot, or --all")
        parser.add_argument("timeframe", nargs="?", help="one slot of the bot; all when left out")
        parser.add_argument("--all", action="store_true", help="every slot that has data")
        parser.add_argument(
            "--until", type=_day, help="last day to use, like 2024-05-31; the newest when left out"
        )
        parser.add_argument("--timesteps", type=_positive, default=settings.TRAIN_TIMESTEPS)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--cancel", type=int, metavar="RUN", help="end an open run instead")
        parser.add_argument("--here", action="store_true", help="run here even with workers up")

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Train, showing the steps, and fail when a run failed."""
        try:
            if options["cancel"] is not None:
                run = pipeline_runs.cancel(options["cancel"], "manage.py trainbot")
                self.stdout.write(f"{run} is cancelled; its worker stops within seconds.")
            else:
                self._train(options)
        except Degraded as error:
            raise CommandError(str(error)) from error

    def _train(self, options: Any) -> None:
        if options["all"] == bool(options["bot"]):
            raise CommandError("name a bot (and a timeframe), or give --all")
        absent = [name for name in WORKERS if not is_alive(name)]
        here = options["here"] or bool(absent)
        choice = slots.choose(options["bot"], options["timeframe"], served=not absent)
        for remark in choice.remarks:
            self.stderr.write(remark)
        if not choice.slots:
            raise CommandError("there is nothing to train")
        if absent and not options["here"]:
            self.stderr.write(
                f"No worker serves the queues ({', '.join(absent)} not up): training here."
            )
        try:
            runs = self._run_here(choice.slots, options) if here else self._follow(choice, options)
        except KeyboardInterrupt:
            if here:
                raise CommandError("stopped; workers, or the next trainbot, begin again") from None
            self.stderr.write("No longer following; the training goes on in its workers.")
            return
        failed = [run for run in runs if run.state != TrainingRun.State.DONE]
        if failed:
            raise CommandError(f"{len(failed)} of {len(runs)} runs did not end with a model")

    def _run_here(self, chosen: list[Slot], options: Any) -> list[TrainingRun]:
        # One after the other, for they share this process and its cores.
        runs = []
        for slot in chosen:
            run = _enqueue(slot, options, send=False)
            follow.run_here(run)
            self._report(run)
            runs.append(run)
        return runs

    def _follow(self, choice: slots.Choice, options: Any) -> list[TrainingRun]:
        runs = [_enqueue(slot, options, send=True) for slot in choice.slots]
        for run in runs:
            follow.follow(run)
            self._report(run)
        return runs

    def _report(self, run: TrainingRun) -> None:
        for line in run_report(run):
            self.stdout.write(line)


def _enqueue(slot: Slot, options: Any, *, send: bool) -> TrainingRun:
    run = pipeline_runs.enqueue(
        slot,
        "trainbot",
        clock.real(),
        timesteps=options["timesteps"],
        until=options["until"] or clock.market(),
        seed=options["seed"],
        send=send,
    )
    if run is None:  # another one was begun since the slot was chosen
        raise CommandError(f"{slot.slug}: {slots.open_run_reason(slot) or 'try again'}")
    return run


def _day(text: str) -> dt.datetime:
    """Return the last instant of a day in IST."""
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day like 2024-05-31") from error
    return dt.datetime.combine(day, dt.time(23, 59, 59), clock.IST)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a positive number of steps")
    return int(text)
