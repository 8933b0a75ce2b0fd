"""What an exchange shows to everybody: its contract, bars, books and ticks, without keys."""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

import numpy as np

from markets.domain import timeframes
from markets.domain.bars import BadBars, Bars
from markets.domain.contracts import BTC_LOT_SIZE
from markets.venues.base import MarketQuote, NotListed, Tick, TickStream, VenueInstrument
from markets.venues.ccxt.client import ExchangeConfig, Wire
from markets.venues.ccxt.ticks import PolledTicks
from markets.venues.odd_rows import legible
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded
from tradingsite.registry import MARKETS

NAME = MARKETS["btc"].instrument
UNDERLYING = MARKETS["btc"].title
BARS_PER_PAGE = 1_000
"""The smallest of the exchanges' limits."""
FUNDINGS_PER_PAGE = 500
"""The smallest of the exchanges' limits."""
DAY_SECONDS = 60.0
"""Real time for which ticks repeat the day's volume and the open interest."""
BOOK_LEVELS = 5
MILLISECONDS = 1_000


class ExchangeData:
    """Read the prices of one perpetual contract."""

    poll_seconds = 1.0
    """Real time between two looks at the book for ticks."""

    def __init__(self, config: ExchangeConfig) -> None:
        """Take where and who; nothing is asked of the exchange before the first call."""
        self.name = config.id
        self.config = config
        self._data = Wire(config, with_keys=False)
        self._asked: deque[float] = deque(maxlen=10_000)

    def instruments(self) -> list[VenueInstrument]:
        """Return the one contract the desk trades, with its steps of today."""
        self._data.refresh()
        market = self._market(self._data)
        return [
            VenueInstrument(
                name=NAME,
                symbol=self.config.symbol,
                token=0,
                kind="PERP",
                underlying=UNDERLYING,
                expiry=None,
                strike=Decimal(0),
                lot_size=Decimal(repr(BTC_LOT_SIZE)),
                tick_size=decimal_of(market["precision"]["price"]),
            )
        ]

    def reach_seconds(self, timeframe: str) -> int:
        """Return how long a span of bars one request gives; 0 where there are none such."""
        has_them = timeframe in (self._data.client().timeframes or {})
        return BARS_PER_PAGE * timeframes.seconds(timeframe) if has_them else 0

    def bars(self, instrument: str, timeframe: str, start: Epoch, end: Epoch) -> Bars:
        """Return the bars that open in [start, end) and are closed by the exchange's own clock."""
        symbol, length = self._symbol(instrument), timeframes.seconds(timeframe)
        now = int(self._read(self._data, "fetch_time")) // MILLISECONDS
        first, stop = -(-start // length) * length, min(end, now - length + 1)
        rows: list[list[Any]] = []
        while first < stop:
            last = min(first + BARS_PER_PAGE * length, stop)
            until = {"until": last * MILLISECONDS - 1}
            since = first * MILLISECONDS
            page = self._read(
                self._data, "fetch_ohlcv", symbol, timeframe, since, BARS_PER_PAGE, until
            )
            rows += [row for row in page if since <= row[0] < last * MILLISECONDS]
            first = last
        return _bars(rows, length, f"{self.name} {timeframe}")

    def funding(self, start: Epoch, end: Epoch) -> list[tuple[int, Decimal]]:
        """Return when funding was paid in [start, end) and the rate longs paid, oldest first.

        Times are whole epoch seconds: the exchange stamps a payment some milliseconds late.
        """
        found: dict[int, Decimal] = {}
        since, until = start * MILLISECONDS, {"until": end * MILLISECONDS - 1}
        while True:
            symbol, most = self.config.symbol, FUNDINGS_PER_PAGE
            method = "fetch_funding_rate_history"
            page = self._read(self._data, method, symbol, since, most, until)
            rows = {
                int(row["timestamp"]) // MILLISECONDS: decimal_of(row["fundingRate"])
                for row in page
            }
            fresh = {at: rate for at, rate in rows.items() if start <= at < end and at not in found}
            found |= fresh
            if not fresh or len(page) < most:
                return sorted(found.items())
            since = (max(fresh) + 1) * MILLISECONDS

    @legible
    def quotes(self, instruments: Collection[str]) -> dict[str, MarketQuote]:
        """Return the quotes of instruments; one the exchange does not list is not among them."""
        found = {}
        for name in instruments:
            if name != NAME:
                continue
            book = self._book(self._data)
            ticker = self._read(self._data, "fetch_ticker", self.config.symbol)
            if book is None or not ticker.get("last"):
                continue
            bid, ask, at = book
            last = decimal_of(ticker["last"])
            volume, interest = self._day(self._data, ticker, float(last))
            found[name] = MarketQuote(name, last, bid, ask, volume, interest, at)
        return found

    def ticks(
        self, instruments: Collection[str], on_ticks: Callable[[list[Tick]], None]
    ) -> TickStream:
        """Start a thread that asks for the book once a second; raise NotListed for another name."""
        for name in instruments:
            self._symbol(name)
        # A connection of its own, so that an order never waits for a tick.
        wire = Wire(self.config, with_keys=False)
        day = (0, 0, float("-inf"))

        def poll() -> list[Tick]:
            nonlocal day
            book = self._book(wire) if NAME in instruments else None
            if book is None:
                return []
            bid, ask, at = float(book[0]), float(book[1]), book[2]
            last = (bid + ask) / 2.0
            if time.monotonic() - day[2] >= DAY_SECONDS:
                ticker = self._read(wire, "fetch_ticker", self.config.symbol)
                volume, interest = self._day(wire, ticker, last)
                day = (int(volume), int(interest), time.monotonic())
            return [Tick(NAME, last, bid, ask, day[0], day[1], at)]

        return PolledTicks(poll, on_ticks, self.poll_seconds)

    @legible
    def quote(self, instrument: str) -> Decimal | None:
        """Return the middle of the book, None where a side of it is empty."""
        self._symbol(instrument)
        book = self._book(self._data)
        return (book[0] + book[1]) / 2 if book else None

    def _read(self, wire: Wire, method: str, *arguments: Any) -> Any:
        self._note()
        return wire.ask(method, *arguments)

    def _note(self) -> None:
        self._asked.append(time.monotonic())

    def _market(self, wire: Wire) -> dict[str, Any]:
        markets = wire.client().markets
        if self.config.symbol not in markets:
            raise NotListed(f"{self.name} lists no {self.config.symbol} today")
        return dict(markets[self.config.symbol])

    def _symbol(self, instrument: str) -> str:
        if instrument != NAME:
            raise NotListed(f"{self.name} has no instrument {instrument!r}; it has {NAME}")
        return self.config.symbol

    def _name(self, symbol: str) -> str:
        return NAME if symbol == self.config.symbol else symbol

    @legible
    def _book(self, wire: Wire) -> tuple[Decimal, Decimal, dt.datetime] | None:
        self._market(wire)
        book = self._read(wire, "fetch_order_book", self.config.symbol, BOOK_LEVELS)
        if not book["bids"] or not book["asks"]:
            return None
        stamp = book.get("timestamp")
        at = clock.from_seconds(stamp / MILLISECONDS) if stamp else clock.market()
        return decimal_of(book["bids"][0][0]), decimal_of(book["asks"][0][0]), at

    def _day(self, wire: Wire, ticker: dict[str, Any], last: float) -> tuple[Decimal, Decimal]:
        """Return the units traded in a day and those open."""
        volume = ticker.get("baseVolume") or (ticker.get("quoteVolume") or 0.0) / last
        if not wire.client().has.get("fetchOpenInterest"):
            return decimal_of(volume), Decimal(0)
        interest = self._read(wire, "fetch_open_interest", self.config.symbol)
        return decimal_of(volume), decimal_of(interest.get("openInterestAmount") or 0)


def _bars(rows: list[list[Any]], length: int, what: str) -> Bars:
    if not rows:
        return Bars.empty()
    try:
        columns = np.array(rows, dtype=np.float64)
        opens_at = columns[:, 0].astype(np.int64) // MILLISECONDS
        bars = Bars(opens_at, opens_at + length, *(columns[:, each].copy() for each in range(1, 6)))
        bars.validate()
    except (BadBars, IndexError, TypeError, ValueError) as error:
        raise Degraded(f"the bars of {what} are no bars: {error}") from error
    return bars


def decimal_of(value: Any) -> Decimal:
    """Return a number of ccxt's, which are floats, as it reads."""
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"{value} is no number")
    return number


def positive(value: Any) -> Decimal:
    """Return a number of ccxt's that must be above zero; raise ValueError for another."""
    number = decimal_of(value)
    if number <= 0:
        raise ValueError(f"{number:f} is not above zero")
    return number
