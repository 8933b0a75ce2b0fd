"""Show the list of instruments the desk has, and find one in it."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from markets.capture.instruments import daily as daily_instruments
from markets.models import InstrumentList, ListedInstrument
from tradingsite import clock
from tradingsite.errors import Degraded, Retry
from tradingsite.format import ist_moment
from tradingsite.postgresql import timeouts
from tradingsite.registry import MARKETS

SHOWN = 30
WIDTH = 120


class Command(BaseCommand):
    """Show each market's newest list, whether it is today's, and what it says of a name."""

    help = "Show the lists of instruments; with --find what they said of one, and when."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market, what to look for, and whether to fetch."""
        parser.add_argument("market", nargs="?", choices=sorted(MARKETS), help="both if left out")
        parser.add_argument("--find", metavar="TEXT", help="part of a name or symbol")
        parser.add_argument("--fetch", action="store_true", help="fetch today's list now")

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Print the tables; exit with 1 and the reason where a list does not come."""
        markets = [options["market"]] if options["market"] else list(MARKETS)
        if options["fetch"]:
            for market in markets:
                try:
                    date = clock.trading_date(clock.market())
                    self.stdout.write(f"{daily_instruments.fetch(market, date)}.")
                except (Retry, Degraded) as error:
                    raise CommandError(f"{market}: {error}") from error
        # Names are long, and one that is broken over lines can neither be read nor searched.
        console = Console(file=self.stdout, width=WIDTH)  # type: ignore[arg-type]  # it has write
        for market in markets:
            if options["find"]:
                self._find(console, market, options["find"])
            else:
                self._show(console, market)

    def _show(self, console: Console, market: str) -> None:
        table = Table(market, "fetched", "rows", "sha256", show_edge=False, pad_edge=False)
        for row in InstrumentList.on(market).objects.order_by("-date")[:5]:
            table.add_row(
                f"{row.venue} {row.date}",
                ist_moment(row.fetched_at),
                f"{row.rows:,}",
                row.sha256[:12],
            )
        console.print(table)
        why = daily_instruments.trading_allowed(market, clock.market())
        self.stdout.write(why or "It is the list of the day.")

    def _find(self, console: Console, market: str, text: str) -> None:
        rows = ListedInstrument.on(market).objects.all()
        rows = rows.filter(name__icontains=text) | rows.filter(symbol__icontains=text)
        table = Table(
            *("name", "symbol", "token", "lot", "tick", "from", "to"),
            show_edge=False,
            pad_edge=False,
        )
        found = list(rows.order_by("name", "-first_on")[: SHOWN + 1])
        for row in found[:SHOWN]:
            table.add_row(
                *(row.name, row.symbol, str(row.token)),
                *(f"{row.lot_size.normalize():f}", f"{row.tick_size.normalize():f}"),
                *(str(row.first_on), str(row.last_on)),
            )
        console.print(table)
        if not found:
            self.stdout.write(f"{market} has no instrument with {text!r} in its name.")
        elif len(found) > SHOWN:
            self.stdout.write(f"The first {SHOWN}; give more of the name for fewer.")
