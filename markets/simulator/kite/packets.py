"""Binary ticks of the simulated broker, written from the board's columns for all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from markets.domain.bars import BoolArray, FloatArray, IntArray
from markets.simulator.board import Board
from markets.simulator.listing import SEGMENT_NUMBERS
from markets.venues.kite.packets import (
    DIVISORS,
    INDEX,
    INDEX_BYTES,
    INSTRUMENT,
    INSTRUMENT_BYTES,
)

# A structured array: its fields are named by its dtype.
Records = npt.NDArray[Any]

HEARTBEAT = b"\0"
LARGEST = 2**32 - 1
# The five levels that are shown are a small part of all that is bid and offered.
WHOLE_BOOK = 40
_FRAMED_INSTRUMENT = np.dtype([("length", ">u2"), ("packet", INSTRUMENT)])
_FRAMED_INDEX = np.dtype([("length", ">u2"), ("packet", INDEX)])


@dataclass(frozen=True, slots=True)
class Sheet:
    """Hold the full packets of some instruments, a row each, to cut any client's frame from.

    Both arrays have all the rows; an index is read from `indices`, anything else from
    `instruments`.
    """

    instruments: Records
    indices: Records
    is_index: BoolArray

    @classmethod
    def empty(cls, tokens: IntArray) -> Sheet:
        """Return a sheet with nothing but tokens in it."""
        sheet = cls(
            np.zeros(len(tokens), dtype=_FRAMED_INSTRUMENT),
            np.zeros(len(tokens), dtype=_FRAMED_INDEX),
            (tokens & 0xFF) == SEGMENT_NUMBERS["INDICES"],
        )
        sheet.instruments["packet"]["token"] = sheet.indices["packet"]["token"] = tokens
        return sheet

    @classmethod
    def of(cls, board: Board, places: IntArray) -> Sheet:
        """Return the packets of the instruments at some places of the board."""
        rows = board.listing.rows
        tokens = np.array([rows[place].token for place in places.tolist()], dtype=np.int64)
        sheet = cls.empty(tokens)
        _write(sheet, board, places, DIVISORS[tokens & 0xFF])
        return sheet

    def frame(self, wanted: Mapping[str, IntArray]) -> bytes:
        """Return one frame with the rows that are wanted in each mode."""
        parts: list[bytes] = []
        for mode, rows in wanted.items():
            is_index = self.is_index[rows]
            parts.append(_cut(self.indices[rows[is_index]], INDEX_BYTES[mode]))
            parts.append(_cut(self.instruments[rows[~is_index]], INSTRUMENT_BYTES[mode]))
        count = sum(map(len, wanted.values()))
        return count.to_bytes(2, "big") + b"".join(parts)

    def multiply_last(self, row: int, factor: int) -> None:
        """Put a wrong last price into one row."""
        for records in (self.instruments, self.indices):
            last = records["packet"]["last"]
            last[row] = min(int(last[row]) * factor, LARGEST)

    def replace(self, rows: IntArray, other: Sheet) -> None:
        """Put another sheet's packets, in their order, in the place of some rows."""
        self.instruments[rows] = other.instruments
        self.indices[rows] = other.indices


def _cut(records: Records, length: int) -> bytes:
    """Return packets with their lengths, each cut to so many bytes."""
    octets = records.view(np.uint8).reshape(len(records), records.itemsize)[:, : 2 + length].copy()
    octets[:, 0], octets[:, 1] = length >> 8, length & 0xFF
    return octets.tobytes()


def _write(sheet: Sheet, board: Board, places: IntArray, divisor: FloatArray) -> None:
    """Fill a sheet with what the board shows, the numbers being those of the REST quote."""

    def units(prices: FloatArray) -> IntArray:
        return _whole(prices * divisor)

    last, close = board.last[places], board.close[places]
    day = {"open": board.open[places], "high": board.high[places], "low": board.low[places]}
    index, instrument = sheet.indices["packet"], sheet.instruments["packet"]
    for packet in (index, instrument):
        packet["last"], packet["close"] = units(last), units(close)
        packet["at"] = int(board.at)
        for name, prices in day.items():
            packet[name] = units(prices)
    # The one signed number; the broker's clients compute their own.
    index["change"] = np.rint((last - close) * divisor).clip(-(2**31), 2**31 - 1)
    interest, opening = board.interest[places], board.interest_at_open[places]
    instrument["last_quantity"] = board.columns.lot[places]
    instrument["average"] = units(np.round((sum(day.values()) + last) / 4.0, 2))
    instrument["volume"] = _whole(board.volume[places])
    instrument["traded_at"] = int(board.at)
    instrument["interest"] = _whole(interest)
    instrument["interest_high"] = _whole(np.maximum(interest, opening))
    instrument["interest_low"] = _whole(np.minimum(interest, opening))
    quantity, price, orders = board.depths(places)
    depth = instrument["depth"]
    depth["quantity"], depth["orders"] = quantity, orders
    depth["price"] = _whole(price * divisor[:, None, None])
    both = quantity.sum(axis=2) * WHOLE_BOOK
    instrument["buy_quantity"], instrument["sell_quantity"] = both[:, 0], both[:, 1]


def _whole(values: FloatArray | IntArray) -> IntArray:
    """Return whole numbers that fit four bytes without a sign."""
    whole: IntArray = np.rint(values).clip(0, LARGEST).astype(np.int64)
    return whole
