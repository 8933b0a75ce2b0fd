"""The bots' ledger app."""

from typing import Any

from django.apps import AppConfig


class BotsConfig(AppConfig):
    """Hear when a market's history is replaced, and know the bots' own executions."""

    name = "bots"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        from tradingsite.signals import bars_removed, executions_named, market_replaced

        market_replaced.connect(_forget)
        bars_removed.connect(_withdraw)
        executions_named.connect(_ours)


def _forget(market: str, **kwargs: Any) -> None:
    from bots.services import forget_market

    forget_market(market)


def _withdraw(market: str, timeframe: str, first: int, last: int, **kwargs: Any) -> list[str]:
    from bots.services import withdraw_models

    return withdraw_models(market, timeframe, first, last)


def _ours(market: str, trade_ids: set[str], **kwargs: Any) -> set[str]:
    from bots.services import executions_of_bots

    return executions_of_bots(market, trade_ids)
