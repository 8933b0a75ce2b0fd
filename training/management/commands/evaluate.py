"""Evaluate a slot's recipe by walking it forward, or a stored model on a span it never saw."""

import datetime as dt
import json
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bots.decision.engine import ReplayResult
from tradingsite import clock
from tradingsite.errors import Degraded, cause_in
from tradingsite.format import money
from tradingsite.postgresql import timeouts
from tradingsite.registry import MARKETS, SLOTS
from tradingsite.supervision.heartbeat import is_alive
from training import recipes
from training.evaluation import metrics
from training.models import Evaluation, Recipe
from training.pipeline import runs as pipeline_runs
from training.selection import evaluations

WORKER = "gpu-worker"
NETWORKS = ("tft", "mlp", "lstm")
FOLLOW_EVERY_SECONDS = 0.5
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
        if options["approve"] or options["retire"]:
            self._decide(options)
        elif options["list"]:
            self._list(options)
        elif options["model"] is not None:
            self._judge_stored(options)
        else:
            self._evaluate(options)

    # --- A recipe --------------------------------------------------------------------------------

    def _evaluate(self, options: Any) -> None:
        slot = SLOTS[options["slot"]]
        reason = pipeline_runs.trainable(slot)
        if reason:
            raise CommandError(f"{slot.slug}: {reason}")
        if options["folds"] < 2 or options["seeds"] < 1 or options["timesteps"] < 1:
            raise CommandError("at least 2 folds, 1 seed and 1 timestep")
        going = Evaluation.objects.filter(recipe__slot=slot.slug, state__in=evaluations.OPEN)
        here = options["here"] or not is_alive(WORKER)
        if going.exists() and not here:
            raise CommandError(f"{going[0]} is still going: wait for it, or see it in the admin")
        row = evaluations.enqueue(
            recipes.register(recipes.settings_of(slot, options["timesteps"], options["network"])),
            options["folds"],
            options["seeds"],
            _last(options["end"]) if options["end"] else clock.market(),
            _first(options["start"]) if options["start"] else None,
            send=not here,
        )
        if here and not options["here"]:
            self.stderr.write(f"No worker serves the queue ({WORKER} is not up): evaluating here.")
        try:
            self._work_here(row) if here else _follow(row)
        except KeyboardInterrupt:
            if here:
                raise CommandError("stopped; nothing was recorded but that it was begun") from None
            self.stderr.write("No longer following; the evaluation goes on in its worker.")
            return
        row.refresh_from_db()
        if row.state != Evaluation.State.DONE:
            raise CommandError(f"{slot.slug}: {cause_in(row.detail) or 'not finished'}")
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(row)))
        else:
            self._print(_report(row))

    def _work_here(self, row: Evaluation) -> None:
        outcome: list[BaseException] = []

        def work() -> None:
            try:
                evaluations.perform(row.pk)
            except Exception as error:  # noqa: BLE001 - handed to the main thread, which raises it
                outcome.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=work, name=str(row), daemon=True)
        thread.start()
        _follow(row, thread.is_alive)
        thread.join()
        if outcome:
            raise outcome[0]

    # --- A stored model --------------------------------------------------------------------------

    def _judge_stored(self, options: Any) -> None:
        if not (options["start"] and options["end"]):
            raise CommandError("--model wants a span: --from DAY --to DAY")
        start, end = _first(options["start"]), _last(options["end"])
        if end < start:
            raise CommandError(f"--to {options['end']} is before --from {options['start']}")
        try:
            found = evaluations.judge_stored(options["slot"], options["model"], start, end)
        except Degraded as error:
            raise CommandError(str(error)) from error
        summary = metrics.summarise(found.result)
        if options["json"]:
            baselines = {
                name: metrics.net_return(path.equity)
                for name, path in (("flat", found.result.flat), ("hold", found.result.buy_and_hold))
            }
            self.stdout.write(
                json.dumps({"model": str(found.version), **asdict(summary), "baselines": baselines})
            )
            return
        title = f"{found.version}, {start:%d %b %Y} to {end:%d %b %Y}, never trained on"
        self._print(_stored(title, found.result, MARKETS[found.slot.market].currency, found.notes))

    # --- Recipes ---------------------------------------------------------------------------------

    def _decide(self, options: Any) -> None:
        slot = options["slot"]
        if len(options["because"].split()) < 3:
            raise CommandError("say why, in words: --because '...'")
        if options["retire"]:
            recipe = recipes.approved(slot)
            if recipe is None:
                raise CommandError(f"{slot} has no approved recipe")
            recipes.retire(recipe, "the owner", options["because"])
            self.stdout.write(f"{recipe} is no longer approved; the model that trades stays.")
            return
        rows = Recipe.objects.filter(slot=slot, hash__startswith=options["approve"])
        if rows.count() != 1:
            known = ", ".join(row.hash[:8] for row in Recipe.objects.filter(slot=slot)) or "none"
            raise CommandError(
                f"{options['approve']!r} is not one recipe of {slot}; known are: {known}"
            )
        recipes.approve(rows[0], "the owner", options["because"])
        self.stdout.write(f"{rows[0]} is approved by the owner: {options['because']}")

    def _list(self, options: Any) -> None:
        rows = Recipe.objects.filter(slot=options["slot"])
        if not rows:
            self.stdout.write(
                f"{options['slot']} has no recipe yet: manage.py evaluate {options['slot']}"
            )
            return
        table = Table(title=f"{options['slot']}: recipes and trials", title_style="bold")
        for name in ("Recipe", "Network", "State", "Decided by", "Trials", "Net Sharpe", "Verdict"):
            table.add_column(name)
        for row in rows:
            done = [each for each in row.evaluations.all() if each.state == Evaluation.State.DONE]
            newest = done[0] if done else None
            table.add_row(
                row.hash[:8],
                row.settings["hyperparameters"]["network"],
                row.state,
                row.decided_by or "—",
                str(len(done)),
                f"{newest.evidence['sharpe']:+.2f}" if newest else "—",
                newest.detail if newest else "—",
            )
        self._print(table)

    def _print(self, what: Any) -> None:
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(what)
        self.stdout.write(printed.get().rstrip())


