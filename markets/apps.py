"""The market data app."""

from typing import Any

from django.apps import AppConfig


class MarketsConfig(AppConfig):
    """Hear when a generated market gives way to imported bars."""

    name = "markets"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receiver."""
        from markets.venues import own_simulator
        from tradingsite.signals import market_replaced

        market_replaced.connect(_forget)
        own_simulator.on_foreign = _tell_foreign


def _tell_foreign(key: str, text: str) -> None:
    from markets.venues import odd_row_notices

    odd_row_notices.tell(key, text, "critical")


def _forget(market: str, **kwargs: Any) -> None:
    from markets.capture.owner_trades import forget_generated

    forget_generated(market)
