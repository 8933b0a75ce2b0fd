"""Limits every decision passes through, in the replay and in the bots alike.

Two rules: no slot holds more than its limit, and once a bot has lost its daily limit it may only
reduce until the next trading date. Amounts may be floats (replay) or Decimals (bots), never mixed.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from markets.domain.calendar import DAY_SECONDS, IST_OFFSET_SECONDS, trading_date
from tradingsite.clock import Epoch

Amount = Any
"""A float or a Decimal."""


def bounded_lots(lots: int, wanted_lots: int, limit_lots: int, reduce_only: bool) -> int:
    """Return the lots a slot may hold next, given what it holds and what it wants."""
    bounded = min(max(wanted_lots, -limit_lots), limit_lots)
    if reduce_only:
        return min(max(bounded, min(lots, 0)), max(lots, 0))
    return bounded


@dataclass(frozen=True, slots=True)
class GateState:
    """Hold what a gate must remember over a restart."""

    date: datetime.date | None = None
    opening_equity: Amount = 0
    last_equity: Amount = 0
    is_latched: bool = False


class RiskGate:
    """Watch one bot's equity, all its slots together, and bound what its slots may hold.

    The day's loss counts from the last equity seen on the date before. Reaching the limit latches
    the gate for that trading date (IST): winning the money back does not open it again.
    """

    __slots__ = (
        "_date",
        "_day",
        "_last_equity",
        "_opening_equity",
        "daily_loss_limit",
        "is_latched",
    )

    def __init__(self, daily_loss_limit: Amount, state: GateState | None = None) -> None:
        if not daily_loss_limit > 0:
            raise ValueError(f"the daily loss limit must be positive, not {daily_loss_limit}")
        state = state or GateState()
        self.daily_loss_limit = daily_loss_limit
        self.is_latched = state.is_latched
        self._date = state.date
        self._day: int | None = None
        self._opening_equity = state.opening_equity
        self._last_equity = state.last_equity

    def observe(self, at: Epoch, equity: Amount) -> bool:
        """Take the bot's whole equity at an instant; return whether it may only reduce."""
        # Most instants lie on the date of the one before, and to make a date takes long.
        day = (at + IST_OFFSET_SECONDS) // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._begin(trading_date(at), equity)
        self._last_equity = equity
        if self._opening_equity - equity >= self.daily_loss_limit:
            self.is_latched = True
        return self.is_latched

    def _begin(self, date: datetime.date, equity: Amount) -> None:
        if date != self._date:
            self._opening_equity = equity if self._date is None else self._last_equity
            self._date = date
            self.is_latched = False

    def bound(self, lots: int, wanted_lots: int, limit_lots: int) -> int:
        """Return the lots a slot may hold next."""
        return bounded_lots(lots, wanted_lots, limit_lots, self.is_latched)

    def state(self) -> GateState:
        """Return what to store, so that a restart neither forgets nor repeats a latch."""
        return GateState(self._date, self._opening_equity, self._last_equity, self.is_latched)