def _follow(row: Evaluation, going: Callable[[], bool] = lambda: True) -> None:
    """Show a row's progress until it ends or nothing works on it."""
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description:<48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(f"{row.recipe.slot}: waiting for a worker", total=None)
        while True:
            alive = going()
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


def _report(row: Evaluation) -> Group:
    seen = row.evidence
    recipe = row.recipe
    first, last = (
        clock.from_seconds(row.by_fold[place][name]) for place, name in ((0, "from"), (-1, "to"))
    )
    title = (
        f"{recipe}: {row.folds} folds x {row.seeds} seeds, {first:%d %b %Y} to {last:%d %b %Y}, "
        f"{seen['bars']:,.0f} unseen bars, after charges, slippage and funding"
    )
    folds = Table(title=title, title_style="bold", title_justify="left")
    for name in ("Fold", "Tested on", "Bars"):
        folds.add_column(name, no_wrap=True)
    for name in ("Trained", "Net", "Seeds", "Drawdown", "Orders", "Hold", "EMA"):
        folds.add_column(name, justify="right", no_wrap=True)
    for number, fold in enumerate(row.by_fold, start=1):
        start, end = (clock.from_seconds(fold[name]) for name in ("from", "to"))
        folds.add_row(
            str(number),
            f"{start:%d %b %y} to {end:%d %b %y}",
            f"{fold['bars']:,}",
            f"{fold['trained_bars']:,}",
            f"{fold['net_return']:+.1%}",
            f"{min(fold['seed_returns']):+.0%} to {max(fold['seed_returns']):+.0%}",
            f"{fold['max_drawdown']:.1%}",
            f"{fold['orders']:,}",
            f"{fold['hold_return']:+.1%}",
            f"{fold['ema_return']:+.1%}",
        )
    compared = Table(title="All folds (median seed)", title_style="bold", title_justify="left")
    compared.add_column("")
    for name in ("Net", "Sharpe a year", "Drawdown", "Turnover a bar"):
        compared.add_column(name, justify="right")
    compared.add_row(
        recipe.slot,
        f"{seen['net_return']:+.2%}",
        f"{seen['sharpe']:+.2f}",
        f"{seen['max_drawdown']:.1%}",
        f"{seen['turnover_per_bar']:.3f}",
    )
    compared.add_row("Flat", "+0.00%", "+0.00", "0.0%", "0.000")
    for name, key in (("Buy and hold", "hold"), ("EMA cross", "ema")):
        compared.add_row(
            name,
            f"{seen[f'{key}_return']:+.2%}",
            f"{seen[f'{key}_sharpe']:+.2f}",
            f"{seen[f'{key}_drawdown']:.1%}",
            "",
        )
    compared.add_row(
        "Same positions, other times", f"{seen['random_return']:+.2%}", "", "", "the same"
    )
    lines = [
        Text(
            "Approved" if row.approved else "Refused",
            style="bold green" if row.approved else "bold red",
        )
    ]
    for check in row.checks:
        mark = ("✓ ", "green") if check["passed"] else ("✗ ", "red")
        lines.append(Text.assemble(mark, (f"{check['name']:<16}", "bold"), check["said"]))
    return Group(folds, compared, *lines)


def _stored(title: str, result: ReplayResult, currency: str, notes: tuple[str, ...]) -> Table:
    summary = metrics.summarise(result)
    table = Table(title=title, title_style="bold", caption="\n".join(notes), caption_justify="left")
    table.add_column("")
    for name in ("Net", "PnL", "Sharpe a year", "Drawdown", "Orders", "Charges", "Slippage"):
        table.add_column(name, justify="right")
    year = metrics.bars_per_year(result.closes_at)
    for name, path in (
        ("Model", result.path),
        ("Flat", result.flat),
        ("Buy and hold", result.buy_and_hold),
    ):
        table.add_row(
            name,
            f"{metrics.net_return(path.equity):+.2%}",
            money(path.net_pnl, currency, signed=True),
            f"{metrics.annual_sharpe(metrics.returns(path.equity), year):+.2f}",
            f"{path.max_drawdown:.1%}",
            f"{len(path.trades):,}",
            money(path.charges, currency),
            money(path.slippage, currency),
        )
    if summary.collapsed:
        table.add_row(f"Collapsed: {summary.collapsed}")
    return table


def _as_json(row: Evaluation) -> dict[str, Any]:
    return {
        "slot": row.recipe.slot,
        "recipe": row.recipe.hash,
        "approved": row.approved,
        "verdict": row.detail,
        "checks": row.checks,
        "evidence": row.evidence,
        "folds": row.by_fold,
        "refit_range": row.refit_range,
    }


def _first(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(0), clock.IST)


def _last(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(23, 59, 59), clock.IST)


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day like 2024-06-03") from error
