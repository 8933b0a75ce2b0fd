"""The archive of bundles as the store sees it; `training`, to the right, puts the real one here."""

from pathlib import Path
from typing import Protocol

from tradingsite.ports import Port


class Archive(Protocol):
    """Whoever keeps every bundle that was ever made."""

    def fetch(self, slot: str, run_id: int, destination: Path) -> bool:
        """Put a run's bundle into a folder; return False where no archive that answers has it."""

    def archived_runs(self, slot: str) -> set[int]:
        """Return the runs whose bundles an archive that answers has."""


_PORT: Port[Archive] = Port("the archive of models")
provide, get = _PORT.provide, _PORT.get
