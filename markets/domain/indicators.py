"""Technical indicators: thin typed doors to TA-Lib, float64 in and out.

Every function returns arrays as long as its input, NaN until the indicator has enough history. All
of them run forwards, one bar after the other, so a value depends on the bars before it and on where
the array starts, never on the bars after it. `markets.domain.features` builds on both facts.
"""

import sys
from importlib import import_module
from types import ModuleType

import numpy as np

from markets.domain.bars import FloatArray


def _without_pandas(name: str) -> ModuleType:
    """Import a module as if neither pandas nor polars were installed.

    TA-Lib wraps its functions for both where it finds them, which loads them: 70 MB in every bot
    and worker, for nothing we call.
    """
    hidden = [each for each in ("pandas", "polars") if each not in sys.modules]
    for each in hidden:
        sys.modules[each] = None  # type: ignore[assignment]  # how an import is told to fail
    try:
        return import_module(name)
    finally:
        for each in hidden:
            del sys.modules[each]


talib = _without_pandas("talib")


def relative_strength(close: FloatArray, period: int = 14) -> FloatArray:
    """Return Wilder's relative strength index, 0 to 100; 50 of prices that stood still.

    Of a market without a rise or a fall TA-Lib says 0, as oversold as can be.
    """
    found: FloatArray = talib.RSI(close, timeperiod=period)
    lowest = found == 0.0
    if lowest.any():
        # It has stood still if no close of the period differs from the one before it.
        moves = np.cumsum(np.diff(close, prepend=close[:1]) != 0.0)
        lowest[period:] &= moves[period:] == moves[:-period]
        found[lowest] = 50.0
    return found


def exponential_average(values: FloatArray, period: int) -> FloatArray:
    """Return the exponential moving average, seeded with the plain mean of the first period."""
    found: FloatArray = talib.EMA(values, timeperiod=period)
    return found


def macd(
    close: FloatArray, fast: int = 12, slow: int = 26, signal: int = 9
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the MACD line, its signal line and their difference (the histogram)."""
    found: tuple[FloatArray, FloatArray, FloatArray] = talib.MACD(
        close, fastperiod=fast, slowperiod=slow, signalperiod=signal
    )
    return found


def bollinger_bands(
    close: FloatArray, period: int = 20, deviations: float = 2.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the upper, middle and lower band: a plain mean and its standard deviations."""
    kind = talib.MA_Type.SMA
    found: tuple[FloatArray, FloatArray, FloatArray] = talib.BBANDS(
        close, timeperiod=period, nbdevup=deviations, nbdevdn=deviations, matype=kind
    )
    return found


def average_true_range(
    high: FloatArray, low: FloatArray, close: FloatArray, period: int = 14
) -> FloatArray:
    """Return Wilder's average true range, in price units."""
    found: FloatArray = talib.ATR(high, low, close, timeperiod=period)
    return found


def directional_index(
    high: FloatArray, low: FloatArray, close: FloatArray, period: int = 14
) -> FloatArray:
    """Return the average directional index (trend strength whatever its sign), 0 to 100."""
    found: FloatArray = talib.ADX(high, low, close, timeperiod=period)
    return found


def standard_deviation(values: FloatArray, period: int) -> FloatArray:
    """Return the rolling population standard deviation."""
    found: FloatArray = talib.STDDEV(values, timeperiod=period, nbdev=1.0)
    return found
