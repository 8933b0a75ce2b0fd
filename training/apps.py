"""The training app."""

from pathlib import Path
from typing import Any

from django.apps import AppConfig


class PcArchive:
    """PC's archive of bundles, for the store of models on PROD."""

    def fetch(self, slot: str, run_id: int, destination: Path) -> bool:
        """Put a run's bundle into a folder; return False where the archive has none."""
        from training.pipeline.pc_copy import fetch

        return fetch(slot, run_id, destination)

    def archived_runs(self, slot: str) -> set[int]:
        """Return the runs whose bundles the archive has."""
        from training.pipeline.pc_copy import archived_runs

        return archived_runs(slot)


class TrainingConfig(AppConfig):
    """Hear when a market's history is replaced, and when a model of the archive is wanted."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receiver and provide the archive."""
        from bots.modelstore import archive_port
        from tradingsite.signals import market_replaced

        market_replaced.connect(_abandon)
        archive_port.provide(PcArchive())


def _abandon(market: str, **kwargs: Any) -> None:
    from training.pipeline.runs import abandon

    abandon(market)
