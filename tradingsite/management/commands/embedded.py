"""Start, stop or look at the PostgreSQL and Valkey that a machine without its own is given."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingsite.embedded import launcher


class Command(BaseCommand):
    """Start the embedded servers, stop them, or say how they stand."""

    help = "Start, stop or show the embedded PostgreSQL and Valkey."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what to do."""
        parser.add_argument("action", choices=("start", "stop", "status"))

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, then say how both servers stand and which of them this machine uses."""
        try:
            if options["action"] == "start" and settings.EMBEDDED:
                launcher.ensure(settings.DATA_DIR)
            if options["action"] == "stop":
                stopped = launcher.stop(settings.DATA_DIR)
                self.stdout.write(f"stopped {' and '.join(stopped)}" if stopped else "none ran")
            else:
                self._show()
        except launcher.EmbeddedError as error:
            raise CommandError(str(error)) from error

    def _show(self) -> None:
        for server in launcher.status(settings.DATA_DIR):
            if server.pid:
                stands = f"runs on 127.0.0.1:{server.port} as process {server.pid}"
            else:
                stands = "does not run" if server.folder.exists() else "was never started here"
            self.stdout.write(f"{server.name:<8}  {stands}; data in {server.folder}")
            if server.log.exists():
                self.stdout.write(f"{'':<8}  log in {server.log}")
        if not settings.EMBEDDED:
            self.stdout.write("DATABASE_URL is set, so no embedded server is started or needed.")
        elif os.environ.get("REDIS_URL"):
            self.stdout.write("REDIS_URL is set, so the embedded valkey is not used.")
