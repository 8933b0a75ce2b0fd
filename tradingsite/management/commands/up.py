"""Run the whole desk on this machine: what `make run` calls."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite.supervision.desk import Desk
from tradingsite.supervision.preparation import CannotStart, UpLock
from tradingsite.supervision.services import wanted
from tradingsite.supervision.supervisor import REFUSED


class Command(BaseCommand):
    """Bring everything up, look after it, and stop it on Ctrl-C."""

    help = "Run every service of this machine under one supervisor."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what to start and how."""
        parser.add_argument("--no-train", action="store_true", help="ask for no first models")
        chosen = parser.add_mutually_exclusive_group()
        chosen.add_argument("--only", metavar="NAME,NAME", help="start only these services")
        chosen.add_argument("--without", metavar="NAME,NAME", help="start all but these services")
        parser.add_argument(
            "--fresh", action="store_true", help="first remove all of the simulated desk's data"
        )
        parser.add_argument("--yes", action="store_true", help="do what --fresh says")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the wishes, then run the desk."""
        names = _chosen(options["only"], options["without"])
        if options["fresh"] and not options["yes"]:
            raise CommandError(
                f"--fresh removes every bar, model, order and record of {settings.DATA_DIR}; "
                f"say --fresh --yes if that is meant."
            )
        is_part = bool(options["only"] or options["without"])
        desk = Desk(sys.stdout, names, not options["no_train"], is_part)
        try:
            desk.run(UpLock(settings.DATA_DIR), options["fresh"])
        except CannotStart as error:
            raise CommandError(str(error), returncode=REFUSED) from error


def _chosen(only: str | None, without: str | None) -> list[str]:
    known = [service.name for service in wanted(settings.MODE, settings.MACHINE)]
    if not known:
        raise CommandError(f"MACHINE={settings.MACHINE} runs no services; it only watches.")
    names = [name.strip() for name in (only or without or "").split(",") if name.strip()]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise CommandError(f"no service {', '.join(unknown)}; they are: {', '.join(known)}")
    if without:
        return [name for name in known if name not in names]
    return names or known
