"""Move a folder between the machines, whole or not at all.

Where PROD and PC are two machines, whatever lies under PC_DIR is PC's, and PROD moves it by rsync
over ssh (`tradingsite.machines.ssh`). Where one machine plays both roles it is a copy on the disk:
into a scratch folder, compared byte for byte, then renamed into place.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from tradingsite.errors import Degraded
from tradingsite.machines import ssh

# A bundle is a few MB; PROD's disk is nearly full by design.
LIMIT_BYTES = 64 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


NoSpace = ssh.NoSpace


def send(source: Path, destination: Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Bring a folder to a new place and return the bytes sent; replaces what earlier tries left.

    Raises NoSpace, Retry where PC does not answer, and Degraded where it refuses or sends more than
    `limit_bytes`.
    """
    if not is_link():
        return copy(source, destination)
    if _is_on_pc(destination):
        return ssh.to_pc().push(source, _on_pc(destination))
    if not _is_on_pc(source):
        return copy(source, destination)
    over = ssh.to_pc(reads=source.is_relative_to(archive_folder()))
    scratch = destination.with_name(f"{destination.name}.partial")
    if destination.exists():
        shutil.rmtree(destination)
    scratch.mkdir(parents=True, exist_ok=True)  # what an earlier try brought is gone on with
    with explained(scratch.parent):
        try:
            sent = over.pull(_on_pc(source), scratch, limit_bytes)
        except ssh.TooMuch:
            shutil.rmtree(scratch)
            raise
        scratch.rename(destination)
    return sent


def link_folder() -> Path:
    """Return PC's folder that PROD writes into and reads from; its keys are not below it."""
    return Path(settings.PC_DIR) / "link"


def archive_folder() -> Path:
    """Return PC's folder that PROD reads and never writes."""
    return Path(settings.PC_DIR) / "archive"


def is_link() -> bool:
    """Return whether PC is another machine than this one, which is PROD."""
    return settings.MACHINE == "prod"


def copy(source: Path, destination: Path) -> int:
    """Copy a folder on this machine's disk and return its bytes."""
    scratch = destination.with_name(f"{destination.name}.partial")
    for leftover in (scratch, destination):
        if leftover.exists():
            shutil.rmtree(leftover)
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        with explained(destination.parent):
            shutil.copytree(source, scratch)
            sent = _compare(source, scratch)
            scratch.rename(destination)
    except (OSError, Degraded):
        shutil.rmtree(scratch, ignore_errors=True)  # half a copy must not keep the disk full
        raise
    return sent


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a full disk or quota into NoSpace, which says where and what to do."""
    try:
        yield
    except OSError as error:
        # copytree raises one error that lists what went wrong with each file.
        if error.errno in FULL or any(os.strerror(each) in str(error) for each in FULL):
            raise NoSpace(
                f"no disk space for {folder}: {free_mb(folder)} MB free. Nothing was lost; make "
                "room and run it again"
            ) from error
        raise


def _is_on_pc(path: Path) -> bool:
    return path.is_relative_to(settings.PC_DIR)


def _on_pc(path: Path) -> str:
    """Return what PC calls a path of its own: below the folder that the key is for, else in full.

    Raises ValueError for one that no key is for.
    """
    for folder in (link_folder(), archive_folder()):
        if path.is_relative_to(folder):
            if not settings.PC_DATA_DIR:
                return str(path.relative_to(folder))
            return str(Path(settings.PC_DATA_DIR) / "pc" / path.relative_to(settings.PC_DIR))
    raise ValueError(f"{path} is PC's own")


def _compare(source: Path, copy: Path) -> int:
    """Return the bytes of a folder's files; raise Degraded where a copy's differ."""
    total = 0
    for path in sorted(source.iterdir()):
        if sha256(path) != sha256(copy / path.name):
            raise Degraded(f"{path.name} arrived at {copy} with other bytes than were sent")
        total += path.stat().st_size
    return total


def free_mb(folder: Path) -> int:
    """Return the free space of the disk that holds a folder, in MB."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 1_000_000


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Have the names of a folder's files on disk before returning."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
