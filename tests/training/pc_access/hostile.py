"""PC's real role in the control database, and PC itself signed in by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any
from unittest import mock

import psycopg
import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from psycopg import sql

from tradingsite.postgresql.migrate import open_server
from training.pc_access import queue as pc_queue

PASSWORD, QUEUE_PASSWORD = "of the role", "of the queue"


@contextmanager
def role() -> Iterator[None]:
    """Have PC's role and its user of the queue while the block runs, as `pcrole` makes them."""
    said = {"PC_ROLE_PASSWORD": PASSWORD, "PC_QUEUE_PASSWORD": QUEUE_PASSWORD}
    try:
        with mock.patch.dict(os.environ, said):
            call_command("pcrole", "--apply", stdout=StringIO())
        yield
    finally:
        connection.close()
        with open_server() as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                [settings.PC_ROLE],
            )
        name = sql.Identifier(settings.PC_ROLE)
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP OWNED BY {}").format(name).as_string(None))
            cursor.execute(sql.SQL("DROP ROLE {}").format(name).as_string(None))
        redis.Redis.from_url(settings.REDIS_URL).acl_deluser(pc_queue.USER)


def sign_in(alias: str = "default", database: str = "") -> psycopg.Connection[Any]:
    """Return a connection of PC's role to a database."""
    one = settings.DATABASES[alias]
    return psycopg.connect(
        host=one["HOST"],
        port=one["PORT"],
        user=settings.PC_ROLE,
        password=PASSWORD,
        dbname=database or one["NAME"],
        autocommit=True,
    )


@contextmanager
def on_pc() -> Iterator[None]:
    """Be PC: its machine's settings, and its role on the control database."""
    was = settings.MACHINE, connection.settings_dict["USER"], connection.settings_dict["PASSWORD"]

    def be(machine: str, user: str, password: str) -> None:
        connection.close()
        connection.settings_dict["USER"], connection.settings_dict["PASSWORD"] = user, password
        settings.MACHINE = machine

    be("pc", settings.PC_ROLE, PASSWORD)
    try:
        yield
    finally:
        be(*was)
