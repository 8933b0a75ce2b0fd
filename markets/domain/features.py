"""The market features a model sees: one float32 row a bar, the same in training, replay and live.

A row is a pure function of the market's bars up to its close, to the last bit, whether it comes
from a rebuild of ten years or from one new bar. TA-Lib's recursive indicators depend on where
their input starts, so they are computed in blocks (calendar quarters of the open, UTC), each
started `WARMUP_BARS` before its first bar: a rebuild and an increment make the very same calls.
A block without its whole warm-up gives no rows, so loading more history never changes a value.

Higher timeframes join on their close: a row sees the last context bar that had closed by its own
close. Where the context bar that should have closed is not there, the row is left out, for a
model must not be shown a stale context in place of the one it was trained on.

What stands beside the bars (India VIX, funding) is known as `markets.domain.exogenous` says; the
days to expiry are those of the future that is traded on the bar's date.

Values are raw: clipped to sane ranges, never scaled by statistics of the sample. Volume is not
used, because an index has none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from markets.domain import exogenous, indicators, timeframes
from markets.domain.bars import Bars, BoolArray, FloatArray, IntArray
from markets.domain.calendar import Calendar, trading_date
from markets.domain.contracts import days_to_expiry
from markets.domain.exogenous import Readings
from tradingsite.clock import Epoch
from tradingsite.registry import CONTEXTS, MARKETS

WARMUP_BARS = 200
"""Bars before a block's first: several times the memory of the slowest indicator."""
VERSION = 2
"""Raise when a value changes meaning: bundles trained on another version are refused.

Not raised when the RSI of prices that stood still became 0: over 200 bars without any move a market
that trades has never had, so that no stored row and no model knows the value of before.
"""

DAY_SECONDS = 86_400
SMALLEST_SIGMA_PCT = 1e-4

log = logging.getLogger(__name__)

ColumnsOf: TypeAlias = Callable[[Bars], dict[str, FloatArray]]

# Every feature and the range its values are clipped to.
RANGES: dict[str, tuple[float, float]] = {
    "ret_1": (-6.0, 6.0),
    "ret_4": (-6.0, 6.0),
    "ret_16": (-6.0, 6.0),
    "rsi": (-1.0, 1.0),
    "ema_fast": (-10.0, 10.0),
    "ema_slow": (-15.0, 15.0),
    "macd_histogram": (-3.0, 3.0),
    "bollinger_position": (-3.0, 3.0),
    "bollinger_width": (0.0, 20.0),
    "atr_ratio": (-3.0, 3.0),
    "adx": (0.0, 1.0),
    "volatility": (-7.0, 4.0),
    "volatility_ratio": (-3.0, 3.0),
    "clock_sin": (-1.0, 1.0),
    "clock_cos": (-1.0, 1.0),
    "gap": (-6.0, 6.0),
    "range_position": (-1.0, 1.0),
    "days_to_expiry": (0.0, 1.5),
    "vix": (-1.0, 2.0),
    "vix_change": (-0.7, 0.7),
    "funding": (-20.0, 20.0),
    "funding_mean": (-20.0, 20.0),
}
# Of the instant of the bar, not of its prices.
EXOGENOUS_NAMES = {
    "nifty": ("days_to_expiry", "vix", "vix_change"),
    "btc": ("funding", "funding_mean"),
}
CONTEXT_NAMES = (
    "ret_1",
    "ret_4",
    "rsi",
    "ema_fast",
    "ema_slow",
    "bollinger_position",
    "volatility_ratio",
)
# A market that never closes has no gaps.
LEFT_OUT = {"nifty": frozenset[str](), "btc": frozenset({"gap"})}
MONTH_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Schema:
    """Name the columns of one slot's feature rows, in order."""

    market: str
    timeframe: str
    names: tuple[str, ...]
    version: int

    @property
    def hash(self) -> str:
        """Return the sha256 of the canonical JSON of the schema, in hex."""
        return _hash_of(self)


