"""The quotes of everything that is listed, at one instant: a function of time, in columns.

A board row has the place of its instrument in the day's list. Futures carry the spot to their
expiry by the panel's own arithmetic; options are priced on their chain's smile; spreads, depth,
volumes and open interest follow stated rules and the instrument's own random numbers.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from markets.domain.bars import Bars, BoolArray, FloatArray, IntArray
from markets.domain.calendar import ist_instant, trading_date
from markets.domain.contracts import YEAR_DAYS
from markets.simulator.extremes import Extremes
from markets.simulator.listing import CALL, CHAINS, FUTURE, INDEX, Exchange, Listed, Listing
from markets.simulator.noise import key_of, uniform, wave
from markets.simulator.options import YEAR_SECONDS, black76, smile
from markets.simulator.prices import MINUTE, Prices, bars_of, sessions_between
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS

CARRY_PER_YEAR = MARKETS["nifty"].carry_per_year
DEPTH_LEVELS = 5
# An option's high and low are looked for at this step, and wherever else it was quoted.
_OPTIONS_EXTREMES_SECONDS = 900
_SMILE_PERIODS = (900, 6 * 3_600, 86_400)
_LEVELS = {"NIFTY": 1.0, "BANKNIFTY": 1.18, "SENSEX": 1.02}


@dataclass(frozen=True, slots=True)
class Board:
    """Hold quotes in columns; prices in rupees, volumes and open interest in units."""

    listing: Listing
    at: float
    is_open: bool
    last: FloatArray
    bid: FloatArray
    ask: FloatArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    """The close of the session before."""
    volume: IntArray
    interest: IntArray
    interest_at_open: IntArray
    columns: _Columns

    def depth(self, place: int) -> tuple[list[tuple[int, float, int]], ...]:
        """Return five bids and five offers of an instrument: quantity, price, orders."""
        found = self.depths(np.array([place]))
        bids, offers = (
            list(zip(*(each[0, side].tolist() for each in found), strict=True)) for side in (0, 1)
        )
        return bids, offers

    def depths(self, places: IntArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Return quantities, prices and orders of many: instruments x (bid, offer) x levels."""
        columns = self.columns
        numbers = int(self.at / 2.0) * 4 * DEPTH_LEVELS + np.arange(4 * DEPTH_LEVELS)
        random = uniform(0, columns.depth_key[places, None] + numbers)
        lots = (1 + (random * 24).astype(np.int64)).reshape(-1, 2, 2, DEPTH_LEVELS)
        sizes, orders = lots[:, 0], lots[:, 1]
        levels = np.arange(DEPTH_LEVELS)
        steps = np.array([[-1], [1]]) * levels * columns.tick[places, None, None]
        best = np.stack((self.bid[places], self.ask[places]), axis=1)
        price = np.round(best[:, :, None] + steps, 2)
        is_there = price > 0.0
        # Deeper levels hold more.
        quantity = sizes * columns.lot[places, None, None] * (1 + levels)
        return (
            np.where(is_there, quantity, 0),
            np.where(is_there, price, 0.0),
            np.where(is_there, orders, 0),
        )


@dataclass(frozen=True, slots=True)
class _Columns:
    """Hold what of a day's list does not change with time, for a span of its rows."""

    underlying: IntArray
    """Place of each row's underlying among `names`."""
    names: tuple[str, ...]
    carries: FloatArray
    """Years of carry from the day to the expiry, 0 for what has none."""
    expires_at: FloatArray
    strike: FloatArray
    is_option: BoolArray
    is_call: BoolArray
    level: FloatArray
    tick: FloatArray
    lot: IntArray
    half_spread: FloatArray
    """Least half spread in ticks."""
    luck: FloatArray
    """A random number of each row, [0, 1)."""
    depth_key: IntArray
    """Of each row's stream of random numbers for its depth."""


