"""Say that what the bots have not traded is the owner's."""

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand

from bots.live import discrepancies
from bots.models import Discrepancy
from tradingsite.registry import MARKETS


class Command(BaseCommand):
    """Close a discrepancy, once a person has looked at both numbers."""

    help = (
        "Show the instruments in which the ledger and the venue differ, which no bot trades; "
        "with --yes, take the rest of one over as the owner's."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market, the instrument and the confirmation."""
        parser.add_argument("market", choices=sorted(MARKETS))
        parser.add_argument("instrument", nargs="?", help='like "NIFTY 2026-06-30 FUT"')
        parser.add_argument("--yes", action="store_true", help="do it, and not only show it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what is open; with --yes, adopt the one that is named."""
        rows = Discrepancy.on(options["market"]).objects.filter(closed_at=None)
        if options["instrument"]:
            rows = rows.filter(instrument=options["instrument"])
        if not rows:
            self.stdout.write(f"{options['market']}: the ledger and the venue agree")
        for row in rows.order_by("instrument"):
            if options["yes"] and options["instrument"]:
                discrepancies.adopt(options["market"], row.instrument, getpass.getuser())
                self.stdout.write(f"{row.instrument}: adopted; {row}")
            else:
                again = f'"{row.instrument}" --yes'
                self.stdout.write(f"{row.instrument}: {row}. Add {again} to take the rest over.")
