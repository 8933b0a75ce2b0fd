"""One process a role: a lock in the database the role works on, held by the working connection.

A lost connection loses the lock and every transaction with it, so a bot that no longer holds the
lock cannot commit an order either. The holder's name stands in the server's list of connections.
"""

import hashlib
import logging
import os
import socket
import time

from django.db import connections

from tradingsite import clock

# The server needs a moment to notice that a killed holder is gone.
PATIENCE_SECONDS = 3.0

log = logging.getLogger(__name__)


class AlreadyRunning(Exception):
    """Another process has this role; the message says which and since when."""


class ProcessLock:
    """Hold the lock of one role, like "btc bot", on one database's connection."""

    def __init__(self, role: str, alias: str) -> None:
        self.role = role
        self.key = int.from_bytes(hashlib.sha256(role.encode()).digest()[:8], signed=True)
        self._alias = alias
        self._held_by: object = None

    def ensure(self) -> bool:
        """Hold the lock; return True where it had to be taken (anew), False where it was held.

        Raises AlreadyRunning where another process holds it.
        """
        connection = connections[self._alias]
        connection.ensure_connection()
        if self._held_by is not None and self._held_by is connection.connection:
            return False
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self._try():
            if time.monotonic() >= give_up_at:
                raise AlreadyRunning(f"the {self.role} is already running: {self._holder()}")
            time.sleep(0.1)
        self._held_by = connection.connection
        return True

    def release(self) -> None:
        """Give the lock back."""
        connection = connections[self._alias]
        if self._held_by is not None and self._held_by is connection.connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [self.key])
        self._held_by = None

    def _try(self) -> bool:
        now = clock.real().astimezone(clock.IST)
        name = f"{self.role} pid {os.getpid()} on {socket.gethostname()[:16]}"
        with connections[self._alias].cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [self.key])
            taken = bool(cursor.fetchone()[0])
            if taken:
                said = f"{name} since {now:%H:%M:%S}"[:63]
                cursor.execute("SELECT set_config('application_name', %s, false)", [said])
        return taken

    def _holder(self) -> str:
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                "SELECT activity.application_name FROM pg_locks AS locks "
                "JOIN pg_stat_activity AS activity USING (pid) "
                "WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1 "
                "AND (locks.classid::bigint << 32 | locks.objid::bigint) = %s "
                "AND locks.database = activity.datid AND activity.datname = current_database()",
                [self.key],
            )
            row = cursor.fetchone()
        return str(row[0]) if row else "its lock is held"
