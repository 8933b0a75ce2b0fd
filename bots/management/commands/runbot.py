"""Run one bot."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from markets import store
from tradingsite.registry import BOTS
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve


class Command(BaseCommand):
    """Decide at each bar's close and place the orders, until told to stop."""

    help = "Run one bot: it decides at each bar's close and places its orders."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the bot's name."""
        parser.add_argument("bot", choices=sorted(BOTS))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; wait while another process is this bot."""
        bot = BOTS[options["bot"]]
        beat = Beat(f"{bot.slug}-bot")
        # Only here, for onnxruntime comes with it: 65 MB that `--help` need not hold.
        from bots.execution.clearance import Clearance
        from bots.live.bot_venues import venue_of
        from bots.live.runner import LOOP_SECONDS, Runner

        calendar = store.load_calendar(bot.market)
        runner = Runner(bot, venue_of(bot, calendar), calendar, beat)
        clearance = Clearance(bot)

        def step() -> None:
            if clearance.may_work(beat):
                runner.step()

        serve(beat, step, LOOP_SECONDS)
