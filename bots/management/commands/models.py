"""List the models of the slots, and go back to an earlier one."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from bots.modelstore import services as modelstore
from bots.modelstore.models import ModelVersion
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.format import percent
from tradingsite.registry import SLOTS


class Command(BaseCommand):
    """Show what trades; `rollback SLOT` makes the version before it trade again."""

    help = "List the model of each slot, or roll one back: the bot decides with it at its next bar."

    def add_arguments(self, parser: CommandParser) -> None:
        """Name what to do and the slot."""
        parser.add_argument("what", nargs="?", choices=["list", "rollback"], default="list")
        parser.add_argument("slot", nargs="?", choices=sorted(SLOTS))
        parser.add_argument("--dry-run", action="store_true", help="say where a rollback would go")
        parser.add_argument("--yes", action="store_true", help="roll back without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, or say why not."""
        if options["what"] == "rollback":
            self._rollback(options)
            return
        for slot in [options["slot"]] if options["slot"] else SLOTS:
            version = modelstore.active(slot)
            self.stdout.write(_line(version) if version else f"{slot}: no model, holds flat")

    def _rollback(self, options: Any) -> None:
        slot = options["slot"]
        if not slot:
            raise CommandError("name the slot to roll back, as in `models rollback nifty-15m`")
        try:
            target = modelstore.previous(slot)
            step = f"{modelstore.active(slot) or f'{slot} (no model)'} -> v{target.number}"
            if options["dry_run"]:
                self.stdout.write(f"Would go {step}.")
                return
            if not options["yes"] and input(f"Roll back {step}? Type yes: ").strip() != "yes":
                raise CommandError("nothing was changed")
            modelstore.rollback(slot, "manage.py models")
        except Degraded as error:
            raise CommandError(f"{error}. Nothing was changed.") from error
        self.stdout.write(f"{step}; the position stays, the bot decides with it at its next bar.")


def _line(version: ModelVersion) -> str:
    learned = version.trained_until.astimezone(clock.IST)
    held_out = version.metrics.get("holdout", {}).get("net_return")
    return (
        f"{version}: learned up to {learned:%d %b %Y}, held out {percent(held_out, signed=True)} "
        "after charges"
    )
