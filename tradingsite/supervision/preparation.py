"""What `up` makes sure of before the desk starts; done again, each changes nothing."""

import fcntl
import hashlib
import http.client
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connections
from psycopg import sql

from tradingsite import simulator_ports as simulated_ports
from tradingsite.postgresql.migrate import open_server

PORTS_TRIED = 20
ANSWER_SECONDS = 0.5


class CannotStart(Exception):
    """Something outside stands in the way; the message says what, and what to do."""


class UpLock:
    """Hold the data folder against a second `up`; the file says who holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "up.lock"
        self._file: IO[str] | None = None

    def take(self) -> dict[str, Any]:
        """Take the lock and return what the last holder left, empty when it ended cleanly.

        Raises CannotStart where another process holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(file)
            file.close()
            where = f" at {holder['address']}" if holder.get("address") else ""
            raise CannotStart(
                f"The desk of {self._path.parent} runs already (process "
                f"{holder.get('pid', 'unknown')}{where}). Stop it there with Ctrl-C, or start "
                f"another one with its own DATA_DIR."
            ) from None
        self._file = file
        return _read(file)

    def say(self, **facts: Any) -> None:
        """Write down who holds the lock, for whoever meets it."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(json.dumps({"pid": os.getpid(), **facts}))
            self._file.flush()

    def release(self) -> None:
        """Let go; nothing is left to read."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def free_port(address: str, wanted: int) -> int:
    """Return the first free port from the wanted one on; raise CannotStart when all are in use."""
    for port in range(wanted, wanted + PORTS_TRIED + 1):
        if simulated_ports.is_free(port, address):
            return port
    raise CannotStart(
        f"ports {wanted} to {wanted + PORTS_TRIED} of {address} are all in use: set WEB_PORT"
    )


def simulator_ports() -> tuple[int, str]:
    """Choose the simulator's ports, and return the first of them and its broker's address.

    What a setting puts elsewhere is left there. Raises CannotStart where no row is free.
    """
    elsewhere = {"kite": "KITE_ROOT", "exchange": "EXCHANGE_URL"}
    used = tuple(
        name
        for name in simulated_ports.SERVICES
        if not (name in elsewhere and os.environ.get(elsewhere[name]))
    )
    try:
        first = simulated_ports.choose(settings.DATA_DIR, settings.SIM_PORT, used)
    except simulated_ports.NoPorts as error:
        raise CannotStart(str(error)) from error
    return first, os.environ.get("KITE_ROOT") or f"http://{simulated_ports.LOOPBACK}:{first}"


def answers(address: str) -> bool:
    """Return whether an address answers with 200."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def collect_static() -> bool:
    """Collect the pages' files unless they are those collected last time; say whether it did.

    Compared are names, sizes and times: files from npm packages carry the times of their making,
    so one that is new here may well be older than what was collected.
    """
    marker = Path(settings.STATIC_ROOT) / "sources.sha256"
    print_ = _static_fingerprint()
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    if manifest.exists() and marker.exists() and marker.read_text() == print_:
        return False
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    marker.write_text(print_)
    return True


def forget_everything() -> None:
    """Drop the desk's databases and remove its models, exports, clock and queued messages.

    Only for the simulated desk on its own embedded servers: raises CannotStart for any other.
    """
    if settings.MODE != "simulated" or not settings.EMBEDDED:
        raise CannotStart("--fresh is only for MODE=simulated on the embedded servers")
    connections.close_all()
    with open_server() as server:
        for database in settings.DATABASES.values():
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            server.execute(drop.format(sql.Identifier(database["NAME"])))
    redis.Redis.from_url(settings.REDIS_URL).flushdb()
    for folder in (settings.PROD_DIR, settings.PC_DIR):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("clock.json", "migrated", "owner_password"):
        (settings.DATA_DIR / name).unlink(missing_ok=True)


def others_connected() -> int:
    """Return how many clients besides this process use the database server."""
    with open_server() as server:
        row = server.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(row[0]) if row else 0


def _static_fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list(ignore_patterns=[]):
            status = Path(storage.path(name)).stat()
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        return dict(json.loads(file.read()))
    except ValueError:  # empty, or its writer was killed half-way
        return {}
