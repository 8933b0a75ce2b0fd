"""Run one bot."""

import argparse
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from markets import store
from tradingsite.heartbeat import Beat
from tradingsite.registry import BOTS
from tradingsite.serving import serve
from tradingsite.supervision.supervisor import REFUSED


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
        # By its name: what watches stands to the right of what trades.
        refusals = import_string("monitoring.doctor.refusals")() if settings.MODE == "live" else []
        if refusals:
            words = "live trading starts only once `manage.py doctor` passes:"
            raise CommandError("\n".join([words, *refusals]), returncode=REFUSED)
        # Only here, for onnxruntime comes with it: 65 MB that `--help` need not hold.
        from bots.live.runner import LOOP_SECONDS, Runner
        from bots.live.venues import venue_of

        calendar = store.load_calendar(bot.market)
        runner = Runner(bot, venue_of(bot, calendar), calendar, beat)
        serve(beat, runner.step, LOOP_SECONDS)
