"""Stop bots from sending orders."""

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.execution import kill_switch
from tradingsite.registry import BOTS


class Command(BaseCommand):
    """Set the halt flag, in the database of each bot's account."""

    help = (
        "Stop a bot, or all of them, from sending orders, and wait for one that is on its way. "
        "What is open is cancelled; positions are kept, unless --flatten is said, which a halted "
        "bot may be told as well."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the bot or --all, and the reason."""
        parser.add_argument("bot", nargs="?", choices=sorted(BOTS))
        parser.add_argument("--all", action="store_true", help="every bot, in both databases")
        parser.add_argument("--reason", default="asked for by hand")
        parser.add_argument("--flatten", action="store_true", help="close what the bot holds, too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Halt, and say what was changed."""
        if bool(options["bot"]) == options["all"]:
            raise CommandError("name one bot, or say --all")
        bots = list(BOTS.values()) if options["all"] else [BOTS[options["bot"]]]
        # All flags first: what is on its way is waited for only once nothing more can begin.
        for bot in bots:
            done = kill_switch.halt(
                bot, options["reason"], getpass.getuser(), flatten=options["flatten"]
            )
            self.stdout.write(f"{bot.slug}: {done.words}")
        for bot in bots:
            for words in kill_switch.orders_on_their_way(bot):
                self.stdout.write(f"{bot.slug}: {words}")
