"""The contracts we trade by name, and what each is worth for a price of the underlying.

Prices come from the panel's own arithmetic: the panel of a bar that stands at 1 gives the day's
factor, so that a live quote and a replayed bar cannot differ.
"""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from markets.domain.bars import Bars
from markets.domain.calendar import Calendar, trading_date
from markets.domain.contracts import EXPIRY_REACH, expiries, front_expiry, lot_size
from markets.domain.price_panel import build_price_panel
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS


@dataclass(frozen=True, slots=True)
class Instrument:
    """Name one contract; its name carries the expiry, like "NIFTY 2026-06-30 FUT"."""

    market: str
    name: str
    expiry: dt.date | None
    """The last day of a future, None for a perpetual."""
    lot_size: Decimal
    """Units per lot."""


class BadInstrument(ValueError):
    """A name that is no contract of the market."""


class Instruments:
    """Answer which contract a market trades at an instant and for how much."""

    def __init__(self, market: str, calendar: Calendar) -> None:
        if market not in MARKETS:
            raise ValueError(f"unknown market {market!r}; the known ones are {', '.join(MARKETS)}")
        self.market = market
        self.calendar = calendar
        self._fronts: dict[dt.date, tuple[Instrument, float]] = {}

    def tradable_at(self, at: Epoch) -> Epoch | None:
        """Return when an order of this instant can fill: now, else as the next session opens."""
        if self.calendar.is_open(at):
            return at
        following = self.calendar.next_session(at)
        return following.opens_at if following else None

    def front(self, at: Epoch) -> Instrument:
        """Return the contract that an order filled at an instant trades."""
        return self._front(at)[0]

    def price(self, instrument: Instrument, underlying: float, at: Epoch) -> float | None:
        """Return what a contract is worth, None for one beyond the front, which is not traded.

        A contract that expires today or has expired is worth the underlying itself, as in the
        panel, so that whoever still holds one can leave it.
        """
        front, factor = self._front(at)
        if instrument == front:
            return underlying * factor
        if instrument.expiry is not None and instrument.expiry <= trading_date(at):
            return underlying
        return None

    def parse(self, name: str) -> Instrument:
        """Return the contract of a name; raise BadInstrument where the market has none such."""
        expiry = None
        if self.market == "nifty":
            try:
                expiry = dt.date.fromisoformat(name.split(" ")[1])
            except (IndexError, ValueError) as error:
                raise BadInstrument(f"{self.market} has no instrument {name!r}") from error
        found = self._instrument(expiry)
        if found.name != name:
            raise BadInstrument(f"{self.market} has no instrument {name!r}")
        return found

    def _front(self, at: Epoch) -> tuple[Instrument, float]:
        date = trading_date(at)
        found = self._fronts.get(date)
        if found is None:
            times, ones = np.array([at], dtype=np.int64), np.ones(1)
            bar = Bars(times, times + 1, ones, ones, ones, ones, ones)
            panel = build_price_panel(self.market, bar, self.calendar, slippage_bps=0.0)
            expiry = None
            if self.market == "nifty":
                known = expiries(self.calendar, date, date + EXPIRY_REACH)
                expiry = front_expiry(date, known)
            found = self._fronts[date] = (self._instrument(expiry), float(panel.open[0]))
        return found

    def _instrument(self, expiry: dt.date | None) -> Instrument:
        name = MARKETS[self.market].instrument
        if expiry is not None:
            name = f"{MARKETS[self.market].title} {expiry.isoformat()} FUT"
        lot = lot_size(self.market, expiry or dt.date.min)
        return Instrument(self.market, name, expiry, Decimal(repr(lot)))
