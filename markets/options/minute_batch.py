"""One minute as it came from the venue, in columns, and its file.

What is missing is named with its reason, so that the same file, stored whenever and however often,
leaves the same quotes and the same gaps.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from markets.domain.bars import IntArray
from markets.venues.base import VenueInstrument
from tradingsite.clock import Epoch

COLUMNS = ("ltp", "bid", "ask", "volume", "oi", "iv", "age")
VERSION = 1


class BadBatch(ValueError):
    """A file that holds no whole minute; the message says why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold the quotes of one minute, or the reason why there are none."""

    minute: Epoch
    """Epoch seconds, a whole minute."""
    names: tuple[str, ...]
    values: IntArray
    """A row a name, in the order of COLUMNS; paise, units, basis points, seconds."""
    missing: Mapping[str, str]
    """Name of what was asked for and is not there, and why; names of known instruments only."""
    instruments: Mapping[str, VenueInstrument]
    """Describes whatever of the names the database may not know yet."""
    reason: str = ""
    """Why the whole minute is missing, where it is."""
    quarantined: int = 0
    """How many of the missing are quotes that were not believed."""
    fetch_ms: int = 0

    @classmethod
    def nothing(cls, minute: Epoch, reason: str) -> Batch:
        """Return the batch of a minute that is missing for all."""
        empty = np.empty((0, len(COLUMNS)), dtype=np.int64)
        return cls(minute, (), empty, {}, {}, reason[:200] or "nothing came")

    @property
    def asked(self) -> int:
        """Return how many instruments were asked for."""
        return len(self.names) + len(self.missing)

    def pack(self) -> bytes:
        """Return the batch as one line of JSON."""
        body = {
            "version": VERSION,
            "minute": self.minute,
            "names": self.names,
            "values": self.values.tolist(),
            "missing": dict(self.missing),
            "instruments": [_described(row) for row in self.instruments.values()],
            "reason": self.reason,
            "quarantined": self.quarantined,
            "fetch_ms": self.fetch_ms,
        }
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def unpack(cls, packed: bytes) -> Batch:
        """Return the batch of a file; raise BadBatch for half a file or another version's."""
        try:
            body = json.loads(packed)
            if body["version"] != VERSION:
                raise BadBatch(f"it is of version {body['version']}, and {VERSION} is read here")
            names = tuple(body["names"])
            shape = (len(names), len(COLUMNS))
            return cls(
                Epoch(body["minute"]),
                names,
                np.array(body["values"], dtype=np.int64).reshape(shape),
                dict(body["missing"]),
                _by_name(_instrument(row) for row in body["instruments"]),
                str(body["reason"]),
                int(body["quarantined"]),
                int(body["fetch_ms"]),
            )
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise error if isinstance(error, BadBatch) else BadBatch(str(error)) from error


def _by_name(rows: Iterable[VenueInstrument]) -> dict[str, VenueInstrument]:
    return {row.name: row for row in rows}


def _described(row: VenueInstrument) -> list[object]:
    expiry = row.expiry.isoformat() if row.expiry else ""
    return [
        *(row.name, row.symbol, row.token, row.kind, row.underlying, expiry),
        *(str(row.strike), str(row.lot_size), str(row.tick_size)),
    ]


def _instrument(row: list[str]) -> VenueInstrument:
    name, symbol, token, kind, underlying, expiry, *numbers = row
    strike, lot_size, tick_size = map(Decimal, numbers)
    on = dt.date.fromisoformat(expiry) if expiry else None
    return VenueInstrument(
        name, symbol, int(token), kind, underlying, on, strike, lot_size, tick_size
    )
