"""Look at a venue before trusting it."""

import argparse
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from markets.domain.calendar import NseCalendar, nse_sessions
from markets.venues import configured, health


class Command(BaseCommand):
    """Show who we are at a venue, what is left, and how far its clock is; say what to do."""

    help = "venue check kite|exchange: profile, margins, limits, clock, latency, age of the token."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take what to do and with which venue."""
        actions = parser.add_subparsers(dest="action", required=True)
        check = actions.add_parser("check", help="is the venue fit to be used?")
        check.add_argument("venue", choices=sorted(CHECKS))

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings; exit with 1 and the remedies where something is wrong."""
        venue = options["venue"]
        table = Table("", venue, "", show_edge=False, pad_edge=False)
        found = []
        for finding in CHECKS[venue]():
            mark = "[red]✗[/]" if finding.is_wrong else "[green]✓[/]"
            table.add_row(mark, finding.name, finding.value)
            found.append(finding)
        Console(file=self.stdout).print(table)  # type: ignore[arg-type]  # it has write and flush
        wrong = [finding for finding in found if finding.is_wrong]
        if wrong:
            remedies = "\n".join(f"{each.name}: {each.value}. {each.remedy}" for each in wrong)
            raise CommandError(remedies)


def _kite() -> Iterator[health.Finding]:
    return health.of_kite(
        configured.kite_config(),
        configured.kite_token(),
        configured.kite_limiter(),
        # The listed calendar, not the database's, so that this works while no database answers.
        configured.kite_venue(NseCalendar(nse_sessions())),
    )


def _exchange() -> Iterator[health.Finding]:
    from markets.venues.ccxt.client import from_settings
    from markets.venues.ccxt.venue import ExchangeVenue

    return health.of_exchange(ExchangeVenue(from_settings()))


CHECKS = {"kite": _kite, "exchange": _exchange}
