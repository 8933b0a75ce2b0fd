"""Show what orders cost against the price they were decided at."""

import json
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from bots.execution import shortfall
from tradingsite import clock
from tradingsite.registry import BOTS

WIDTH = 110


class Command(BaseCommand):
    """Print the implementation shortfall of the bots' orders."""

    help = (
        "What orders cost against the price they were decided at, by slot and hour, in basis "
        "points (medians): the delay until the order left, and the market's part."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Say how far back."""
        parser.add_argument("bot", nargs="?", choices=sorted(BOTS))
        parser.add_argument("--days", type=int, default=shortfall.REPORT_DAYS)
        parser.add_argument("--json", action="store_true", help="print one JSON object a row")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each slot as a whole and by the hour."""
        bots = [BOTS[options["bot"]]] if options["bot"] else list(BOTS.values())
        now, days = clock.market(), max(options["days"], 1)
        rows = [row for bot in bots for row in shortfall.report(bot, now, days)]
        if options["json"]:
            for row in rows:
                self.stdout.write(json.dumps(asdict(row)))
            return
        if not rows:
            self.stdout.write(f"No order was filled in the last {days} days.")
            return
        title = f"Shortfall of the last {days} days, bps ({settings.MODE})"
        table = Table(title=title, title_style="bold")
        for name in ("Slot", "Hour (IST)", "Orders", "Delay", "Market", "Together", "Assumed"):
            table.add_column(name, justify="left" if name == "Slot" else "right")
        for row in rows:
            style = "bold" if row.hour is None else ""
            figures = (row.delay_bps, row.market_bps, row.total_bps, row.assumed_bps)
            table.add_row(
                row.slot if row.hour is None else "",
                "all" if row.hour is None else f"{row.hour:02}",
                str(row.orders),
                *(f"{figure:+.1f}" for figure in figures[:3]),
                f"{row.assumed_bps:.1f}" + (" !" if row.is_too_much else ""),
                style=style,
            )
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())
        self.stdout.write("A minus is a gain: the price had come our way by then.")
