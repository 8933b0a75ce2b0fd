"""The two embedded servers: their data and settings, and how they start, answer and end."""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tradingsite.embedded.programs import (
    Account,
    EmbeddedError,
    account_for,
    failure,
    postgres_programs,
    run,
    valkey_program,
    within_reach,
)

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
ROLE = "nightdesk"
# Below the ephemeral range, so that no outgoing connection sits on a kept port at the next start.
PORTS = range(20_000, 32_000)
# The children of a killed server hold its memory, and with it the data folder, for some seconds.
RETRY_SECONDS = 10
# Recovery after a crash, or reading a long append-only file.
LOAD_SECONDS = 120
STOP_SECONDS = 60
FIRST_USER_OID = 16_384
POSTGRES_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "fsync": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A failed statement is its client's to report: in this log it would only fill the disk.
    "log_min_messages": "error",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
VALKEY_SETTINGS = {
    "bind": LOOPBACK,
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "daemonize": "yes",
    # Without a title of its own, its command line keeps the folder by which it is known as ours.
    "set-proc-title": "no",
}
VALKEY_FILES, DAMAGED = "appendonlydir", ".damaged-"
# What it says of a file that is overwritten, cut or gone; not of one that it may not open.
VALKEY_DAMAGE = re.compile(
    r"Bad file format reading the append|Unexpected end of file reading the append|Unknown command"
    r"|Invalid AOF manifest|empty AOF manifest|Read AOF manifest failed|AOF loading aborted"
    r"|Wrong RDB checksum|Internal error in RDB reading|The AOF .* doesn't exist"
    r"|Unable to obtain the AOF file .* stat: No such file"
)


@dataclass(slots=True)
class Home:
    """Hold the servers' folder and what `addresses.json` in it keeps."""

    folder: Path
    password: str
    """PostgreSQL's."""
    ports: dict[str, int]
    queue_password: str
    """Valkey's: another one, for whoever may use the queue may not have the ledger."""

    @classmethod
    def load(cls, folder: Path) -> "Home | None":
        """Return the home as recorded; a record cut short by a power failure counts as lost."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            record = json.loads((folder / "addresses.json").read_text())
            one = record["password"]  # of both servers, in a record of an earlier release
            return cls(folder, one, record["ports"], record.get("queue_password", one))
        return None

    def save(self) -> None:
        """Write the record whole or not at all, for its owner's eyes only."""
        new = self.folder / "addresses.json.new"
        new.touch(mode=0o600)
        record = {"password": self.password, "queue_password": self.queue_password}
        new.write_text(json.dumps({**record, "ports": self.ports}))
        own_like(new, self.folder)
        new.replace(self.folder / "addresses.json")

    def choose_port(self, name: str) -> int:
        """Return the port kept for the server, or a new one where another program took it."""
        kept = self.ports.get(name)
        if kept and _is_free(kept):
            return kept
        port = secrets.choice(PORTS)
        while port in self.ports.values() or not _is_free(port):
            port = secrets.choice(PORTS)
        if kept:
            logger.warning("port %d of %s is taken by another program: now %d", kept, name, port)
        self.ports[name] = port
        self.save()
        return port


