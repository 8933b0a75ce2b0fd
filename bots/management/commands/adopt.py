"""Say what a difference between the ledger and the venue is."""

import argparse
import getpass
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.execution import break_resolution
from bots.execution.netting import BY_OWNER, BY_VENUE
from bots.models import Discrepancy
from markets import store
from markets.domain.instruments import Instruments
from tradingsite.registry import MARKETS


class Command(BaseCommand):
    """Close a discrepancy, once a person has looked at both numbers."""

    help = (
        "Show the instruments in which the ledger and the venue differ, which no bot trades, with "
        "the answers there are and what each of them books; with an instrument and --yes, book one."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market, the instrument, the answer and the confirmation."""
        parser.add_argument("market", choices=sorted(MARKETS))
        parser.add_argument("instrument", nargs="?", help='like "NIFTY 2026-06-30 FUT"')
        parser.add_argument(
            "--as",
            dest="answer",
            choices=[break_resolution.OWNERS, BY_OWNER, BY_VENUE],
            help="what it is; needed where the venue has less than the bots hold",
        )
        parser.add_argument("--price", type=_price, help="at which it was closed (default: quote)")
        parser.add_argument("--yes", action="store_true", help="do it, and not only show it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what is open and what may be said of it; with --yes, book the one that is named."""
        market, name = options["market"], options["instrument"]
        rows = Discrepancy.on(market).objects.filter(closed_at=None)
        if name:
            rows = rows.filter(instrument=name)
        if not rows:
            self.stdout.write(f"{market}: the ledger and the venue agree")
        for row in rows.order_by("instrument"):
            answers = break_resolution.choices(market, row)
            if options["yes"] and name:
                self.stdout.write(self._resolve(market, row, answers, options))
                continue
            self.stdout.write(f"{row.instrument}: {row}")
            for answer in answers:
                how = f"--as {answer.key}{' --price P' if answer.needs_price else ''} --yes"
                self.stdout.write(f"  {answer.title}: {answer.books}")
                self.stdout.write(f'    manage.py adopt {market} "{row.instrument}" {how}')

    def _resolve(
        self, market: str, row: Discrepancy, answers: list[break_resolution.Choice], options: Any
    ) -> str:
        key = options["answer"]
        if key is None:
            if len(answers) > 1:
                words = "; ".join(f"--as {each.key}: {each.title}" for each in answers)
                raise CommandError(f"{row.instrument}: {row}. Say what it is: {words}")
            key = answers[0].key
        instruments = Instruments(market, store.load_calendar(market))
        by, price = getpass.getuser(), options["price"]
        try:
            return break_resolution.resolve(market, row, key, by, instruments, price)
        except ValueError as error:
            raise CommandError(str(error)) from error


def _price(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(0)
    if not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no price")
    return value
