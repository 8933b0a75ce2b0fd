"""One process a role: a lock in the database the role works on, held by the working connection.

A lost connection loses the lock and every transaction with it, so a bot that no longer holds the
lock cannot commit an order either. The holder's name stands in the server's list of connections.

A lock that is held is waited for, and never a reason to end for good: its holder may be a process
that is gone and whose connection the server has not yet missed. Whoever waits says who holds it.
"""

import hashlib
import os
import re
import socket
import time

from django.db import connections

from tradingsite import clock

# The server needs a moment to notice that a killed holder is gone.
PATIENCE_SECONDS = 3.0
HOST_CHARACTERS = 16
_NAMED = re.compile(r"^.+ pid (\d+) on (.*?)(?: since .*)?$")


class LockHeld(Exception):
    """Another connection holds this role's lock; the message says whose, and whether it lives."""


class ProcessLock:
    """Hold the lock of one role, like "btc bot", on one database's connection."""

    def __init__(self, role: str, alias: str) -> None:
        self.role = role
        self.key = int.from_bytes(hashlib.sha256(role.encode()).digest()[:8], signed=True)
        self._alias = alias
        self._held_by: object = None

    def ensure(self) -> bool:
        """Hold the lock; return True where it had to be taken (anew), False where it was held.

        Raises LockHeld where another connection keeps it.
        """
        connection = connections[self._alias]
        connection.ensure_connection()
        if self._held_by is not None and self._held_by is connection.connection:
            return False
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self._try():
            if time.monotonic() >= give_up_at:
                raise LockHeld(f"the lock of the {self.role} is held by {self._holder()}")
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
        name = f"{self.role} pid {os.getpid()} on {_host()}"
        with connections[self._alias].cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [self.key])
            taken = bool(cursor.fetchone()[0])
            if taken:
                said = f"{name} since {now:%H:%M:%S}"[:63]
                cursor.execute("SELECT set_config('application_name', %s, false)", [said])
        return taken

    def _holder(self) -> str:
        """Return who holds the lock, from where, in what state, and whether its process lives."""
        with connections[self._alias].cursor() as cursor:
            cursor.execute(
                "SELECT pid, usename, coalesce(application_name, ''), "
                "coalesce(host(client_addr) || ':' || client_port, 'this machine'), "
                "coalesce(state, 'of a state we may not see'), coalesce(wait_event_type, '') "
                "FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid) "
                "WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1 "
                "AND (locks.classid::bigint << 32 | locks.objid::bigint) = %s "
                "AND locks.database = activity.datid AND activity.datname = current_database()",
                [self.key],
            )
            row = cursor.fetchone()
        if row is None:
            return "nobody any more"
        backend, user, name, address, state, waits_for = row
        waits = f", waits for {waits_for}" if state == "active" and waits_for else ""
        says = f"{name or 'a connection without a name'} ({life(name, backend)})"
        return f"{says}: backend {backend} of {user} from {address}, {state}{waits}"


def life(name: str, backend: int) -> str:
    """Say whether the process lives that a connection's name tells of, and what to do about it."""
    found = _NAMED.match(name)
    if found is None:
        return f"not one of ours: SELECT pg_terminate_backend({backend}) ends it"
    pid, host = int(found[1]), found[2]
    if host != _host():
        return f"alive or not is to be seen on {host}"
    if _lives(pid):
        return f"alive; kill {pid} ends it"
    return "gone; its connection ends once the server notices"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    return socket.gethostname()[:HOST_CHARACTERS]