@cache
def _hash_of(schema: Schema) -> str:
    canonical = json.dumps(asdict(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Features:
    """Hold feature rows: `values` is float32, one row a bar and one column a schema name."""

    opens_at: IntArray
    closes_at: IntArray
    values: npt.NDArray[np.float32]
    schema: Schema

    def __len__(self) -> int:
        return len(self.opens_at)


@dataclass(frozen=True, slots=True)
class Rows:
    """Hold values computed for some bars; `index` says which, counted in the bars given.

    They are columns in parts, each of all the rows, to be put together once.
    """

    index: IntArray
    parts: tuple[FloatArray, ...]

    def where(self, kept: BoolArray) -> Rows:
        """Return some of the rows."""
        if kept.all():
            return self
        return Rows(self.index[kept], tuple(part[kept] for part in self.parts))


class _Scales(NamedTuple):
    """Hold what other columns are measured by."""

    returns: FloatArray
    """Of one bar, logs in per cent."""
    sigma: FloatArray
    true_range: FloatArray
    bands: tuple[FloatArray, FloatArray, FloatArray]
    """Bollinger's upper, middle and lower."""


@cache
def schema_for(market: str, timeframe: str) -> Schema:
    """Return the schema of a market's timeframe; raise ValueError naming the known ones."""
    contexts = CONTEXTS.get((market, timeframe))
    if contexts is None:
        known = ", ".join(" ".join(slot) for slot in CONTEXTS)
        raise ValueError(f"no features for {market} {timeframe}; there are some for: {known}")
    joined = tuple(f"{context}_{name}" for context in contexts for name in CONTEXT_NAMES)
    names = _own_names(market) + EXOGENOUS_NAMES[market] + joined
    return Schema(market, timeframe, names, VERSION)


def history_start(market: str, timeframe: str, since: Epoch) -> int:
    """Return the opens_at from which bars must be loaded to compute the rows since an instant.

    Ask once for the own timeframe and once for each context. Generous, as holidays cluster and
    the context of the first row may lie in the block before; more history changes no value.
    """
    if MARKETS[market].calendar == "CRYPTO":
        session_seconds, days_per_session = DAY_SECONDS, 1.1
    else:
        session_seconds, days_per_session = 6 * 3_600, 2.0
    bars_per_session = max(1, session_seconds // timeframes.seconds(timeframe))
    days = 14 + int(WARMUP_BARS / bars_per_session * days_per_session)
    return _quarter_starts(since - 14 * DAY_SECONDS, since)[0] - days * DAY_SECONDS


def compute(
    market: str,
    timeframe: str,
    bars: Mapping[str, Bars],
    readings: Mapping[str, Readings],
    calendar: Calendar,
    since: Epoch | None = None,
) -> Features:
    """Return the feature rows of a market's timeframe, all or those with opens_at >= since.

    `bars` holds the bars of the timeframe itself and of each of its contexts, `readings` each
    series of the market's. Rows may be fewer than bars: none before a whole warm-up, none
    where a context is missing or stale.
    """
    schema = schema_for(market, timeframe)
    contexts = CONTEXTS[market, timeframe]
    missing = [name for name in (timeframe, *contexts) if name not in bars]
    if missing:
        raise ValueError(f"{market} {timeframe} features need bars of {', '.join(missing)} too")
    own = bars[timeframe]
    names = _own_names(market)
    rows = _block_rows(own, since, names, lambda block: _own_columns(block, timeframe, calendar))
    rows = _widened(rows, market, own, readings, calendar)
    for context in contexts:
        rows = _join(rows, own, bars[context], timeframes.seconds(context), calendar)
    values = np.concatenate(rows.parts, axis=1, dtype=np.float32, casting="same_kind")
    opens_at, closes_at = own.opens_at[rows.index], own.closes_at[rows.index]
    return _numbers_only(Features(opens_at, closes_at, values, schema))


def _numbers_only(rows: Features) -> Features:
    """Return the rows without those that hold what is no number: no row, no decision."""
    # One sum tells of any: a single NaN or infinity makes it one.
    if math.isfinite(float(rows.values.sum())):
        return rows
    schema, sound = rows.schema, np.isfinite(rows.values)
    names = [schema.names[column] for column in np.flatnonzero(~sound.all(axis=0))]
    log.warning(
        "%s %s: %d rows left out, in which %s is not a number",
        schema.market,
        schema.timeframe,
        int((~sound.all(axis=1)).sum()),
        ", ".join(names),
    )
    kept = sound.all(axis=1)
    return Features(rows.opens_at[kept], rows.closes_at[kept], rows.values[kept], schema)


def _own_names(market: str) -> tuple[str, ...]:
    exogenous_names = {name for names in EXOGENOUS_NAMES.values() for name in names}
    return tuple(name for name in RANGES if name not in LEFT_OUT[market] | exogenous_names)


def _quarter_starts(first: int, last: int) -> list[int]:
    """Return the starts of the calendar quarters (UTC) that hold two instants and all between."""
    months = np.array([first, last], dtype="datetime64[s]").astype("datetime64[M]").astype(int)
    quarters = 3 * np.arange(months[0] // 3, months[1] // 3 + 1)
    starts = quarters.astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
    return [int(start) for start in starts]


def _block_rows(
    bars: Bars, since: Epoch | None, names: Sequence[str], columns_of: ColumnsOf
) -> Rows:
    """Return the clipped columns of the bars since an instant, block by block."""
    index = [np.empty(0, dtype=np.int64)]
    values = [np.empty((0, len(names)))]
    lows, highs = np.array([RANGES[name] for name in names]).T
    wanted = 0 if since is None else int(np.searchsorted(bars.opens_at, since))
    if wanted < len(bars):
        quarters = _quarter_starts(int(bars.opens_at[wanted]), int(bars.opens_at[-1]))
        edges = [*np.searchsorted(bars.opens_at, quarters).tolist(), len(bars)]
        for start, stop in pairwise(edges):
            if start < WARMUP_BARS or start == stop:
                continue
            columns = columns_of(bars.slice(start - WARMUP_BARS, stop))
            first = max(start, wanted)
            # Cut before they are put together: mostly one row is wanted of a quarter's.
            kept = slice(WARMUP_BARS + first - start, None)
            block = np.column_stack([columns[name][kept] for name in names])
            index.append(np.arange(first, stop))
            values.append(np.clip(block, lows, highs))
    return Rows(np.concatenate(index), (np.concatenate(values),))


def _widened(
    rows: Rows, market: str, own: Bars, readings: Mapping[str, Readings], calendar: Calendar
) -> Rows:
    """Return the rows with what stood beside their bars."""
    found = exogenous.columns(market, readings, own.closes_at[rows.index], calendar)
    if market == "nifty":
        found["days_to_expiry"] = days_to_expiry(own.opens_at[rows.index], calendar) / MONTH_DAYS
    names = EXOGENOUS_NAMES[market]
    lows, highs = np.array([RANGES[name] for name in names]).T
    values = np.clip(np.column_stack([found[name] for name in names]), lows, highs)
    return Rows(rows.index, (*rows.parts, values))


def _context_columns(block: Bars) -> dict[str, FloatArray]:
    return _common_columns(block, _scales(block))


def _common_columns(block: Bars, scales: _Scales) -> dict[str, FloatArray]:
    returns, sigma, true_range, (upper, middle, _) = scales
    close = block.close
    short_sigma = np.maximum(indicators.standard_deviation(returns, 16), SMALLEST_SIGMA_PCT)
    return {
        "ret_1": returns / sigma,
        "ret_4": _log_change(close, 4) / (2.0 * sigma),
        "rsi": indicators.relative_strength(close) / 50.0 - 1.0,
        "ema_fast": (close - indicators.exponential_average(close, 12)) / true_range,
        "ema_slow": (close - indicators.exponential_average(close, 48)) / true_range,
        "bollinger_position": (close - middle) / np.maximum(upper - middle, close * 1e-7),
        "volatility_ratio": np.log(short_sigma / sigma),
    }


def _own_columns(block: Bars, timeframe: str, calendar: Calendar) -> dict[str, FloatArray]:
    scales = _scales(block)
    _, sigma, true_range, (upper, _, lower) = scales
    high, low, close = block.high, block.low, block.close
    long_range = indicators.average_true_range(high, low, close, 48)
    angle = _clock_angle(block.opens_at, timeframe, calendar)
    gap = block.open.copy()
    gap[1:] -= close[:-1]
    spread = high - low
    return _common_columns(block, scales) | {
        "ret_16": _log_change(close, 16) / (4.0 * sigma),
        "macd_histogram": indicators.macd(close)[2] / true_range,
        "bollinger_width": (upper - lower) / true_range,
        "atr_ratio": np.log(true_range / np.maximum(long_range, close * 1e-7)),
        "adx": indicators.directional_index(high, low, close) / 100.0,
        "volatility": np.log(sigma),
        "clock_sin": np.sin(angle),
        "clock_cos": np.cos(angle),
        "gap": gap / true_range,
        "range_position": (2.0 * close - high - low) / np.where(spread > 0.0, spread, 1.0),
    }


def _scales(block: Bars) -> _Scales:
    """Return the one-bar returns, their deviation, the average true range and Bollinger's bands."""
    returns = _log_change(block.close, 1)
    sigma = np.maximum(indicators.standard_deviation(returns, 64), SMALLEST_SIGMA_PCT)
    true_range = indicators.average_true_range(block.high, block.low, block.close)
    # Floors, for a market that stood still would divide by zero.
    true_range = np.maximum(true_range, block.close * 1e-7)
    return _Scales(returns, sigma, true_range, indicators.bollinger_bands(block.close))


def _log_change(close: FloatArray, count: int) -> FloatArray:
    change = np.full(len(close), np.nan)
    change[count:] = 100.0 * np.log(close[count:] / close[:-count])
    return change


def _clock_angle(opens_at: IntArray, timeframe: str, calendar: Calendar) -> FloatArray:
    """Return the place in the session as an angle; for daily bars, the place in the week."""
    if timeframe == "1d":
        # The epoch began on a Thursday; both markets' sessions open on the same date in UTC.
        place = ((opens_at // DAY_SECONDS + 3) % 7) / 7.0
    else:
        opens, closes = _sessions_of(opens_at, calendar)
        place = np.clip((opens_at - opens) / (closes - opens), 0.0, 1.0)
    return 2.0 * np.pi * place.astype(np.float64)


def _sessions_of(times: IntArray, calendar: Calendar) -> tuple[IntArray, IntArray]:
    """Return the open and close of the last session that had opened by each ascending instant."""
    start = trading_date(Epoch(times[0])) - timedelta(days=31)
    sessions = calendar.sessions(start, trading_date(Epoch(times[-1])))
    if not sessions:
        raise ValueError(f"no {calendar.name} session from {start} on: the calendar needs its year")
    opens = np.array([session.opens_at for session in sessions], dtype=np.int64)
    closes = np.array([session.closes_at for session in sessions], dtype=np.int64)
    which = np.searchsorted(opens, times, side="right") - 1
    return opens[which], closes[which]


def _join(rows: Rows, own: Bars, context: Bars, length: int, calendar: Calendar) -> Rows:
    """Return the rows widened by the context row each may know, less those without a fresh one."""
    if len(rows.index) == 0 or len(context) == 0:
        none = (*(part[:0] for part in rows.parts), np.empty((0, len(CONTEXT_NAMES))))
        return Rows(rows.index[:0], none)
    known = np.searchsorted(context.closes_at, own.closes_at[rows.index], side="right") - 1
    since = int(context.opens_at[max(known[0], 0)])
    joined = _block_rows(context, Epoch(since), CONTEXT_NAMES, _context_columns)
    is_fresh = context.closes_at[known] >= _due(own, rows.index, length, calendar)
    usable = np.isin(known, joined.index) & is_fresh
    place = np.searchsorted(joined.index, known[usable])
    kept = rows.where(usable)
    return Rows(kept.index, (*kept.parts, joined.parts[0][place]))


def _due(own: Bars, index: IntArray, length: int, calendar: Calendar) -> IntArray:
    """Return by when, at the least, the context bar that a row joins must have closed.

    The own bars tell: those of an earlier context bar prove that one over, and so does a bar
    that closes with its own.
    """
    opens_at, closes_at = own.opens_at[index], own.closes_at[index]
    session_opens, session_closes = _sessions_of(opens_at, calendar)
    context_opens = opens_at - (opens_at - session_opens) % length
    context_closes = np.minimum(context_opens + length, session_closes)
    before = own.closes_at[np.searchsorted(own.opens_at, context_opens) - 1]
    return np.where(closes_at >= context_closes, closes_at, before)
