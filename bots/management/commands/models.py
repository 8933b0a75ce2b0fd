"""List the models of the slots, verify one, and choose which one trades."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from bots.modelstore import bundle
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from tradingsite import clock
from tradingsite.errors import Degraded
from tradingsite.format import percent
from tradingsite.registry import SLOTS

SHOWN = 10
WIDTH = 120


class Command(BaseCommand):
    """Show what trades; `rollback SLOT [NUMBER]` makes an earlier version trade again."""

    help = (
        "List the models of the slots; verify one as it lies; activate one, or roll a slot back to "
        "the version before or to a number. One that this machine no longer has is fetched from "
        "PC's archive and verified first. The position stays, and the bot decides with it at its "
        "next bar."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Name what to do, the slot and the version."""
        parser.add_argument(
            "what", nargs="?", choices=["list", "verify", "activate", "rollback"], default="list"
        )
        parser.add_argument("slot", nargs="?", choices=sorted(SLOTS))
        parser.add_argument("number", nargs="?", type=int, help="of a version, like 7")
        parser.add_argument("--because", default="", metavar="TEXT", help="why, for the record")
        parser.add_argument("--all", action="store_true", help=f"list more than the last {SHOWN}")
        parser.add_argument("--json", action="store_true", help="print the list as JSON")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--yes", action="store_true", help="switch without asking")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, or say why not."""
        what, slot = options["what"], options["slot"]
        if what != "list" and not slot:
            raise CommandError(f"name the slot, as in `models {what} nifty-15m`")
        try:
            if what == "list":
                self._list(options)
            elif what == "verify":
                self._verify(slot, options["number"])
            else:
                self._switch(what, slot, options)
        except Degraded as error:
            raise CommandError(f"{error}. Nothing was changed.") from error

    def _list(self, options: Any) -> None:
        slots = [options["slot"]] if options["slot"] else list(SLOTS)
        if options["json"]:
            rows = [row for slot in slots for row in _rows(slot, None)]
            self.stdout.write(json.dumps(rows))
            return
        if not options["slot"]:
            for slot in slots:
                version = modelstore.active(slot)
                self.stdout.write(_line(version) if version else f"{slot}: no model, holds flat")
            self.stdout.write("One slot's versions: manage.py models list SLOT")
            return
        rows = _rows(slots[0], None if options["all"] else SHOWN)
        if not rows:
            self.stdout.write(f"{slots[0]} has no model yet: manage.py trainbot")
            return
        table = Table(title=f"{slots[0]}: its models, the newest first", title_style="bold")
        for name in ("Version", "State", "Learned until", "Held out", "Hold", "Traded", "Where"):
            table.add_column(name, no_wrap=True)
        table.add_column("Why")
        for row in rows:
            table.add_row(
                f"v{row['number']}",
                row["state"],
                row["trained_until"][:10],
                percent(row["held_out"], signed=True),
                percent(row["buy_and_hold"], signed=True),
                f"{row['traded']} time{'s' if row['traded'] != 1 else ''}",
                row["where"],
                row["reason"],
            )
        console = Console(width=None if self.stdout.isatty() else WIDTH)
        with console.capture() as printed:
            console.print(table)
        self.stdout.write(printed.get().rstrip())

    def _verify(self, slot: str, number: int | None) -> None:
        version = modelstore.active(slot) if number is None else modelstore.get(slot, number)
        if version is None:
            raise CommandError(f"{slot} has no model")
        place = modelstore.folder(version)
        if not place.is_dir():
            where = _where(version, modelstore.archived_runs(slot))
            raise CommandError(f"{version} is not on this machine (it is {where})")
        manifest = modelstore.verify_version(version)
        bundle.check(bundle.load(place, manifest), manifest)
        self.stdout.write(
            f"{version} is whole: {len(manifest.files)} files, signed by {manifest.signer_key_id}, "
            f"golden vectors and canaries answered as where it was trained."
        )

    def _switch(self, what: str, slot: str, options: Any) -> None:
        if what == "activate" and options["number"] is None:
            raise CommandError(f"name the version, as in `models activate {slot} 7`")
        number = options["number"]
        target = modelstore.previous(slot) if number is None else modelstore.get(slot, number)
        now = modelstore.active(slot)
        is_here = modelstore.folder(target).is_dir()
        if now is not None and now.pk == target.pk and is_here:
            raise CommandError(f"{target} trades already")
        step = f"{now or f'{slot} (no model)'} -> v{target.number}"
        if not is_here:
            step += ", fetched from PC's archive"
        if options["dry_run"]:
            self.stdout.write(f"Would go {step}.")
            return
        if not options["yes"] and input(f"Switch {step}? Type yes: ").strip() != "yes":
            raise CommandError("nothing was changed")
        modelstore.choose(slot, target.number, "manage.py models", options["because"])
        self.stdout.write(f"{step}; the position stays, the bot decides with it at its next bar.")


def _rows(slot: str, most: int | None) -> list[dict[str, Any]]:
    archived = modelstore.archived_runs(slot)
    switches = Activation.objects.filter(slot=slot)
    traded = [switch.model_id for switch in switches]
    versions = ModelVersion.objects.filter(slot=slot).order_by("-number")[:most]
    return [
        {
            "slot": slot,
            "number": version.number,
            "state": version.state,
            "run": version.run_id,
            "trained_from": version.trained_from.isoformat(),
            "trained_until": version.trained_until.isoformat(),
            "held_out": version.metrics.get("holdout", {}).get("net_return"),
            "buy_and_hold": version.metrics.get("baselines", {})
            .get("buy_and_hold", {})
            .get("net_return"),
            "traded": traded.count(version.pk),
            "where": _where(version, archived),
            "reason": version.reason,
        }
        for version in versions
    ]


def _where(version: ModelVersion, archived: set[int]) -> str:
    if modelstore.folder(version).is_dir():
        return "here and on PC" if version.run_id in archived else "here"
    return "on PC" if version.run_id in archived else "gone"


def _line(version: ModelVersion) -> str:
    learned = version.trained_until.astimezone(clock.IST)
    held_out = version.metrics.get("holdout", {}).get("net_return")
    waiting = modelstore.challenger(version.slot)
    line = (
        f"{version}: learned up to {learned:%d %b %Y}, held out {percent(held_out, signed=True)} "
        "after charges"
    )
    return f"{line}; v{waiting.number} waits: {waiting.reason}" if waiting else line
