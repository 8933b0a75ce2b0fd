"""What can be set about the exchange: where the real one's ways are in doubt, or may be let off.

Set at the start, on `Hyperliquid.rules`, or by `POST /_sim/exchange/rules {"NAME": VALUE}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Rules:
    """Say how the exchange behaves where a client has to cope with either way."""

    ioc_as_filled: bool = False
    """A partly filled immediate order is called "filled", not "canceled", its `sz` above zero."""
    reduce_only_to_flat: bool = True
    """A reduce-only order larger than the position fills to flat; else it is refused."""
    reduce_only_minimum: bool = False
    """The minimum of $10 holds for reduce-only orders, too."""
    cloid_once: bool = True
    """A client's order id that was used before is refused; what the real one does is unknown."""
    address_requests: int | None = None
    """What an address may ask for besides one for each USDC traded (10,000); None for no limit."""
    schedule_volume: int = 1_000_000
    """USDC that must have been traded before a cancellation may be scheduled."""

    def set(self, wanted: dict[str, Any]) -> None:
        """Change rules by name; raise AttributeError for one that there is not."""
        for name, value in wanted.items():
            getattr(self, name)
            setattr(self, name, value)
