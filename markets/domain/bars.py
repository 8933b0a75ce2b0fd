"""Price bars as columns: the one shape in which prices travel between the packages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

PRICES = ("open", "high", "low", "close")
SAME_WITHIN = 0.75e-4
"""Prices and volumes are stored to four decimals: what differs by less is the same number."""


class BadBars(ValueError):
    """Bars that break a rule every reader relies on; the message names the row and the reason.

    `row` is its place, counted from 0, None where the columns are wrong; `said` is the reason.
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        """Take the reason, and the row that it is of."""
        self.reason, self.row = reason, row
        super().__init__(reason if row is None else f"row {row}: {reason}")


@dataclass(frozen=True, slots=True)
class Bars:
    """Hold bars as equally long columns in ascending, unique order of their opens.

    A bar is named by its open and may be used only from its close. Times are epoch seconds UTC;
    `closes_at` is the nominal end of the bar cut off at the close of its session.
    """

    opens_at: IntArray
    closes_at: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.opens_at)

    @classmethod
    def empty(cls) -> Bars:
        """Return bars without a row."""
        times = np.empty(0, dtype=np.int64)
        prices = np.empty(0, dtype=np.float64)
        return cls(times, times, prices, prices, prices, prices, prices)

    def slice(self, start: int, stop: int | None = None) -> Bars:
        """Return the rows from start to stop as views, by Python's rules for slices."""
        rows = slice(start, stop)
        return Bars(
            self.opens_at[rows],
            self.closes_at[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
        )

    def where(self, rows: BoolArray) -> Bars:
        """Return the rows that a mask of the same length has."""
        return Bars(*(getattr(self, each.name)[rows] for each in fields(self)))

    def compared(
        self, stored: Bars, columns: Sequence[str] = ("closes_at", *PRICES, "volume")
    ) -> tuple[BoolArray, BoolArray]:
        """Return for each bar whether it is not among the stored, and whether it differs there."""
        is_new = ~np.isin(self.opens_at, stored.opens_at)
        differs = np.zeros(len(self), dtype=bool)
        places = np.searchsorted(stored.opens_at, self.opens_at[~is_new])
        for name in columns:
            ours, theirs = getattr(self, name)[~is_new], getattr(stored, name)[places]
            differs[~is_new] |= np.abs(ours - theirs) > SAME_WITHIN
        return is_new, differs

    def before(self, closes_at_limit: int) -> Bars:
        """Return the bars that may be used at an instant: those with closes_at <= the limit."""
        return self.slice(0, int(np.searchsorted(self.closes_at, closes_at_limit, side="right")))

    def validate(self) -> None:
        """Raise BadBars naming the first bad row (counted from 0) and the rule it breaks."""
        self._validate_shapes()
        self._validate_times()
        self._validate_prices()

    def _validate_shapes(self) -> None:
        for name in ("opens_at", "closes_at"):
            if getattr(self, name).dtype != np.int64:
                raise BadBars(f"column {name} must be int64 epoch seconds UTC")
        for name in (*PRICES, "volume"):
            if getattr(self, name).dtype != np.float64:
                raise BadBars(f"column {name} must be float64")
        for name in ("closes_at", *PRICES, "volume"):
            column = getattr(self, name)
            if column.shape != (len(self),):
                raise BadBars(f"column {name} has shape {column.shape}, not ({len(self)},)")

    def _validate_times(self) -> None:
        late = np.flatnonzero(np.diff(self.opens_at) <= 0) + 1
        self._refuse(late, "opens_at does not come after the row before it")
        self._refuse(np.flatnonzero(self.closes_at <= self.opens_at), "closes_at is not after open")
        overlap = np.flatnonzero(self.closes_at[:-1] > self.opens_at[1:]) + 1
        self._refuse(overlap, "the bar opens before the one before it has closed")

    def _validate_prices(self) -> None:
        for name in PRICES:
            column = getattr(self, name)
            # The negated comparison also catches NaN.
            bad = np.flatnonzero(~(column > 0.0) | np.isinf(column))
            self._refuse(bad, f"{name} is not a positive finite number")
        volume_bad = np.flatnonzero(~(self.volume >= 0.0) | np.isinf(self.volume))
        self._refuse(volume_bad, "volume is negative or not finite")
        top = np.maximum(self.open, self.close)
        bottom = np.minimum(self.open, self.close)
        self._refuse(np.flatnonzero(self.high < top), "high is below the open or the close")
        self._refuse(np.flatnonzero(self.low > bottom), "low is above the open or the close")

    def _refuse(self, rows: npt.NDArray[np.intp], reason: str) -> None:
        if len(rows):
            row = int(rows[0])
            raise BadBars(f"{reason} (opens_at {int(self.opens_at[row])})", row)
