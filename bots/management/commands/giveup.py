"""Say what became of an order that nobody knows of."""

import argparse
import getpass
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.execution import manual_resolution
from bots.execution.states import State
from bots.models import Order
from markets import store
from markets.domain.instruments import Instruments
from tradingsite.registry import MARKETS


class Command(BaseCommand):
    """End an unknown order by a person's word, who has looked at the venue's own pages."""

    help = (
        "Show the unknown orders of a market; with a tag and --yes, end one as never placed, or "
        "with what --filled says. Look at the venue's own order book, executions and positions "
        "first: if it arrives after all it is taken in as late, on top of what was traded since."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market, the order's tag, what filled of it and the confirmation."""
        parser.add_argument("market", choices=sorted(MARKETS))
        parser.add_argument("tag", nargs="?")
        parser.add_argument(
            "--filled",
            type=_number,
            default=Decimal(0),
            help="units that filled and are not booked yet, without a sign (default: 0)",
        )
        parser.add_argument(
            "--price", type=_number, help="at which they filled (default: that of its sending)"
        )
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
            booked = f", {order.filled_quantity.normalize():+f} of it booked"
            self.stdout.write(
                f"{order.tag} {order.quantity.normalize():+f} {order.instrument}"
                f"{booked if order.filled_quantity else ''}: {order.message}"
            )
        if not (tag and options["yes"]):
            return
        instruments = Instruments(market, store.load_calendar(market))
        try:
            done = manual_resolution.give_up(
                market, tag, getpass.getuser(), instruments, options["filled"], options["price"]
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        ended = Order.on(market).objects.get(tag=tag).get_state_display().lower()
        self.stdout.write(f"{tag}: {ended if done else 'known by now; left as it is'}")


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of zero or more")
    return value
