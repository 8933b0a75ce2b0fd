"""Replay a span of stored bars."""

import datetime as dt
import time
from argparse import ArgumentTypeError
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from bots.modelstore import services as modelstore
from bots.replay import Replayed, replay_bot
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.format import money
from tradingsite.postgresql import timeouts
from tradingsite.registry import BOTS, MARKETS, SLOTS, Slot, find_slot

# The sign of a currency, and how many decimals its amounts are worth showing with.


class Command(BaseCommand):
    """Decide every stored bar of a span as live would, and show what came of it."""

    help = (
        "Replay stored bars through the live decision path, with charges, slippage and funding, "
        "beside flat and buy-and-hold. A model that saw the span in training is refused unless "
        "--in-sample."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the span and the slots."""
        parser.add_argument("bot", nargs="?", choices=sorted(BOTS), help="all that have a model")
        parser.add_argument("timeframe", nargs="?")
        parser.add_argument("--from", dest="start", type=_day, required=True, metavar="DAY")
        parser.add_argument("--to", dest="end", type=_day, required=True, metavar="DAY")
        parser.add_argument(
            "--in-sample", action="store_true", help="allow models that saw the span; marked so"
        )

    @timeouts.long()
    def handle(self, *args: Any, **options: Any) -> None:
        """Replay bot by bot and print one table."""
        start = dt.datetime.combine(options["start"], dt.time(0), clock.IST)
        end = dt.datetime.combine(options["end"], dt.time(23, 59, 59), clock.IST)
        if end < start:
            raise CommandError(f"--to {options['end']} is before --from {options['start']}")
        slots = self._slots(options)
        began, cpu = time.perf_counter(), time.process_time()
        done: list[Replayed] = []
        for _, group in groupby(slots, key=lambda slot: slot.bot):
            try:
                done += replay_bot(list(group), start, end, in_sample=options["in_sample"])
            except Degraded as reason:  # a span it cannot replay, or a model that is not whole
                raise CommandError(str(reason)) from reason
        took = time.perf_counter() - began
        self._show(done, start, end)
        bars = sum(len(each.result.actions) for each in done)
        self.stdout.write(
            f"{bars:,} bars decided in {took:.2f} s ({time.process_time() - cpu:.2f} CPU s, with "
            "reading the database and loading the models)."
        )

    def _slots(self, options: Any) -> list[Slot]:
        if options["timeframe"]:
            try:
                return [find_slot(options["bot"], options["timeframe"])]
            except ValueError as error:
                raise CommandError(str(error)) from error
        wanted = [slot for slot in SLOTS.values() if options["bot"] in (None, slot.bot)]
        able = [slot for slot in wanted if modelstore.active(slot.slug)]
        for slot in wanted:
            if slot not in able:
                self.stderr.write(f"{slot.slug} left out: it has no model")
        if not able:
            raise CommandError("no slot has a model: train some with `manage.py trainbot --all`")
        return able

    def _show(self, done: list[Replayed], start: dt.datetime, end: dt.datetime) -> None:
        # A pipe has no width of its own; the table must not be cut there.
        console = Console(width=None if self.stdout.isatty() else 146)
        marked = any(each.in_sample for each in done)
        table = Table(
            title=f"Replay {start:%a %d %b %Y} to {end:%a %d %b %Y}, simulated fills"
            + (" — IN SAMPLE: these models saw this span" if marked else ""),
            caption="\n".join(dict.fromkeys(note for each in done for note in each.notes)),
            title_style="bold",
            caption_justify="left",
        )
        for name in ("Slot", "Model"):
            table.add_column(name, no_wrap=True)
        for name in ("Decisions", "Orders", "Turnover", "Charges", "Slippage", "Funding"):
            table.add_column(name, justify="right")
        for name in ("Net PnL", "Drawdown", "Flat", "Buy and hold"):
            table.add_column(name, justify="right")
        for each in done:
            table.add_row(*_row(each))
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())


def _row(each: Replayed) -> list[str]:
    currency = MARKETS[each.slot.market].currency
    path = each.result.path
    return [
        each.slot.slug + (" IN SAMPLE" if each.in_sample else ""),
        f"v{each.version.number}",
        f"{len(each.result.actions):,}",
        f"{len(path.trades):,}",
        money(path.turnover, currency),
        money(path.charges, currency),
        money(path.slippage, currency),
        money(path.funding, currency),
        money(path.net_pnl, currency, signed=True),
        f"{path.max_drawdown:.2%}",
        money(each.result.flat.net_pnl, currency, signed=True),
        money(each.result.buy_and_hold.net_pnl, currency, signed=True),
    ]


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a day like 2024-06-03") from error
