"""Which executions of an account are the bots' own; `bots`, to the right, answers here."""

from collections.abc import Collection
from typing import Protocol

from tradingsite.ports import Port


class OwnExecutions(Protocol):
    """Whoever knows what the bots have traded."""

    def among(self, market: str, trade_ids: Collection[str]) -> set[str]:
        """Return those of the venue's execution ids that are a bot's."""


_PORT: Port[OwnExecutions] = Port("the executions of the bots")
provide, get = _PORT.provide, _PORT.get
