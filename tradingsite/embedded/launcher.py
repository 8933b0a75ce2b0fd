"""PostgreSQL and Valkey for a machine that has none: found, started and stopped by this launcher.

All that belongs to the servers is in one folder, `<root>/embedded`, with their ports and passwords
in `addresses.json`. PostgreSQL refuses to run as root, so a root shell runs both as `nobody`; where
`nobody` cannot enter the checkout (a root shell's 0700 home), `embedded` is a link to a folder in
/var/lib/nightdesk, and programs it cannot reach are copied there too. No mode or owner of a folder
that is not ours is changed: the wheel's own launcher adds a system user and opens every parent
folder up to `/`, which is why it is not used.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tradingsite import private
from tradingsite.embedded import servers
from tradingsite.embedded.programs import EmbeddedError, account_for, can_enter, explained
from tradingsite.embedded.servers import Home

__all__ = [
    *("Addresses", "EmbeddedError", "ServerStatus"),
    *("damaged_files", "ensure", "running", "status", "stop"),
]

SHARED = Path("/var/lib/nightdesk")
# As long as another process's start may last.
LOCK_SECONDS = servers.LOAD_SECONDS + servers.RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Addresses:
    """Give the URLs of both servers; they carry the passwords, so they are not shown."""

    postgres: str = field(repr=False)
    """Without a database: append "/name"."""
    redis: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """Tell how one server stands: no `pid` where it does not run, no `port` before its start."""

    name: str
    pid: int | None
    port: int | None
    folder: Path
    log: Path


def ensure(root: Path) -> Addresses:
    """Return the addresses of the data home's servers, starting those that do not run."""
    root = root.resolve()
    with contextlib.suppress(PermissionError):
        home = Home.load(_folder(root))
        if home and servers.postgres_ready(home) and servers.valkey_ready(home):
            return _addresses(home)
    with _locked(root):
        folder = _settle(root)
        home = Home.load(folder) or _renew(folder)
        servers.start_postgres(home)
        servers.start_valkey(home)
        return _addresses(home)


def running(root: Path) -> Addresses | None:
    """Return the addresses where PostgreSQL runs, None where not or where this user cannot know."""
    with contextlib.suppress(PermissionError):
        home = Home.load(_folder(root))
        if home and servers.postgres(home.folder).pid():
            return _addresses(home)
    return None


def stop(root: Path) -> list[str]:
    """Stop the servers, wait until they are gone, and return the names of those that ran."""
    root = root.resolve()
    if not _folder(root).is_dir():
        return []
    with _locked(root):
        both = servers.valkey(_folder(root)), servers.postgres(_folder(root))
        return [server.name for server in both if server.end()]


def status(root: Path) -> list[ServerStatus]:
    """Return how the servers stand; nothing is started or written."""
    folder = _folder(root)
    with explained(folder):
        home = Home.load(folder)
        ports = home.ports if home else {}
        both = servers.postgres(folder), servers.valkey(folder)
        return [
            ServerStatus(it.name, it.pid(), ports.get(it.name), it.folder, it.log) for it in both
        ]


def damaged_files(root: Path) -> list[Path]:
    """Return the folders of messages that Valkey could not read, set aside, oldest first."""
    with contextlib.suppress(PermissionError):
        return servers.damaged_files(_folder(root))
    return []


def _addresses(home: Home) -> Addresses:
    postgres, valkey = (f"{servers.LOOPBACK}:{home.ports[name]}" for name in ("postgres", "valkey"))
    return Addresses(
        f"postgresql://{servers.ROLE}:{home.password}@{postgres}",
        f"redis://:{home.queue_password}@{valkey}/0",
    )


def _folder(root: Path) -> Path:
    return (root / "embedded").resolve()


def _settle(root: Path) -> Path:
    """Return the servers' folder, placed once: in the root, else where their user can enter."""
    link = root / "embedded"
    refuge = SHARED / hashlib.sha256(str(root).encode()).hexdigest()[:12]
    if link.is_symlink() and link.readlink() != refuge:
        raise EmbeddedError(
            f"{link} leads to {link.readlink()}, the data of another checkout. If this checkout "
            f"was moved, move that folder to {refuge} and renew the link; if it is a copy, delete "
            "the link and it gets servers of its own."
        )
    if not link.exists() and not link.is_symlink():
        if can_enter(root, account_for(root)):
            link.mkdir()
            link.chmod(0o755)  # whatever the process's mask: the servers' user passes it
            servers.own_like(link, root)
        else:
            link.symlink_to(refuge)
    for folder in (SHARED, refuge) if link.is_symlink() else ():
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o755)
    home = link.resolve()
    account = account_for(home)
    if not can_enter(home, account):
        raise EmbeddedError(
            f"The servers run as user and group {account}, who cannot enter {home}: open its "
            "parent folders to them, or start as an ordinary user."
        )
    for folder in (home / "valkey", home / "log"):
        servers.make_private(folder, account)
    return home


def _renew(folder: Path) -> Home:
    """Return a home with new passwords; where its record was lost, the data is given them too."""
    home = Home(folder, secrets.token_urlsafe(24), {}, secrets.token_urlsafe(24))
    both = servers.postgres(folder), servers.valkey(folder)
    for server in both:
        server.end()
    servers.change_password(home)
    for server in both:
        home.choose_port(server.name)
    return home


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with explained(root):
        root.mkdir(parents=True, exist_ok=True)
        private.shut(root)
        path = root / "embedded.lock"
        lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"Another process still holds {path}: end it, or wait.")
                time.sleep(0.05)
            yield
        finally:
            os.close(lock)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
