"""The bots' ledger app."""

from typing import Any

from django.apps import AppConfig


class BotsConfig(AppConfig):
    """Hear when a market's history is replaced."""

    name = "bots"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receiver."""
        from tradingsite.signals import market_replaced

        market_replaced.connect(_forget)


def _forget(market: str, **kwargs: Any) -> None:
    from bots.services import forget_market

    forget_market(market)
