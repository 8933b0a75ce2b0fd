"""Run the notifier of one market."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from bots.execution.notifier import Notifier
from tradingsite.locks import ProcessLock
from tradingsite.registry import MARKETS
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve


class Command(BaseCommand):
    """Turn the ledger's events into notices, until told to stop."""

    help = "Run a market's notifier: it tells what happened to the orders."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the market's name."""
        parser.add_argument("market", choices=sorted(MARKETS))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; wait while another process is this notifier."""
        notifier = Notifier(options["market"])
        beat = Beat(f"{notifier.market}-notifier")
        lock = ProcessLock(f"{notifier.market} notifier", notifier.market)

        def step() -> None:
            lock.ensure()
            notifier.step()
            beat.beat("running", f"reads the ledger of {notifier.market}")

        serve(beat, step, every_seconds=0.5)
