"""The training app."""

from pathlib import Path
from typing import Any

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """Hear when a market's history is replaced, and when a model of the archive is wanted."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        from tradingsite.signals import bundle_wanted, bundles_counted, market_replaced

        market_replaced.connect(_abandon)
        bundle_wanted.connect(_fetch)
        bundles_counted.connect(_archived)


def _abandon(market: str, **kwargs: Any) -> None:
    from training.pipeline.runs import abandon

    abandon(market)


def _fetch(slot: str, run_id: int, destination: Path, **kwargs: Any) -> bool:
    from training.pipeline.steps import fetch

    return fetch(slot, run_id, destination)


def _archived(slot: str, **kwargs: Any) -> set[int]:
    from training.pipeline.steps import archived_runs

    return archived_runs(slot)
