"""Where each market's bars come from: the venue, and the venue's instrument behind the bars."""

from __future__ import annotations

import threading
from collections.abc import Callable

from markets import store
from markets.domain.calendar import Calendar
from markets.venues import configured
from markets.venues.base import DataVenue
from markets.venues.ccxt.venue import ExchangeVenue
from tradingsite.registry import MARKETS

# NIFTY is trained on the index and traded by its future.
INSTRUMENTS = {"nifty": "NIFTY", "btc": MARKETS["btc"].instrument}
VOLATILITY = "INDIA VIX"

Maker = Callable[[Calendar], DataVenue]

# A venue remembers the list of the day and its connections, so a process keeps one for a market.
_kept: dict[str, tuple[Calendar, DataVenue]] = {}
_keeping = threading.Lock()


def venue_of(market: str) -> DataVenue:
    """Return the venue of a market's prices, as the settings say; nothing is asked of it yet."""
    calendar = store.load_calendar(market)
    with _keeping:
        kept = _kept.get(market)
        # An edited day makes another calendar, which the broker's candles are cut by.
        if kept is None or (market == "nifty" and kept[0] is not calendar):
            kept = _kept[market] = (calendar, MAKERS[market](calendar))
        return kept[1]


def exchange() -> ExchangeVenue:
    """Return the exchange's venue, which also knows of funding."""
    venue = venue_of("btc")
    if not isinstance(venue, ExchangeVenue):
        raise TypeError(f"the venue of btc is {venue.name}, which pays no funding")
    return venue


def forget(market: str | None = None) -> None:
    """Make a market's venue anew when it is next asked for, or every market's."""
    with _keeping:
        for each in [market] if market else list(_kept):
            _kept.pop(each, None)


def _exchange(calendar: Calendar) -> DataVenue:
    return configured.exchange_venue()


MAKERS: dict[str, Maker] = {"nifty": configured.kite_venue, "btc": _exchange}
