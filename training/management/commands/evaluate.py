"""Evaluate a slot's recipe by walking it forward, or a stored model on a span it never saw."""

import datetime as dt
import json
from argparse import ArgumentTypeError
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console

from tradingsite import clock
from tradingsite.errors import Degraded, cause_in
from tradingsite.postgresql import timeouts
from tradingsite.registry import MARKETS, SLOTS
from tradingsite.supervision.heartbeat import is_alive
from training import recipes
from training.background import run_while_shown
from training.evaluation import metrics
from training.models import Evaluation, Recipe
from training.selection import evaluations, report
from training.selection.follow import follow

WORKER = "gpu-worker"
NETWORKS = ("tft", "mlp", "lstm")
WIDTH = 120


class Command(BaseCommand):
    """Enqueue and follow, or run in place where no GPU worker serves the queue."""

    help = (
        "Walk a slot's recipe forward: train it anew before each of several spans, several seeds "
        "each, test it after all costs beside flat, buy-and-hold, an EMA cross and random timing, "
        "and say whether it may trade, with reasons. Approved, the slot's scheduled refits follow "
        "it. With --model, judge a stored model on a span it was not trained on instead."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the slot, and what of it."""
        parser.add_argument("slot", choices=sorted(SLOTS))
        parser.add_argument("--folds", type=int, default=5)
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument("--timesteps", type=int, default=settings.TRAIN_TIMESTEPS)
        parser.add_argument("--network", choices=NETWORKS, help="another than the slot's own")
        parser.add_argument("--from", dest="start", type=_day, metavar="DAY", help="first day")
        parser.add_argument("--to", dest="end", type=_day, metavar="DAY", help="last day")
        parser.add_argument("--model", type=int, metavar="NUMBER", help="a stored model instead")
        parser.add_argument("--list", action="store_true", help="the slot's recipes and trials")
        parser.add_argument(
            "--approve",
            metavar="HASH",
            help="approve a recipe without a passing verdict: an owner's decision, with --because",
        )
        parser.add_argument("--retire", action="store_true", help="take the approval back")
        parser.add_argument("--because", default="", metavar="TEXT", help="why, in words")
        parser.add_argument("--here", action="store_true", help="run here even with a worker up")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is asked; a refused recipe is a result, not an error."""
        try:
            if options["approve"] or options["retire"]:
                self._decide(options)
            elif options["list"]:
                self._list(options["slot"])
            elif options["model"] is not None:
                self._judge_stored(options)
            else:
                self._evaluate(options)
        except Degraded as error:
            raise CommandError(str(error)) from error

    def _evaluate(self, options: Any) -> None:
        here = options["here"] or not is_alive(WORKER)
        row = evaluations.request(
            SLOTS[options["slot"]],
            options["folds"],
            options["seeds"],
            options["timesteps"],
            options["network"],
            _first(options["start"]) if options["start"] else None,
            _last(options["end"]) if options["end"] else clock.market(),
            send=not here,
        )
        if here and not options["here"]:
            self.stderr.write(f"No worker serves the queue ({WORKER} is not up): evaluating here.")
        try:
            _work_here(row) if here else follow(row)
        except KeyboardInterrupt:
            if here:
                raise CommandError("stopped; nothing was recorded but that it was begun") from None
            self.stderr.write("No longer following; the evaluation goes on in its worker.")
            return
        row.refresh_from_db()
        if row.state != Evaluation.State.DONE:
            raise CommandError(f"{options['slot']}: {cause_in(row.detail) or 'not finished'}")
        if options["json"]:
            self.stdout.write(json.dumps(report.evaluation_json(row)))
        else:
            self._print(report.evaluation_report(row))

    def _judge_stored(self, options: Any) -> None:
        if not (options["start"] and options["end"]):
            raise CommandError("--model wants a span: --from DAY --to DAY")
        start, end = _first(options["start"]), _last(options["end"])
        if end < start:
            raise CommandError(f"--to {options['end']} is before --from {options['start']}")
        found = evaluations.judge_stored(options["slot"], options["model"], start, end)
        if options["json"]:
            baselines = {
                name: metrics.net_return(path.equity)
                for name, path in (("flat", found.result.flat), ("hold", found.result.buy_and_hold))
            }
            summary = asdict(metrics.summarise(found.result))
            self.stdout.write(
                json.dumps({"model": str(found.version), **summary, "baselines": baselines})
            )
            return
        title = f"{found.version}, {start:%d %b %Y} to {end:%d %b %Y}, never trained on"
        currency = MARKETS[found.slot.market].currency
        self._print(report.replay_table(title, found.result, currency, found.notes))

    def _decide(self, options: Any) -> None:
        slot, why = options["slot"], options["because"]
        if len(why.split()) < 3:
            raise CommandError("say why, in words: --because '...'")
        if options["retire"]:
            recipe = recipes.require_approved(slot)
            recipes.retire(recipe, "the owner", why)
            self.stdout.write(f"{recipe} is no longer approved; the model that trades stays.")
            return
        recipe = recipes.find(slot, options["approve"])
        recipes.approve(recipe, "the owner", why)
        self.stdout.write(f"{recipe} is approved by the owner: {why}")

    def _list(self, slot: str) -> None:
        rows = Recipe.objects.filter(slot=slot)
        if rows:
            self._print(report.recipe_table(slot, rows))
        else:
            self.stdout.write(f"{slot} has no recipe yet: manage.py evaluate {slot}")

    def _print(self, what: Any) -> None:
        # Wide enough for the tables where nobody looks at a terminal.
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(what)
        self.stdout.write(printed.get().rstrip())


def _work_here(row: Evaluation) -> None:
    error = run_while_shown(
        str(row), lambda: evaluations.perform(row.pk), lambda is_alive: follow(row, is_alive)
    )
    if error is not None:
        raise error


def _first(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(0), clock.IST)


def _last(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(23, 59, 59), clock.IST)


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day like 2024-06-03") from error
