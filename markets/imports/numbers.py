"""Cells to numbers, by the column: plain ones fast, and those that spreadsheets and sites write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from markets.domain.bars import FloatArray

if TYPE_CHECKING:
    import pyarrow as pa

_MISSING = frozenset({"", "-", "null", "nan", "none", "na", "n/a", "#n/a"})
_GROUPED = re.compile(r"-?\d{1,3}(,\d{2,3})*,\d{3}(\.\d*)?")
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class BadNumber(ValueError):
    """A cell that is no number; `row` is its place, counted from 0."""

    def __init__(self, row: int, text: str) -> None:
        """Take the row and what its cell says."""
        self.row, self.text = row, text
        super().__init__(text)


def floats(cells: pa.StringArray, *, decimal_comma: bool = False) -> FloatArray:
    """Return the numbers that cells say, NaN where one says there is none; raise BadNumber."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not decimal_comma:
        try:
            return np.asarray(pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False))
        except pa.ArrowInvalid:
            pass
    values = np.empty(len(cells))
    for row, text in enumerate(cells.to_pylist()):
        value = number(text, decimal_comma=decimal_comma)
        if value is None:
            raise BadNumber(row, text)
        values[row] = value
    return values


def number(text: str, *, decimal_comma: bool = False) -> float | None:
    """Return the number of a cell, NaN where it says that there is none, None for neither."""
    bare = text.strip().rstrip("%").rstrip()
    if bare.lower() in _MISSING:
        return np.nan
    factor = _SUFFIXES.get(bare[-1:].upper(), 1.0)
    if factor != 1.0:
        bare = bare[:-1].rstrip()
    if decimal_comma:
        bare = bare.replace(".", "").replace("\u00a0", "").replace(",", ".")
    elif "," in bare:
        if not _GROUPED.fullmatch(bare):
            return None
        bare = bare.replace(",", "")
    if bare.lower() in ("inf", "-inf", "infinity", "-infinity"):
        return float(bare)
    return float(bare) * factor if _PLAIN.fullmatch(bare) else None
