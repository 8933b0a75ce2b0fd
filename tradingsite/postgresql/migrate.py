"""Create and migrate every database this machine uses."""

from collections.abc import Callable
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from psycopg import sql

from tradingsite.databases import is_ours
from tradingsite.postgresql import timeouts


def open_server() -> psycopg.Connection[Any]:
    """Return a connection to the server itself, where databases are created and dropped."""
    one = next(
        database
        for alias, database in settings.DATABASES.items()
        if is_ours(alias, settings.MACHINE)
    )
    return psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=one["USER"],
        password=one["PASSWORD"],
        dbname="postgres",
        autocommit=True,
        connect_timeout=timeouts.CONNECT_SECONDS,
        options=timeouts.LONG.options,
    )


def create_missing() -> list[str]:
    """Create the databases that are not there yet and return their aliases."""
    created = []
    with open_server() as connection:
        present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for alias, database in settings.DATABASES.items():
            if is_ours(alias, settings.MACHINE) and database["NAME"] not in present:
                connection.execute(
                    sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database["NAME"]))
                )
                # Who may sign in is said by name: PC's role, and that to the control database.
                connection.execute(
                    sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(
                        sql.Identifier(database["NAME"])
                    )
                )
                created.append(alias)
    return created


@timeouts.long()
def migrate_all(report: Callable[[str], None] = lambda alias: None) -> None:
    """Apply the migrations of every database, calling `report` with each alias when it is done."""
    for alias in settings.DATABASES:
        if not is_ours(alias, settings.MACHINE):
            continue
        call_command("migrate", database=alias, verbosity=0, interactive=False)
        report(alias)
    connections.close_all()
