"""Run the straddle tracker."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve, stopping


class Command(BaseCommand):
    """Keep a ticker of straddles running while the jobs want one."""

    help = "Run the straddle tracker: it follows straddles while its two jobs want it to."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the session's edges (epoch seconds) where this is the process with the ticker."""
        parser.add_argument(
            "--child",
            nargs=2,
            type=int,
            metavar=("OPENS_AT", "CLOSES_AT"),
            help="used by the tracker itself: be the process with the ticker, for one session",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; wait while another process is the tracker."""
        if options["child"]:
            # Only here: the parent never loads the ticker's libraries.
            from markets.straddle import tracker

            opens_at, closes_at = options["child"]
            tracker.run(opens_at, closes_at, stopping())
        from markets.straddle.keeper import LOOP_SECONDS, SERVICE, Keeper

        beat = Beat(SERVICE)
        keeper = Keeper(beat)
        try:
            serve(beat, keeper.step, LOOP_SECONDS)
        finally:
            keeper.close()
