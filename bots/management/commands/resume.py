"""Let halted bots send orders again."""

import argparse
import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from bots.execution import kill_switch
from bots.models import RiskState
from tradingsite.registry import BOTS


class Command(BaseCommand):
    """Clear the halt flag, once a person has said so twice."""

    help = "Let a halted bot, or all of them, send orders again; asks for --yes."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the bot or --all, and the confirmation."""
        parser.add_argument("bot", nargs="?", choices=sorted(BOTS))
        parser.add_argument("--all", action="store_true", help="every bot, in both databases")
        parser.add_argument("--yes", action="store_true", help="do it, and not only show it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Show why each bot is halted; with --yes, free it."""
        if bool(options["bot"]) == options["all"]:
            raise CommandError("name one bot, or say --all")
        for bot in BOTS.values() if options["all"] else [BOTS[options["bot"]]]:
            row = RiskState.on(bot.market).objects.filter(bot=bot.slug, halted=True).first()
            if row is None:
                self.stdout.write(f"{bot.slug}: not halted")
            elif options["yes"]:
                kill_switch.resume(bot, getpass.getuser())
                self.stdout.write(f"{bot.slug}: resumed; it had been halted: {row.halt_reason}")
            else:
                self.stdout.write(f"{bot.slug}: halted: {row.halt_reason}. Add --yes to resume it.")
