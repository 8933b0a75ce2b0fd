"""What a policy sees: a window of feature rows, and four numbers about its own account."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from markets.domain.bars import FloatArray

ACCOUNT_SIZE = 4
WINDOW = 32
"""Feature rows in one window: the row of the bar just closed is the last of them."""

# Of exposure, open profit, bars held and drawdown, in this order.
ACCOUNT_LOW = (-1.0, -5.0, 0.0, 0.0)
ACCOUNT_HIGH = (1.0, 5.0, 1.0, 5.0)

# A position stops ageing here; money counts in shares of the limit's value, times its factor.
_MOST_BARS, _PNL_FACTOR, _DRAWDOWN_FACTOR = 64.0, 50.0, 20.0

Float32Array = npt.NDArray[np.float32]


def limit_notional(limit_lots: Any, lot_size: Any, price: Any) -> Any:
    """Return the value of a position at the limit: the yardstick of every amount of money."""
    return limit_lots * lot_size * price


def account_state(
    lots: float,
    limit_lots: int,
    open_pnl: float,
    bars_held: float,
    drawdown: float,
    notional: float,
) -> tuple[float, float, float, float]:
    """Return exposure, open profit, bars held and drawdown, scaled and bounded for a network.

    open_pnl and drawdown are amounts in currency, notional is limit_notional at the same mark.
    AccountStates does the same for columns.
    """
    pnl = _PNL_FACTOR * open_pnl / notional
    fallen = _DRAWDOWN_FACTOR * drawdown / notional
    # Comparisons take a third of the time of min and max, and this runs at every bar of a replay.
    return (
        lots / limit_lots,
        5.0 if pnl > 5.0 else -5.0 if pnl < -5.0 else pnl,
        bars_held / _MOST_BARS if bars_held < _MOST_BARS else 1.0,
        5.0 if fallen > 5.0 else fallen,
    )


class AccountStates:
    """Return for many accounts, to the last bit, what account_state returns for one.

    The four numbers are scaled and bounded together: numpy's time here goes by calls, and those
    with operands of one shape take half of it.
    """

    def __init__(self, accounts: int) -> None:
        self._factors, self._low, self._high = (
            np.repeat(np.array(each)[:, None], accounts, axis=1)
            for each in ((1.0, _PNL_FACTOR, 1.0, _DRAWDOWN_FACTOR), ACCOUNT_LOW, ACCOUNT_HIGH)
        )

    def of(
        self,
        lots: FloatArray,
        open_pnl: FloatArray,
        bars_held: FloatArray,
        drawdown: FloatArray,
        units: FloatArray,
    ) -> FloatArray:
        """Return the states (4, N) of columns (N,) whose units (4, N) are those of account_units.

        The lots must be within the limit.
        """
        states = np.array((lots, open_pnl, bars_held, drawdown)) * self._factors / units
        bounded: FloatArray = np.maximum(np.minimum(states, self._high), self._low)
        return bounded


def account_units(limit_lots: float, notional: Any) -> tuple[Any, Any, Any, Any]:
    """Return what each number of an account state is divided by."""
    return (limit_lots, notional, _MOST_BARS, notional)


def windows(values: Float32Array) -> Float32Array:
    """Return every window of feature rows as a view (rows - WINDOW + 1, WINDOW, features).

    Entry i is the window whose last row is i + WINDOW - 1.
    """
    if len(values) < WINDOW:
        raise ValueError(f"{len(values)} feature rows do not fill one window of {WINDOW}")
    view = np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=0)
    return view.transpose(0, 2, 1)
