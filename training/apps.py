"""The training app."""

from typing import Any

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """Hear when a market's history is replaced."""

    name = "training"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receiver."""
        from tradingsite.signals import market_replaced

        market_replaced.connect(_abandon)


def _abandon(market: str, **kwargs: Any) -> None:
    from training.pipeline import abandon

    abandon(market)
