"""Measure and weigh the assets, once a month."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from markets.allocator import assets, monthly
from markets.allocator.assets import BadAsset
from markets.allocator.models import CLASSES, AssetMetric, MonthlyRun, Weight
from markets.allocator.weights import CannotWeigh
from markets.imports.bars import BadFile
from markets.management.commands.importbars import split_of
from tradingsite import clock
from tradingsite.postgresql import timeouts

UNKNOWN = "-"
# A pipe has no width of its own; the table must not be cut there.
PIPE_WIDTH = 132


class Command(BaseCommand):
    """Show, make and feed the monthly allocation."""

    help = (
        "What the assets did and what part of the whole each is to have: equity (NIFTY), crypto "
        "(BTC) and whatever daily closes were imported, as of the first of the month. It places "
        "no orders."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name what to do."""
        todo = parser.add_subparsers(dest="todo")
        todo.add_parser("show", help="show the newest month (this is what happens without a word)")
        todo.add_parser("run", help="make this month's run, unless its inputs are those it had")
        importer = todo.add_parser("import", help="take daily closes of an asset from a CSV file")
        importer.add_argument("name", help="like gold")
        importer.add_argument("file", type=Path)
        names = [name for name, _ in CLASSES]
        importer.add_argument("--class", dest="asset_class", choices=names, default="commodities")
        importer.add_argument("--currency", default="INR")
        importer.add_argument(
            "--adjust",
            metavar="DATE=RATIO",
            action="append",
            default=[],
            type=split_of,
            help="a split or bonus: closes before that day are divided by the ratio",
        )
        importer.add_argument("--anyway", action="store_true", help="take closes that leap")

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, or say what stands in the way."""
        try:
            if options["todo"] == "import":
                self._import(options)
            elif options["todo"] == "run":
                run, is_new = monthly.make(clock.trading_date(clock.market()))
                self._show(run)
                if not is_new:
                    self.stdout.write("Nothing has changed since it was made.")
            elif (found := monthly.latest()) is None:
                self.stdout.write("No month was run yet: `manage.py allocator run` makes one.")
            else:
                self._show(found)
        except (BadAsset, BadFile) as error:
            raise CommandError(f"{error}. Nothing was changed.") from error
        except CannotWeigh as error:
            raise CommandError(str(error)) from error

    def _import(self, options: Any) -> None:
        done = assets.import_closes(
            *(options["name"].lower(), options["file"]),
            *(options["asset_class"], options["currency"]),
            dict(options["adjust"]),
            anyway=options["anyway"],
        )
        self.stdout.write(
            f"{done.closes:,} closes of {options['name'].lower()}, {done.first:%d %b %Y} to "
            f"{done.last:%d %b %Y}: {done.changed:,} new or changed."
        )

    def _show(self, run: MonthlyRun) -> None:
        weights = {row.asset: row for row in run.weights.all()}
        table = Table(title=f"Allocation as of {run.month:%d %b %Y}", title_style="bold")
        for name in ("Asset", "Class"):
            table.add_column(name, no_wrap=True)
        for name in ("1 m", "3 m", "6 m", "12 m", "Volatility", "Drawdown", "Mom. 12-1"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("Current", "Target"):
            table.add_column(name, justify="right", no_wrap=True)
        for metric in run.metrics.order_by("id"):
            table.add_row(*_row(metric, weights[metric.asset]))
        console = Console(width=None if self.stdout.isatty() else PIPE_WIDTH)
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())
        for line in _notes(run):
            self.stdout.write(line)


def _row(metric: AssetMetric, weight: Weight) -> list[str]:
    signed = (metric.return_1m, metric.return_3m, metric.return_6m, metric.return_12m)
    return [
        f"{metric.asset} ({metric.currency})",
        metric.asset_class,
        *(_percent(value, "+") for value in signed),
        _percent(metric.volatility),
        _percent(metric.max_drawdown),
        _percent(metric.momentum, "+"),
        _percent(weight.current),
        _percent(weight.target),
    ]


def _notes(run: MonthlyRun) -> list[str]:
    rows = list(run.weights.order_by("id"))
    found = [
        f"{row.first} and {row.second} move together by {row.value:+.2f} ({row.weeks} weeks)."
        for row in run.correlations.order_by("id")
        if row.value is not None
    ]
    found += [f"{row.asset} gets no weight: {row.reason}." for row in rows if row.reason]
    found += [f"Target: {method}." for method in {row.method for row in rows} if method]
    return [*found, f"Current: {run.current_from}.", "Returns are in each asset's own currency."]


def _percent(value: float | None, sign: str = "") -> str:
    return UNKNOWN if value is None else f"{value:{sign}.1%}"