@dataclass(frozen=True, slots=True)
class Server:
    """Describe a server's files, and find its process by them."""

    name: str
    programs: tuple[str, ...]
    folder: Path
    pid_file: Path
    log: Path
    stop_signal: signal.Signals

    def pid(self) -> int | None:
        """Return the number in the PID file if a live server of this very folder has it."""
        # A killed server may stay a zombie for long, and its number may be somebody else's by now.
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
            process = psutil.Process(int(self.pid_file.read_text().split()[0]))
            if process.name() in self.programs and str(self.folder) in process.cmdline():
                found: int = process.pid
                return found
        return None

    def end(self) -> bool:
        """Shut the server down in order and wait for it; return whether it ran."""
        if (pid := self.pid()) is None:
            return False
        os.kill(pid, self.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while self.pid() is not None:
            if time.monotonic() > deadline:
                raise failure(f"{self.name} (process {pid}) did not stop.", "", self.log)
            time.sleep(0.02)
        return True


# --- PostgreSQL ----------------------------------------------------------------------------------


def postgres(folder: Path) -> Server:
    """Return the PostgreSQL server of a home's folder."""
    data, log = folder / "postgres", folder / "log" / "postgres.log"
    # SIGINT is the fast shutdown: open transactions are rolled back, nothing is left to recover.
    return Server("postgres", ("postgres",), data, data / "postmaster.pid", log, signal.SIGINT)


def postgres_ready(home: Home) -> bool:
    """Return whether PostgreSQL takes connections, by the eighth line of its own PID file."""
    server = postgres(home.folder)
    with contextlib.suppress(FileNotFoundError):
        lines = server.pid_file.read_text().split("\n")
        return server.pid() is not None and lines[7:8] == ["ready   "]
    return False


def start_postgres(home: Home) -> None:
    """Start PostgreSQL unless it runs, with a new data folder where there is none."""
    if postgres_ready(home):
        return
    server, account = postgres(home.folder), account_for(home.folder)
    _set_aside_if_unfinished(server.folder)
    programs = _programs_for(server.folder, account)
    if not server.folder.exists():
        _initialise(server.folder, programs / "initdb", account, home.password)
    output = ""
    deadline = time.monotonic() + RETRY_SECONDS
    while not postgres_ready(home):
        if time.monotonic() > deadline:
            raise failure("PostgreSQL did not start.", output, server.log)
        if server.pid() is None:
            server.pid_file.unlink(missing_ok=True)
            settings = POSTGRES_SETTINGS | {"port": str(home.choose_port(server.name))}
            options = shlex.join(f"--{name}={value}" for name, value in settings.items())
            command: list[str | Path] = [programs / "pg_ctl", "start", "-w"]
            command += ["-t", str(LOAD_SECONDS)]
            command += ["-D", server.folder, "-l", server.log, "-o", options]
            output = run(command, home.folder, account)[1]
        time.sleep(0.1)


def change_password(home: Home) -> None:
    """Give existing data of a stopped server the home's password."""
    server, account = postgres(home.folder), account_for(home.folder)
    if not (server.folder / "PG_VERSION").exists():
        return
    logger.warning("addresses.json was lost: %s gets a new password", server.folder)
    server.pid_file.unlink(missing_ok=True)
    command: list[str | Path] = [_programs_for(server.folder, account) / "postgres", "--single"]
    command += ["-D", server.folder, "postgres"]
    statement = f"ALTER ROLE {ROLE} PASSWORD '{home.password}';\n"
    code, output = run(command, home.folder, account, statement)
    if code:
        raise failure("PostgreSQL could not be given a new password.", output)


def _initialise(data: Path, initdb: Path, account: Account | None, password: str) -> None:
    # Made beside and renamed when whole: an interrupted initdb never looks like a database.
    staging, secret = data.with_suffix(".new"), data.with_suffix(".password")
    if staging.exists():
        shutil.rmtree(staging)
    make_private(staging, account)
    try:
        secret.touch(mode=0o600)
        secret.write_text(password)
        own_like(secret, staging)
        command: list[str | Path] = [initdb, "-D", staging, "-U", ROLE, f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums"]
        code, output = run(command, data.parent, account)
    finally:
        secret.unlink(missing_ok=True)
    if code:
        raise failure("The database could not be created.", output)
    staging.rename(data)


def _set_aside_if_unfinished(data: Path) -> None:
    whole = (data / "PG_VERSION").exists() and (data / "global" / "pg_control").exists()
    if whole or not data.exists():
        return
    if any(int(folder.name) >= FIRST_USER_OID for folder in data.glob("base/[0-9]*")):
        raise EmbeddedError(
            f"{data} holds databases, but its PG_VERSION or global/pg_control is gone. It was left "
            "as it is: bring the folder back from a copy, or move it away and restore a backup."
        )
    aside = data.with_name(f"postgres.unfinished-{time.time_ns()}")
    logger.warning("%s was never finished and holds nothing of ours: now %s", data, aside)
    data.rename(aside)


def _programs_for(data: Path, account: Account | None) -> Path:
    written_by = None
    if (data / "PG_VERSION").exists():
        written_by = (data / "PG_VERSION").read_text().split(".")[0].strip()
    try:
        return within_reach(postgres_programs(written_by) / "pg_ctl", data.parent, account).parent
    except EmbeddedError as error:
        if written_by is None:
            raise
        raise EmbeddedError(
            f"{data} was written by PostgreSQL {written_by}. {error} Install version {written_by};"
            " or dump with it, move the folder away and restore the dump into the other version."
        ) from error


# --- Valkey --------------------------------------------------------------------------------------


def valkey(folder: Path) -> Server:
    """Return the Valkey (or Redis) server of a home's folder."""
    data, log = folder / "valkey", folder / "log" / "valkey.log"
    programs = ("valkey-server", "redis-server")
    return Server("valkey", programs, data, data / "valkey.pid", log, signal.SIGTERM)


def valkey_ready(home: Home) -> bool:
    """Return whether Valkey runs from this home and answers to its password."""
    server = valkey(home.folder)
    if server.pid() is None:
        return False
    address = (LOOPBACK, home.ports[server.name])
    try:
        with socket.create_connection(address, 2) as connection, connection.makefile("rw") as talk:
            talk.write(f"AUTH {home.queue_password}\r\nPING\r\n")
            talk.flush()
            return [talk.readline().strip(), talk.readline().strip()] == ["+OK", "+PONG"]
    except OSError:
        return False


def start_valkey(home: Home) -> None:
    """Start Valkey unless it runs; files of it that a power cut damaged are set aside.

    They hold messages, which say only that something is to be looked at: the truth is PostgreSQL's.
    """
    if valkey_ready(home):
        return
    server = valkey(home.folder)
    said = _size(server.log)
    try:
        _start_valkey(home, said)
    except EmbeddedError:
        files = server.folder / VALKEY_FILES
        if server.pid() is not None or not files.exists() or not _finds_damage(server, said):
            raise
        aside = files.with_name(f"{files.name}{DAMAGED}{time.time_ns()}")
        logger.warning("Valkey cannot read %s: it is now %s, and the queue is empty", files, aside)
        files.rename(aside)
        _start_valkey(home, _size(server.log))


def damaged_files(folder: Path) -> list[Path]:
    """Return what was set aside of Valkey's in a home's folder, oldest first."""
    return sorted(valkey(folder).folder.glob(f"*{DAMAGED}*"))


def _finds_damage(server: Server, said: int) -> bool:
    """Return whether Valkey has logged, after some bytes, that it cannot read its own files."""
    with contextlib.suppress(FileNotFoundError), server.log.open(errors="replace") as log:
        log.seek(said)
        return VALKEY_DAMAGE.search(log.read()) is not None
    return False


def _start_valkey(home: Home, said: int) -> None:
    server, account = valkey(home.folder), account_for(home.folder)
    output = ""
    if server.pid() is None:
        if home.queue_password == home.password:
            home.queue_password = secrets.token_urlsafe(24)
            home.save()
        settings = VALKEY_SETTINGS | {
            "port": str(home.choose_port(server.name)),
            "aclfile": json.dumps(str(_write_users(home)), ensure_ascii=False),
            "pidfile": json.dumps(str(server.pid_file), ensure_ascii=False),
            "logfile": json.dumps(str(server.log), ensure_ascii=False),
        }
        # From its input, like every setting: only its users are in a file, with hashed passwords.
        config = "".join(f"{name} {value}\n" for name, value in settings.items())
        program = within_reach(valkey_program(), home.folder, account)
        code, output = run([program, "--dir", server.folder, "-"], home.folder, account, config)
        if code:
            raise failure("Valkey did not start.", output, server.log)
    begun = time.monotonic()
    while not valkey_ready(home):
        if server.pid() is None and _finds_damage(server, said):
            raise failure("Valkey cannot read its files.", output, server.log)
        if time.monotonic() - begun > (LOAD_SECONDS if server.pid() else RETRY_SECONDS):
            raise failure("Valkey did not answer.", output, server.log)
        time.sleep(0.02)


def _write_users(home: Home) -> Path:
    """Write the file of the queue's users: its own one anew, and those that were made beside it."""
    path = valkey(home.folder).folder / "users.acl"
    kept = path.read_text().splitlines() if path.exists() else []
    digest = hashlib.sha256(home.queue_password.encode()).hexdigest()
    lines = [f"user default on #{digest} ~* &* +@all"]
    lines += [line for line in kept if line and not line.startswith("user default ")]
    new = path.with_name("users.acl.new")
    new.touch(mode=0o600)
    new.write_text("\n".join(lines) + "\n")
    own_like(new, path.parent)
    new.replace(path)
    return path


# --- Files and ports -----------------------------------------------------------------------------


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def own_like(path: Path, model: Path) -> None:
    """Give what root just made to the owner of the model, so that an ordinary user keeps it."""
    if os.geteuid() == 0:
        os.chown(path, model.stat().st_uid, model.stat().st_gid)


def make_private(folder: Path, account: Account | None) -> None:
    """Make the folder, if need be, for the account alone."""
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if account:
            os.chown(folder, *account)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return True
    return False
