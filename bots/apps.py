"""The bots' ledger app."""

from collections.abc import Collection
from typing import Any

from django.apps import AppConfig

from tradingsite.clock import Epoch


class LedgerExecutions:
    """The bots' own executions, as the ledger has them."""

    def among(self, market: str, trade_ids: Collection[str]) -> set[str]:
        """Return those of the venue's execution ids that are a bot's."""
        from bots.services import executions_of_bots

        return executions_of_bots(market, set(trade_ids))


class BotsConfig(AppConfig):
    """Hear when a market's history is replaced, and know the bots' own executions."""

    name = "bots"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers and fill the port."""
        from markets.capture import own_executions
        from tradingsite.signals import bars_removed, market_replaced

        market_replaced.connect(_forget)
        bars_removed.connect(_withdraw)
        own_executions.provide(LedgerExecutions())


def _forget(market: str, **kwargs: Any) -> None:
    from bots.services import forget_market

    forget_market(market)


def _withdraw(market: str, timeframe: str, first: Epoch, last: Epoch, **kwargs: Any) -> list[str]:
    from bots.services import withdraw_models

    return withdraw_models(market, timeframe, first, last)
