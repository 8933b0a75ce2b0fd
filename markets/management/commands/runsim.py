"""Run the simulated market."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from markets.simulator.market import LOOP_SECONDS, Simulator
from tradingsite import clock
from tradingsite.heartbeat import Beat
from tradingsite.locks import AlreadyRunning
from tradingsite.serving import serve, stopping
from tradingsite.supervision.supervisor import REFUSED


class Command(BaseCommand):
    """Move the market's clock, make bars and quotes, and fill orders, until told to stop.

    The settings SIM_START, SIM_SPEED, SIM_NIGHT_SPEED and SIM_SEED say how.
    """

    help = "Run the simulated market: its clock, bars, quotes and fills (MODE=simulated only)."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; exit with 78 where the market is running already."""
        if clock.simulated() is None:
            raise CommandError("only MODE=simulated has a market to simulate")
        stop = stopping()
        beat = Beat("simulator")
        try:
            simulator = Simulator.start(beat)
            serve(beat, simulator.step, LOOP_SECONDS, stop)
        except AlreadyRunning as error:
            self.stderr.write(f"{error}. This one ends.")
            sys.exit(REFUSED)
        simulator.stop()
