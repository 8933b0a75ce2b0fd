"""The market data app."""

from typing import Any

from django.apps import AppConfig


class MarketsConfig(AppConfig):
    """Hear when a generated market gives way to imported bars."""

    name = "markets"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receiver."""
        from tradingsite.signals import market_replaced

        market_replaced.connect(_forget)


def _forget(market: str, **kwargs: Any) -> None:
    from markets.owner_trades import forget_generated

    forget_generated(market)
