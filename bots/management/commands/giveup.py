"""Say that an order nobody knows of was never placed."""

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.live import givingup
from bots.live.states import State
from bots.models import Order
from tradingsite.registry import MARKETS


class Command(BaseCommand):
    """End an unknown order by a person's word, who has looked at the venue's own pages."""

    help = (
        "Show the unknown orders of a market; with a tag and --yes, end one as never placed. "
        "Look at the venue's own order book and positions first: if it arrives after all it is "
        "taken in as late, on top of what was traded since."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market, the order's tag and the confirmation."""
        parser.add_argument("market", choices=sorted(MARKETS))
        parser.add_argument("tag", nargs="?")
        parser.add_argument("--yes", action="store_true", help="do it, and not only show it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what is unknown; with --yes, end the one that is named."""
        market, tag = options["market"], options["tag"]
        rows = Order.on(market).objects.filter(state=State.UNKNOWN)
        if tag and not rows.filter(tag=tag).exists():
            raise CommandError(f"{market} has no unknown order {tag}")
        if not rows:
            self.stdout.write(f"{market}: no order is unknown")
        for order in rows.filter(tag=tag) if tag else rows:
            self.stdout.write(
                f"{order.tag} {order.quantity.normalize():+f} {order.instrument}: {order.message}"
            )
        if tag and options["yes"]:
            done = givingup.give_up(market, tag, getpass.getuser())
            self.stdout.write(f"{tag}: {'not placed' if done else 'known by now; left as it is'}")
