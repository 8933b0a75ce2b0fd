"""Make what PC reaches PROD by: a role in the control database, and a user of the queue."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from psycopg import sql

from training.pc_access import queue as pc_queue
from training.pc_access import role as pc_role

PASSWORD = "PC_ROLE_PASSWORD"  # noqa: S105 - the name of a variable
QUEUE_PASSWORD = "PC_QUEUE_PASSWORD"  # noqa: S105 - the name of a variable


class Command(BaseCommand):
    """Print or apply what makes the role and the queue's user."""

    help = (
        f"Make the role {settings.PC_ROLE} by which PC reaches PROD's control database, and the "
        f"user {pc_queue.USER} of the queue, with no more rights than they need; their "
        f"passwords are read from {PASSWORD} and {QUEUE_PASSWORD}. Without --apply it only prints. "
        f"Run it again after an upgrade that doctor complains about: rights are set anew."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the confirmation."""
        parser.add_argument("--apply", action="store_true", help="do it, and not only print it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the statements, the passwords left out; with --apply, run them."""
        if settings.MACHINE == "pc":
            raise CommandError("the control database is PROD's: run this there")
        statements = pc_role.statements()
        for statement in statements:
            self.stdout.write(statement.as_string(None) + ";")
        self.stdout.write(" ".join(pc_queue.rule("PASSWORD")))
        if not options["apply"]:
            return
        password, of_queue = (os.environ.get(name, "") for name in (PASSWORD, QUEUE_PASSWORD))
        if not (password and of_queue):
            raise CommandError(f"say PC's two passwords by {PASSWORD} and {QUEUE_PASSWORD}")
        if password == of_queue:
            raise CommandError(f"{PASSWORD} and {QUEUE_PASSWORD} are the same: use two")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [settings.PC_ROLE])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            login = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                verb, sql.Identifier(settings.PC_ROLE), sql.Literal(password)
            )
            cursor.execute(login.as_string(None))
            for statement in statements:
                cursor.execute(statement.as_string(None))
        pc_role.revoke_public_functions()
        shut = pc_role.revoke_public_connect()
        self.stdout.write(f"{len(shut)} databases are shut to everybody who was not let in.")
        kept = pc_queue.apply(of_queue)
        self.stdout.write(f"{settings.PC_ROLE} and {pc_queue.USER} may sign in.")
        if not kept:
            self.stdout.write(
                "The queue's server has no ACL file, so it forgets its user when it is started "
                "again: write the line into its configuration (aclfile), or run this then."
            )
