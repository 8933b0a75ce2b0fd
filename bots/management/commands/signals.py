"""Show the personal bot's signals."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from bots import signals
from bots.models import Signal
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.registry import SLOTS
from tradingsite.scheduling.jobs import Skipped

WIDTH = 120


class Command(BaseCommand):
    """Show the newest signals, or make today's."""

    help = (
        "What the personal bot does in the next session, how sure its policy is, and the owner's "
        "past trades most like it. They are made at 16:00; --make makes today's now."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Say how many, or make one."""
        parser.add_argument("--days", type=int, default=5, help="how many to show")
        parser.add_argument("--make", action="store_true", help="make that of the last close")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show them."""
        market = SLOTS[signals.SLOT].market
        if options["make"]:
            self._make()
        rows = list(Signal.on(market).objects.all()[: max(options["days"], 1)])
        if options["json"]:
            self.stdout.write(json.dumps([_as_json(row) for row in rows]))
            return
        if not rows:
            self.stdout.write(
                "No signal yet. They are made at 16:00 after a session, once the personal bot has "
                "a model (manage.py trainbot personal) and has decided at that day's close."
            )
            return
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(_table(rows))
        self.stdout.write(printed.get().rstrip())
        self.stdout.write("Sure is the policy's own probability of the action, not a promise.")

    def _make(self) -> None:
        try:
            signals.make(clock.trading_date(clock.market()))
        except (Skipped, Degraded) as reason:
            raise CommandError(str(reason)) from reason


def _table(rows: list[Signal]) -> Table:
    """Return the signals as a table, the newest first."""
    table = Table(title=f"Personal signals ({rows[0].mode})", title_style="bold")
    for name in (
        "For",
        "Action",
        "Hold",
        "Order",
        "Sure",
        "The owner's decisions most like it",
    ):
        table.add_column(name, justify="right" if name == "Sure" else "left")
    for row in rows:
        held = f"{row.lots:+d} lots" if row.lots else "flat"
        order = f"{row.change:+d} lots" if row.change else "none"
        alike = "\n".join(
            f"{each['date']} {each['action']}: {each['ended']}" for each in row.neighbours
        )
        table.add_row(
            f"{row.for_date:%a %d %b}",
            row.action,
            held,
            order,
            f"{row.confidence:.0%}",
            alike or "none",
        )
    return table


def _as_json(row: Signal) -> dict[str, Any]:
    return {
        "for": row.for_date.isoformat(),
        "action": row.action,
        "lots": row.lots,
        "change": row.change,
        "confidence": row.confidence,
        "model": row.model,
        "mode": row.mode,
        "neighbours": row.neighbours,
    }
