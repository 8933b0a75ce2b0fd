"""Train one slot, one bot, or all of them, through the seven steps."""

import datetime as dt
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bots.decision.actions import dead_actions
from bots.modelstore import services as modelstore
from tradingsite import clock
from tradingsite.errors import Degraded, cause_in
from tradingsite.postgresql import timeouts
from tradingsite.registry import BOTS, SLOTS, Slot, find_slot
from tradingsite.supervision.heartbeat import is_alive
from training.models import TrainingRun, TrainingStep
from training.pipeline import folders
from training.pipeline import runs as pipeline_runs

# Who must be up for a run to go through the queues.
WORKERS = ("worker", "gpu-worker", "pc-worker")
FOLLOW_EVERY_SECONDS = 0.5


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
        if options["cancel"] is not None:
            self._cancel(options["cancel"])
            return
        dead = [name for name in WORKERS if not is_alive(name)]
        here = options["here"] or bool(dead)
        slots = self._slots(options, dead)
        if dead and not options["here"]:
            self.stderr.write(
                f"No worker serves the queues ({', '.join(dead)} not up): training here."
            )
        try:
            done = self._train_here(slots, options) if here else self._follow(slots, options)
        except KeyboardInterrupt:
            if here:
                raise CommandError("stopped; workers, or the next trainbot, begin again") from None
            self.stderr.write("No longer following; the training goes on in its workers.")
            return
        failed = [run for run in done if run.state != TrainingRun.State.DONE]
        if failed:
            raise CommandError(f"{len(failed)} of {len(done)} runs did not end with a model")

    def _cancel(self, run_id: int) -> None:
        try:
            run = pipeline_runs.cancel(run_id, "manage.py trainbot")
        except Degraded as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{run} is cancelled; its worker stops within seconds.")

    def _train_here(self, slots: list[Slot], options: Any) -> list[TrainingRun]:
        console = Console(stderr=True, soft_wrap=True)
        done = []
        for slot in slots:
            run = self._enqueue(slot, options, send=False)
            done.append(_run_here(console, run))
            self._report(run)
        return done

    def _follow(self, slots: list[Slot], options: Any) -> list[TrainingRun]:
        console = Console(stderr=True, soft_wrap=True)
        runs = [self._enqueue(slot, options, send=True) for slot in slots]
        for run in runs:
            _show_steps(console, run)
            self._report(run)
        return runs

    def _slots(self, options: Any, dead: list[str]) -> list[Slot]:
        if options["all"] == bool(options["bot"]):
            raise CommandError("name a bot (and a timeframe), or give --all")
        try:
            if options["timeframe"]:
                wanted = [find_slot(options["bot"], options["timeframe"])]
            else:
                wanted = [
                    slot for slot in SLOTS.values() if options["all"] or slot.bot == options["bot"]
                ]
        except ValueError as error:
            raise CommandError(str(error)) from error
        able = []
        for slot in wanted:
            reason = pipeline_runs.untrainable_reason(slot) or _still_going(slot, served=not dead)
            if reason is None:
                able.append(slot)
            elif options["timeframe"]:
                raise CommandError(f"{slot.slug}: {reason}")
            else:
                self.stderr.write(f"{slot.slug} left out: {reason}")
        if not able:
            raise CommandError("there is nothing to train")
        for bot in {slot.bot: BOTS[slot.bot] for slot in able}.values():
            if idle := dead_actions(bot.limit_lots):
                self.stderr.write(
                    f"{bot.slug} holds at most {bot.limit_lots} lots, so these actions round to "
                    f"nothing: {', '.join(idle)}"
                )
        return able

    def _enqueue(self, slot: Slot, options: Any, *, send: bool) -> TrainingRun:
        run = pipeline_runs.enqueue(
            slot,
            "trainbot",
            clock.real(),
            timesteps=options["timesteps"],
            until=options["until"] or clock.market(),
            seed=options["seed"],
            send=send,
        )
        if run is None:
            raise CommandError(f"{slot.slug}: {_still_going(slot) or 'try again'}")
        return run

    def _report(self, run: TrainingRun) -> None:
        if run.state != TrainingRun.State.DONE:
            why = cause_in(run.detail) or "nothing works on it now"
            self.stdout.write(f"{run.slot}: {run.state}. {why}")
            return
        holdout, baselines = run.metrics["holdout"], run.metrics["baselines"]
        version = modelstore.get(run.slot, run.model_number or 0)
        trades = version.state == version.State.ACTIVE
        stands = "is active" if trades else f"waits ({version.reason})"
        self.stdout.write(
            f"{version} {stands}. Held out, after charges and slippage: "
            f"{holdout['net_return']:+.2%} in {holdout['trades']} orders; flat +0.00%, "
            f"buy-and-hold {baselines['buy_and_hold']['net_return']:+.2%}."
        )
        if "owner" in holdout:
            self.stdout.write(_likeness(holdout["owner"]))
        picture = folders.charts_of(run)
        if picture.exists():
            self.stdout.write(f"Its charts: {picture}")


