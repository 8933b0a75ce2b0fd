"""The role by which PC reaches PROD's control database: it may touch its runs, and little else."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, models
from psycopg import sql

from bots.modelstore.models import Activation, ModelVersion
from tradingsite.models import Heartbeat, JobRun, Notice
from training.models import Copy, Evaluation, Recipe, TrainingRun, TrainingStep

ROLE = "nightdesk_pc"
PASSWORD = "PC_ROLE_PASSWORD"  # noqa: S105 - the name of a variable
# What PC may do with each table; it may not see users, sessions or anything else.
RIGHTS: tuple[tuple[type[models.Model], str], ...] = (
    (TrainingRun, "SELECT, UPDATE"),
    (TrainingStep, "SELECT, INSERT, UPDATE, DELETE"),
    (Copy, "SELECT, INSERT, UPDATE, DELETE"),
    (Evaluation, "SELECT, UPDATE"),
    (Recipe, "SELECT, UPDATE"),
    (ModelVersion, "SELECT"),
    (Activation, "SELECT"),
    (JobRun, "SELECT, INSERT, UPDATE"),
    (Heartbeat, "SELECT, INSERT, UPDATE"),
    (Notice, "SELECT, INSERT, UPDATE"),
)


class Command(BaseCommand):
    """Print or apply what makes the role."""

    help = (
        f"Make the role {ROLE} by which PC reaches PROD's control database, with no more rights "
        f"than it needs; its password is read from {PASSWORD}. Without --apply it only prints."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the confirmation."""
        parser.add_argument("--apply", action="store_true", help="do it, and not only print it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the statements, the password left out; with --apply, run them."""
        if settings.MACHINE == "pc":
            raise CommandError("the control database is PROD's: run this there")
        for statement in self._statements():
            self.stdout.write(statement.as_string(None) + ";")
        if not options["apply"]:
            return
        password = os.environ.get(PASSWORD, "")
        if not password:
            raise CommandError(f"{PASSWORD} is empty: say the role's password by it")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            login = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                verb, sql.Identifier(ROLE), sql.Literal(password)
            )
            cursor.execute(login.as_string(None))
            for statement in self._statements():
                cursor.execute(statement.as_string(None))
        self.stdout.write(f"{ROLE} may sign in.")

    def _statements(self) -> list[sql.Composed]:
        role = sql.Identifier(ROLE)
        database = sql.Identifier(settings.DATABASES["default"]["NAME"])
        made = [
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role),
            sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
        ]
        for model, rights in RIGHTS:
            table = sql.Identifier(model._meta.db_table)
            made.append(sql.SQL("REVOKE ALL ON {} FROM {}").format(table, role))
            made.append(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), table, role))
            if "INSERT" in rights and isinstance(model._meta.pk, models.BigAutoField):
                sequence = sql.Identifier(f"{model._meta.db_table}_id_seq")
                made.append(sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(sequence, role))
        return made
