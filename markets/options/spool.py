"""Minutes that are received and not yet committed: one small file each, written before the commit.

A collector that is killed between the two leaves the file, and whoever collects next stores it.
While PostgreSQL is away the files are the buffer, so the memory holds one minute only; storing one
twice changes nothing, so nobody need own a file.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markets.options.minute_batch import BadBatch, Batch

# A session and a half, some 40 MB.
MOST_FILES = 600
SUFFIX = ".minute"

log = logging.getLogger(__name__)


class SpoolFull(OSError):
    """The spool holds as many minutes as it may; the message says where."""


@dataclass(frozen=True, slots=True)
class Spool:
    """Keep batches in a folder of this machine."""

    folder: Path

    def put(self, batch: Batch) -> Path:
        """Write a batch, whole or not at all, and return its file.

        It is not forced to the disk, since a killed process loses nothing of what it wrote; `keep`
        does that where the file has to stay. Raises OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{batch.minute}-{secrets.token_hex(4)}{SUFFIX}"
        if len(self.waiting()) >= MOST_FILES:
            raise SpoolFull(f"{MOST_FILES} minutes wait in {self.folder} already")
        scratch = path.with_suffix(".partial")
        try:
            scratch.write_bytes(batch.pack())
            scratch.replace(path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        return path

    def keep(self, path: Path) -> None:
        """Have a file on the disk before returning: it stays until PostgreSQL is back."""
        for each in (path, self.folder):
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def waiting(self) -> list[Path]:
        """Return the files, oldest minute first."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def batches(self) -> Iterator[tuple[Path, Batch]]:
        """Give each file with its batch; one that cannot be read is put aside and logged."""
        for path in self.waiting():
            try:
                packed = path.read_bytes()
            except FileNotFoundError:  # another collector has stored it meanwhile
                continue
            try:
                batch = Batch.unpack(packed)
            except BadBatch as error:
                log.error("%s holds no minute and is put aside: %s", path, error)
                self.put_aside(path)
                continue
            yield path, batch

    def put_aside(self, path: Path) -> None:
        """Rename a file so that it is kept for a person and not tried again."""
        path.replace(path.with_suffix(".bad"))

    def minutes(self) -> set[int]:
        """Return the minutes that wait, in epoch seconds."""
        return {int(path.name.partition("-")[0]) for path in self.waiting()}
