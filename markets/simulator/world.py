"""One market on one clock, shared by every service of the simulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from markets.domain.calendar import (
    Calendar,
    CryptoCalendar,
    NseCalendar,
    nse_sessions,
    trading_date,
)
from markets.simulator.board import Board, Quoter
from markets.simulator.listing import Exchange, Listing
from markets.simulator.price_path import PricePath
from markets.simulator.prices import Prices, PriceSource
from tradingsite.clock import Epoch

# Real time for which one evaluation of all quotes serves: ticks come a few times a second.
BOARD_SECONDS = 0.2
# A clock that jumped further, or back, wants new quotes at once; the fastest night goes 96 s.
BOARD_MARKET_SECONDS = 120.0


@dataclass(slots=True)
class World:
    """Hold the simulated market; `now` gives its time in epoch seconds."""

    now: Callable[[], float]
    prices: Prices
    exchange: Exchange
    quoter: Quoter
    _board: Board | None = field(default=None, init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _asked_at: float = field(default=float("-inf"), init=False)

    @classmethod
    def build(
        cls,
        now: Callable[[], float],
        seed: int = 7,
        *,
        nse: Calendar | None = None,
        nifty: PriceSource | None = None,
        btc: PriceSource | None = None,
    ) -> World:
        """Return the world of a seed; a path that is given takes the generated one's place."""
        nse = nse or NseCalendar(nse_sessions())
        nifty = nifty or PricePath.build("nifty", nse, seed)
        btc = btc or PricePath.build("btc", CryptoCalendar(), seed)
        prices = Prices(nifty, btc, nse, seed)
        exchange = Exchange(prices)
        return cls(now, prices, exchange, Quoter(exchange, seed))

    def board(self) -> Board:
        """Return the quotes of now, at most a fifth of a real second old."""
        looked_at, now = time.monotonic(), self.now()
        board = self._board
        is_old = looked_at - self._looked_at >= BOARD_SECONDS
        if board is None or is_old or not 0.0 <= now - self._asked_at <= BOARD_MARKET_SECONDS:
            board = self.quoter.board(now)
            self._board, self._looked_at, self._asked_at = board, looked_at, now
        return board

    def listing(self) -> Listing:
        """Return what is listed today."""
        return self.exchange.on(trading_date(Epoch(self.now())))

    def is_open(self) -> bool:
        """Return whether the stock exchange's session is open now."""
        return self.prices.nse.is_open(Epoch(self.now()))
