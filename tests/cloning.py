"""Test databases in a second: migrated once into templates, then copied for each run.

Migrating eight databases takes most of a minute on two busy cores; copying them takes one second.
The templates carry a fingerprint of the migrations and are made anew when one changes.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.conf import settings
from psycopg import errors, sql

from tradingsite.postgresql.migrate import open_server
from tradingsite.supervision.startup import fingerprint

MAKING = 7_305_112_026  # the advisory lock that lets one process at a time make templates


@contextmanager
def cloned() -> Iterator[None]:
    """Have the databases of the settings there, fresh, while the block runs."""
    names = [database["NAME"] for database in settings.DATABASES.values()]
    with open_server() as server:
        _drop_abandoned(server)
        templates = _templates(server)
        for name, template in zip(names, templates, strict=True):
            _drop(server, name)
            server.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
    try:
        yield
    finally:
        with open_server() as server:
            for name in names:
                _drop(server, name)


def _templates(server: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    prefix = f"template_nightdesk_{fingerprint(settings.INSTALLED_APPS)[:12]}_"
    wanted = [f"{prefix}{alias}" for alias in settings.DATABASES]
    server.execute("SELECT pg_advisory_lock(%s)", [MAKING])
    try:
        # The flag says that a template is whole: it is set once everything was migrated.
        rows = server.execute("SELECT datname FROM pg_database WHERE datistemplate").fetchall()
        if not set(wanted) <= {row[0] for row in rows}:
            _make(server, prefix, wanted)
    finally:
        server.execute("SELECT pg_advisory_unlock(%s)", [MAKING])
    return wanted


def _make(server: psycopg.Connection[tuple[object, ...]], prefix: str, wanted: list[str]) -> None:
    for (name,) in server.execute(
        "SELECT datname FROM pg_database WHERE datname LIKE 'template!_nightdesk!_%%' ESCAPE '!'"
    ).fetchall():
        server.execute(
            sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(str(name)))
        )
        try:
            server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(str(name))))
        except errors.ObjectInUse:
            continue  # another checkout copies from it at this moment
    subprocess.run(
        [sys.executable, "-m", "django", "migratedbs"],
        env={**os.environ, "NIGHTDESK_TEST_PREFIX": prefix},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for name in wanted:
        server.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))


def _drop_abandoned(server: psycopg.Connection[tuple[object, ...]]) -> None:
    """Drop what killed runs left, known by the number of a process that is no more."""
    for (name,) in server.execute("SELECT datname FROM pg_database").fetchall():
        match = re.match(r"test_nightdesk_(\d+)_", str(name))
        if match and not os.path.exists(f"/proc/{match[1]}"):  # noqa: PTH110
            _drop(server, str(name))


def _drop(server: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