def _likeness(told: dict[str, Any]) -> str:
    """Return how like the owner a personal model is, beside its clone, holding and copying him."""

    def share(value: float | None) -> str:
        return "none" if value is None else f"{value:.0%}"

    lines = [f"Like the owner, on the held-out bars ({told['model']['decisions']} trades of his):"]
    for name, title in (("model", "the model"), ("clone", "its clone")):
        seen = told[name]
        sides = ", ".join(
            f"{side} {share(seen[f'{side}_share'])} (he {share(seen[f'owner_{side}_share'])})"
            for side in ("long", "short")
        )
        lines.append(
            f"  {title:<12} makes {share(seen['recall'])} of his trades, "
            f"{share(seen['precision'])} of its own are his; same side {share(seen['overlap'])}, "
            f"{sides}; net {seen['net_return']:+.2%}"
        )
    lines.append(
        f"  always hold  same side {share(told['always_hold']['overlap'])}, net +0.00%; "
        f"just copy me  net {told['just_copy_me']['net_return']:+.2%}, which nobody can: it knows "
        "his trades before he makes them"
    )
    return "\n".join(lines)


def _run_here(console: Console, run: TrainingRun) -> TrainingRun:
    """Train in a thread of this process while its steps are shown."""
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            pipeline_runs.run_in_place(run)
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
            outcome.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, name=f"training run {run.pk}", daemon=True)
    thread.start()
    _show_steps(console, run, thread.is_alive)
    thread.join()
    if outcome and run.state not in (TrainingRun.State.FAILED, TrainingRun.State.REFUSED):
        raise outcome[0]
    return run


def _show_steps(
    console: Console, run: TrainingRun, going: Callable[[], bool] = lambda: True
) -> None:
    """Show a run's steps, with its row kept fresh, until it ends or nothing works on it."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[int, TaskID] = {}
        said: set[int] = set()
        while True:
            alive = going()
            run.refresh_from_db()
            for step in run.steps.all():
                if step.number not in tasks:
                    title = f"{run.slot}  {step.number}/7 {step.name}"
                    tasks[step.number] = progress.add_task(title, total=None)
                if step.number == 3 and run.progress and not step.finished_at:
                    progress.update(
                        tasks[3],
                        total=run.figures.get("total_timesteps"),
                        completed=run.figures.get("timesteps", 0),
                        description=f"{run.slot}  3/7 train {_pace(run.progress)}",
                    )
                if step.finished_at and step.number not in said:
                    said.add(step.number)
                    progress.update(tasks[step.number], total=1, completed=1)
                    console.print(f"  {run.slot}  {_line(step)}", highlight=False)
            if run.state not in pipeline_runs.OPEN or not alive:
                return
            time.sleep(FOLLOW_EVERY_SECONDS)


def _pace(progress: dict[str, Any]) -> str:
    if progress.get("phase") == "forecast":
        return f"forecast {progress['forecast_epoch']:.0f} of {progress['forecast_epochs']:.0f}"
    return f"{progress['steps_per_second']:,.0f} steps/s"


def _line(step: TrainingStep) -> str:
    finished_at = step.finished_at or clock.real()
    took = (finished_at - step.started_at).total_seconds()
    return f"{step.number}/7 {step.name:<8} {took:6.1f} s  {step.detail}"


def _still_going(slot: Slot, *, served: bool = True) -> str | None:
    """Return why a new run must wait; where no worker serves, a run left lying is ended."""
    going = TrainingRun.objects.filter(slot=slot.slug, state__in=pipeline_runs.OPEN).first()
    if going is None:
        return None
    if not served and pipeline_runs.fail_unleased(
        going, "it was left lying; a new run takes its place"
    ):
        return None
    return f"{going} is still going; wait for it, or see it in the admin"


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
