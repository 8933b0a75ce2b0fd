"""The broker's binary ticks: how they lie in memory, and a parser that makes Ticks of them.

A frame is a count, then so many packets, each after its length in bytes; a packet's length says
what it is. Everything is big-endian; a price is a whole number of its segment's smallest unit.
kiteconnect's own parser makes a dict of 30 values and 10 more dicts of every full packet, about
20 ms for a chain of 730 options; this one reads the seven values that a Tick needs, all packets at
once. Specification: https://kite.trade/docs/connect/v3/websocket.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from markets.domain.bars import FloatArray
from markets.venues.base import Tick
from tradingsite import clock

LEVEL = np.dtype(
    [("quantity", ">u4"), ("price", ">u4"), ("orders", ">u2"), ("unused", ">u2")],
)
INSTRUMENT = np.dtype(
    [
        ("token", ">u4"),
        ("last", ">u4"),
        ("last_quantity", ">u4"),
        ("average", ">u4"),
        ("volume", ">u4"),
        ("buy_quantity", ">u4"),
        ("sell_quantity", ">u4"),
        ("open", ">u4"),
        ("high", ">u4"),
        ("low", ">u4"),
        ("close", ">u4"),
        ("traded_at", ">u4"),
        ("interest", ">u4"),
        ("interest_high", ">u4"),
        ("interest_low", ">u4"),
        ("at", ">u4"),
        ("depth", LEVEL, (2, 5)),
    ]
)
# Its prices of the day come in another order than an instrument's.
INDEX = np.dtype(
    [
        ("token", ">u4"),
        ("last", ">u4"),
        ("high", ">u4"),
        ("low", ">u4"),
        ("open", ">u4"),
        ("close", ">u4"),
        ("change", ">i4"),
        ("at", ">u4"),
    ]
)
LTP, QUOTE, FULL = "ltp", "quote", "full"
# A packet of a lesser mode is the beginning of a full one.
INSTRUMENT_BYTES = {LTP: 8, QUOTE: 44, FULL: INSTRUMENT.itemsize}
INDEX_BYTES = {LTP: 8, QUOTE: 28, FULL: INDEX.itemsize}

# Units of a rupee by the last byte of a token: currencies are quoted more finely.
_CDS, _BCD, _NCO = 3, 6, 12
DIVISORS: FloatArray = np.full(256, 100.0)
DIVISORS[_CDS] = 10_000_000.0
DIVISORS[[_BCD, _NCO]] = 10_000.0

# A packet without a time was sent as it came.
_NO_TIME = -1
_TOKEN, _LAST, _BID, _ASK, _VOLUME, _INTEREST, _AT = range(7)
_BID_BYTE = INSTRUMENT.fields["depth"][1] + LEVEL.fields["price"][1]  # type: ignore[index]
_ASK_BYTE = _BID_BYTE + 5 * LEVEL.itemsize
# By a packet's length: the columns it fills, and the bytes at which their four-byte words start.
_FILLED: dict[int, dict[int, int]] = {
    8: {_TOKEN: 0, _LAST: 4},
    28: {_TOKEN: 0, _LAST: 4},
    32: {_TOKEN: 0, _LAST: 4, _AT: 28},
    44: {_TOKEN: 0, _LAST: 4, _VOLUME: 16},
    184: {
        **{_TOKEN: 0, _LAST: 4, _VOLUME: 16, _INTEREST: 48, _AT: 60},
        **{_BID: _BID_BYTE, _ASK: _ASK_BYTE},
    },
}
_COLUMNS = {length: np.array(list(filled)) for length, filled in _FILLED.items()}
_OCTETS = {
    length: (np.array(list(filled.values()))[:, None] + np.arange(4)).ravel()
    for length, filled in _FILLED.items()
}


class BadFrame(ValueError):
    """A binary message that ends before its packets do; the message says where."""


def parse(payload: bytes, names: Mapping[int, str], received_at: dt.datetime) -> list[Tick]:
    """Return the ticks of a frame in its order, those of the named tokens only.

    Bid and ask are 0 in packets without depth; packets without a time get `received_at`. Packets
    of unknown lengths are passed over, as the broker's own clients do. Raises BadFrame.
    """
    table = _table(payload)
    divisor = DIVISORS[table[:, _TOKEN] & 0xFF]
    prices = table[:, [_LAST, _BID, _ASK]] / divisor[:, None]
    seconds = table[:, _AT].tolist()
    times = {each: clock.from_seconds(each) for each in set(seconds)} | {_NO_TIME: received_at}
    numbers = (table[:, column].tolist() for column in (_TOKEN, _VOLUME, _INTEREST))
    columns = zip(*numbers, *prices.T.tolist(), seconds, strict=True)
    return [
        Tick(names[token], last, bid, ask, volume, interest, times[second])
        for token, volume, interest, last, bid, ask, second in columns
        if token in names
    ]


def _table(payload: bytes) -> npt.NDArray[np.int64]:
    """Return what the packets hold, packets x columns; 0 for what a packet does not have."""
    starts = _starts(payload)
    table = np.zeros((sum(map(len, starts.values())), 7), dtype=np.int64)
    table[:, _AT] = _NO_TIME
    octets = np.frombuffer(payload, dtype=np.uint8)
    for length, places in starts.items():
        rows, at = np.array(places).T
        words = octets[at[:, None] + _OCTETS[length]].view(">u4")
        table[rows[:, None], _COLUMNS[length]] = words
    return table


def _starts(payload: bytes) -> dict[int, list[tuple[int, int]]]:
    """Return the packets of each known length: their places among the known, and first bytes."""
    starts: dict[int, list[tuple[int, int]]] = {}
    if len(payload) < 2:  # a heartbeat
        return starts
    at, row = 2, 0
    for _ in range(int.from_bytes(payload[:2], "big")):
        if at + 2 > len(payload):
            raise BadFrame(f"a frame of {len(payload)} bytes ends before its last packet")
        length = payload[at] << 8 | payload[at + 1]
        if length in _FILLED:
            starts.setdefault(length, []).append((row, at + 2))
            row += 1
        at += 2 + length
    if at > len(payload):
        raise BadFrame(f"a frame of {len(payload)} bytes ends within its last packet")
    return starts
