"""Say why the slots did or did not trade."""

import datetime as dt
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from bots import no_trade_causes
from tradingsite import clock
from tradingsite.registry import SLOTS

WIDTH = 140


class Command(BaseCommand):
    """Count the decisions of each slot and day by their cause."""

    help = (
        "Why nothing happened: each slot's decisions of the last days by their cause (held by "
        "choice, dead action, limit, risk, halt, late data and so on)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Say how far back, and of which slot."""
        parser.add_argument("slot", nargs="?", choices=sorted(SLOTS), help="like nifty-15m")
        parser.add_argument("--days", type=int, default=5, help="trading dates to go back")
        parser.add_argument("--json", action="store_true", help="print one JSON object a row")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the table, the newest day first."""
        since = clock.market() - dt.timedelta(days=max(options["days"], 1))
        wanted = [options["slot"]] if options["slot"] else list(SLOTS)
        rows = [row for slot in wanted for row in no_trade_causes.by_day(SLOTS[slot], since)]
        rows.sort(key=lambda row: (row.date, row.slot), reverse=True)
        if options["json"]:
            for row in rows:
                found = {"date": row.date.isoformat(), "slot": row.slot, **row.counts}
                self.stdout.write(json.dumps(found))
            return
        if not rows:
            self.stdout.write("No decision yet: a slot decides as its first bar closes.")
            return
        shown = [
            cause for cause in no_trade_causes.TITLES if any(cause in row.counts for row in rows)
        ]
        table = Table(title="Decisions by cause", title_style="bold")
        for name in ("Date", "Slot", "Bars"):
            table.add_column(name, justify="right" if name == "Bars" else "left")
        for cause in shown:
            table.add_column(no_trade_causes.TITLES[cause], justify="right")
        for row in rows:
            counts = [str(row.counts.get(cause) or "") for cause in shown]
            table.add_row(f"{row.date:%a %d %b}", row.slot, str(row.bars), *counts)
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())