class Quoter:
    """Quote whatever is listed."""

    def __init__(self, exchange: Exchange, seed: int = 7) -> None:
        self.exchange = exchange
        self.prices: Prices = exchange.prices
        self._seed = seed
        self._columns = lru_cache(maxsize=3)(self._make_columns)
        self._ranges = lru_cache(maxsize=2)(self._make_ranges)
        self._newest: Board | None = None

    def board(self, at: float) -> Board:
        """Return the quotes at an instant; while the market is closed, those of the last close."""
        newest = self._newest
        if newest is not None and newest.at == at:
            return newest
        date = trading_date(Epoch(at))
        listing = self.exchange.on(date)
        columns = self._columns(date)
        opened, closed = self._session_until(at)
        quoted_at = min(at, closed)
        last = self._values(columns, quoted_at)
        # A session before today's is over: nothing has traded yet on this list.
        is_today = trading_date(Epoch(opened)) == date
        ranges = self._ranges(date, opened)
        high, low = _extremes(columns, ranges, quoted_at, last)
        progress = (quoted_at - opened) / (closed - opened) if is_today else 0.0
        volume, interest, interest_at_open = self._activity(columns, ranges.open, progress)
        bid, ask = self._sides(columns, last)
        board = Board(
            listing,
            at,
            opened <= at < closed,
            last,
            bid,
            ask,
            ranges.open,
            high,
            low,
            ranges.close,
            volume,
            interest,
            interest_at_open,
            columns,
        )
        self._newest = board
        return board

    def history(self, row: Listed, seconds: int, start: float, end: float) -> tuple[Bars, IntArray]:
        """Return the bars of an instrument that open in [start, end), and its open interest.

        The bar that is still forming is among them, as it is at the broker.
        """
        sessions = sessions_between(self.prices.nse, start, end)
        bars = bars_of(lambda at: self.prices_of(row, at), sessions, seconds, start, end)
        numbers = bars.opens_at // 60
        share = 0.4 + 1.2 * uniform(key_of(row.symbol, self._seed), numbers)
        busy = 0 if row.kind == INDEX else 900 if row.kind == FUTURE else 250
        volume = np.floor(share * busy * seconds / 900.0) * max(row.lot_size, 1)
        steps = (0.5 + 0.5 * uniform(key_of(row.symbol, 5), numbers // 15)) * 20_000
        interest = np.floor(steps) * (row.lot_size if row.expiry else 0)
        filled = Bars(
            bars.opens_at, bars.closes_at, bars.open, bars.high, bars.low, bars.close, volume
        )
        return filled, interest.astype(np.int64)

    def price(self, row: Listed, at: float) -> float:
        """Return the price of one instrument at an instant."""
        return float(self.prices_of(row, np.array([at]))[0])

    def prices_of(self, row: Listed, at: FloatArray) -> FloatArray:
        """Return the prices of one instrument at instants."""
        listing = Listing.of(trading_date(Epoch(at[-1])), (row,))
        return self._series(_columns_of(listing, self.prices, self._seed), row, at)

    def _make_columns(self, date: dt.date) -> _Columns:
        return _columns_of(self.exchange.on(date), self.prices, self._seed)

    def _make_ranges(self, date: dt.date, opened: int) -> _Ranges:
        columns = self._columns(date)
        before = self.prices.nse.previous_session(Epoch(opened))
        closed = before.closes_at if before else opened
        # That close was a day's carry further from the expiry.
        days = (date - before.date).days if before else 0
        then = replace(
            columns, carries=np.where(columns.carries > 0, columns.carries + days / YEAR_DAYS, 0.0)
        )
        session = self.prices.nse.session_at(Epoch(opened))
        ends = session.closes_at if session else opened + 1
        minutes = np.arange(opened, ends, MINUTE, dtype=np.float64)
        times = minutes[:: _OPTIONS_EXTREMES_SECONDS // MINUTE]
        values = np.stack([self._values(columns, float(at)) for at in times], axis=1)
        others = [row for row in self.exchange.on(date).rows if not row.is_option]
        return _Ranges(
            values[:, 0],
            self._values(then, float(closed)),
            Extremes(times, values[columns.is_option]),
            Extremes(minutes, np.stack([self.prices_of(row, minutes) for row in others])),
        )

    def _values(self, columns: _Columns, at: float) -> FloatArray:
        """Return what every row is worth at one instant."""
        moments = np.array([at])
        spots = np.array([self.prices.spot(name, moments)[0] for name in columns.names])
        level, tilt, bend = self._smile_at(moments)
        return _worth(
            columns,
            spots[columns.underlying],
            columns.carries,
            (columns.expires_at - at) / YEAR_SECONDS,
            float(level[0]) * columns.level,
            float(tilt[0]),
            float(bend[0]),
        )

    def _series(self, columns: _Columns, row: Listed, at: FloatArray) -> FloatArray:
        """Return what one row is worth at many instants."""
        spots = self.prices.spot(row.underlying, at)
        carries = columns.carries
        if row.expiry is not None:
            days = (np.floor((at + 19_800) / 86_400)).astype(np.int64)
            carries = (row.expiry.toordinal() - 719_163 - days) / YEAR_DAYS
        level, tilt, bend = self._smile_at(at)
        years = (columns.expires_at - at) / YEAR_SECONDS
        return _worth(columns, spots, carries, years, level * columns.level, tilt, bend)

    def _smile_at(self, at: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        level = self.prices.spot("INDIA VIX", at) / 100.0
        tilt = -0.16 + 0.05 * wave("tilt", self._seed, at, _SMILE_PERIODS)
        bend = 0.10 + 0.03 * wave("bend", self._seed, at, _SMILE_PERIODS)
        return level, tilt, bend

    def _session_until(self, at: float) -> tuple[int, int]:
        """Return the open and close of the session at an instant, else of the last before it."""
        nse = self.prices.nse
        session = nse.session_at(Epoch(at)) or nse.previous_session(Epoch(at))
        if session is None:
            raise ValueError(f"the simulated exchange has no session before {at:.0f}")
        return session.opens_at, session.closes_at

    def _activity(
        self, columns: _Columns, opened: FloatArray, progress: float
    ) -> tuple[IntArray, IntArray, IntArray]:
        scale = np.where(columns.is_option, np.minimum(opened, 200.0) / 200.0 + 0.02, 1.0)
        lots = (0.3 + columns.luck) * scale * 90_000.0
        # Busier at the ends of the day, and never less than before.
        done = progress + 0.08 * np.sin(2.0 * np.pi * progress)
        has_volume = columns.lot > 0
        volume = np.where(has_volume, np.floor(lots * done) * columns.lot, 0).astype(np.int64)
        opening = np.floor((0.2 + columns.luck) * 60_000.0) * columns.lot
        change = np.floor((columns.luck - 0.4) * 9_000.0 * progress) * columns.lot
        has_interest = columns.carries > 0
        interest = np.where(has_interest, opening + change, 0).astype(np.int64)
        return volume, interest, np.where(has_interest, opening, 0).astype(np.int64)

    def _sides(self, columns: _Columns, last: FloatArray) -> tuple[FloatArray, FloatArray]:
        tick = np.where(columns.tick > 0.0, columns.tick, 0.05)
        wide = np.where(columns.is_option, 0.002, 0.00004) * last
        half = np.maximum(np.ceil(wide / tick), columns.half_spread) * tick
        bid, ask = np.round(last - half, 2), np.round(last + half, 2)
        return np.where(bid >= tick, bid, 0.0), ask


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Hold a session's opens, the closes before it, and the ranges of its rows."""

    open: FloatArray
    close: FloatArray
    options: Extremes
    others: Extremes
    """To the minute: their prices turn nowhere else."""


def _worth(
    columns: _Columns,
    spots: FloatArray,
    carries: FloatArray,
    years: FloatArray,
    level: FloatArray,
    tilt: FloatArray | float,
    bend: FloatArray | float,
) -> FloatArray:
    forward = spots * (1.0 + CARRY_PER_YEAR * np.maximum(carries, 0.0))
    worth = forward
    if columns.is_option.any():
        strike = np.where(columns.is_option, columns.strike, forward)
        volatility = smile(forward, strike, years, level, tilt, bend)
        premium = black76(forward, strike, years, volatility, columns.is_call)
        worth = np.where(columns.is_option, premium, forward)
    tick = np.where(columns.tick > 0.0, columns.tick, 0.05)
    has_tick = (columns.tick > 0.0) | columns.is_option
    rounded = np.maximum(np.round(np.rint(worth / tick) * tick, 2), tick)
    result: FloatArray = np.where(has_tick, rounded, np.round(worth, 4))
    return result


def _columns_of(listing: Listing, prices: Prices, seed: int) -> _Columns:
    rows = listing.rows
    names = tuple(dict.fromkeys(row.underlying for row in rows))
    is_option = np.array([row.is_option for row in rows])
    expires = {row.expiry: 0.0 for row in rows}
    for expiry in expires:
        session = prices.nse.session_on(expiry) if expiry else None
        if session is not None:
            expires[expiry] = float(session.closes_at)
        elif expiry is not None:
            expires[expiry] = float(ist_instant(expiry, dt.time(15, 30)))
    days = [(row.expiry - listing.date).days if row.expiry else 0 for row in rows]
    levels = {chain.name: _LEVELS[chain.name] for chain in CHAINS}
    tokens = np.array([row.token for row in rows], dtype=np.int64)
    return _Columns(
        np.array([names.index(row.underlying) for row in rows]),
        names,
        np.array(days, dtype=np.float64) / YEAR_DAYS,
        np.array([expires[row.expiry] for row in rows]),
        np.array([row.strike for row in rows]),
        is_option,
        np.array([row.kind == CALL for row in rows]),
        np.array([levels.get(row.underlying, 1.0) for row in rows]),
        np.array([row.tick_size for row in rows]),
        np.array([row.lot_size for row in rows], dtype=np.int64),
        np.where(is_option, 1.0, np.array([0.0 if r.kind == INDEX else 1.0 for r in rows])),
        uniform(key_of("luck", seed), tokens),
        np.array([key_of(row.symbol, 11) for row in rows], dtype=np.int64),
    )


def _extremes(
    columns: _Columns, ranges: _Ranges, at: float, last: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the highest and lowest prices of the session up to an instant."""
    high, low = last.copy(), last.copy()
    for rows, extremes in (
        (~columns.is_option, ranges.others),
        (columns.is_option, ranges.options),
    ):
        high[rows], low[rows] = extremes.see(at, last[rows])
    return high, low
