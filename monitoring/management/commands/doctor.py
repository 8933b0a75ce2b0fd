"""Say whether this machine is fit to trade."""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from monitoring.doctor import checks as doctor
from monitoring.doctor import running_desk
from monitoring.findings import FAIL, OK, WARN, Finding

WIDTH = 120
MARKS = {OK: "[green]ok[/]", WARN: "[yellow]look[/]", FAIL: "[red]no[/]"}


class Command(BaseCommand):
    """Examine the machine, its databases, its accounts and its models."""

    help = (
        "Examine what trading leans on: databases, queue, disk, running services, clock, calendar, "
        "token, lists of instruments, accounts, models, limits. "
        "Exits with 1 where something must be mended first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the form of the answer."""
        parser.add_argument("--json", action="store_true", help="print one JSON object a finding")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print every finding, with what to do."""
        found = doctor.examine()
        if options["json"]:
            for each in found:
                self.stdout.write(json.dumps(asdict(each)))
        else:
            self._show(found)
        if any(each.level == FAIL for each in found):
            sys.exit(1)

    def _show(self, found: list[Finding]) -> None:
        table = Table(title=f"{settings.MODE}, {settings.MACHINE}", title_style="bold")
        for name in ("", "What", "How it stands", "What to do"):
            table.add_column(name)
        for each in found:
            table.add_row(MARKS[each.level], each.name, each.says, each.do)
        console = Console(
            width=None if self.stdout.isatty() else WIDTH, force_terminal=self.stdout.isatty()
        )
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())
        failed = sum(each.level == FAIL for each in found)
        looks = sum(each.level == WARN for each in found)
        running = next((each for each in found if each.name == "services"), None)
        if running is not None and running.says == running_desk.NO_DESK:
            self.stdout.write("No desk is running: start it with `make run`.")
        if failed:
            self.stdout.write(f"Not fit to trade: {failed} must be mended first.")
        else:
            self.stdout.write(f"Fit to trade ({settings.MODE}); {looks} are worth a look.")
