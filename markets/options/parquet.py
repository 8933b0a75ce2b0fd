"""A day of quotes as a Parquet file, written whole or not at all.

Any Parquet reader opens it: prices are in paise, times in UTC. Numbers are packed as differences
from row to row and then by zstd, which measures a third smaller than plain zstd.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from markets.options.batch import COLUMNS
from markets.options.days import Day
from markets.venues.base import VenueInstrument
from tradingsite import remote
from tradingsite.errors import Degraded

FORMAT = "nightdesk options 1"
SUFFIX = ".parquet"
LEVEL = 9


class BadArchive(Degraded):
    """A file that is not a whole day of quotes; the message names it and says why."""


def write(day: Day, path: Path) -> None:
    """Write a day; raise NoSpace where the disk is full, and leave nothing of it then."""
    import pyarrow as pa
    from pyarrow import parquet

    names = pa.array([row.name for row in day.instruments], pa.string())
    which = pa.array(day.which.astype(np.int32))
    arrays: dict[str, Any] = {
        "name": pa.DictionaryArray.from_arrays(which, names),
        "ts": pa.array(day.ts * 1_000, pa.timestamp("ms", tz="UTC")),
    }
    kinds = {"volume": pa.int64(), "iv": pa.int16(), "age": pa.int16()}
    for place, name in enumerate(COLUMNS):
        arrays[name] = pa.array(day.values[:, place], kinds.get(name, pa.int32()))
    said = {
        "format": FORMAT,
        "date": day.date.isoformat(),
        "instruments": _packed([_described(row) for row in day.instruments]),
    }
    table = pa.table(arrays)
    scratch = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with remote.explained(path.parent):
            with parquet.ParquetWriter(
                scratch,
                table.schema,
                compression="zstd",
                compression_level=LEVEL,
                use_dictionary=["name"],
                column_encoding=dict.fromkeys(("ts", *COLUMNS), "DELTA_BINARY_PACKED"),
                store_schema=False,
            ) as writer:
                writer.write_table(table, row_group_size=max(len(day), 1))
                writer.add_key_value_metadata(said)
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
            scratch.replace(path)
            remote.sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> Day:
    """Return the day of a file; raise BadArchive."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path).metadata or {}
        said = {key.decode(): text for key, text in metadata.items()}
        if said.get("format", b"").decode() != FORMAT:
            raise BadArchive(f"{path}: it is not of the format {FORMAT!r}")
        date = dt.date.fromisoformat(said["date"].decode())
        instruments = [_instrument(row) for row in _unpacked(said["instruments"])]
        table = parquet.ParquetFile(path, read_dictionary=["name"]).read()
        places = {row.name: place for place, row in enumerate(instruments)}
        column = table.column("name").unify_dictionaries().combine_chunks()
        names = np.array([places[name] for name in column.dictionary.to_pylist()], dtype=np.int64)
        which = names[column.indices.to_numpy()] if len(table) else np.empty(0, dtype=np.int64)
        ts = table.column("ts").cast(pa.int64()).to_numpy() // 1_000
        values = np.stack([table.column(name).to_numpy() for name in COLUMNS], axis=1)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException, zlib.error) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadArchive(f"{path}: {reason}") from error
    return Day.sorted(date, instruments, which, ts, values.astype(np.int64))


def _packed(rows: list[list[str]]) -> str:
    """Return rows as text that takes little of the file."""
    return base64.b64encode(zlib.compress(json.dumps(rows).encode(), LEVEL)).decode()


def _unpacked(text: bytes) -> list[list[str]]:
    rows: list[list[str]] = json.loads(zlib.decompress(base64.b64decode(text)))
    return rows


def _described(row: VenueInstrument) -> list[str]:
    expiry = row.expiry.isoformat() if row.expiry else ""
    first = [row.name, row.symbol, row.kind, row.underlying, expiry]
    return [*first, f"{row.strike:f}", f"{row.lot_size:f}"]


def _instrument(row: list[str]) -> VenueInstrument:
    name, symbol, kind, underlying, expiry, strike, lot_size = row
    on = dt.date.fromisoformat(expiry) if expiry else None
    numbers = Decimal(strike), Decimal(lot_size), Decimal(0)
    return VenueInstrument(name, symbol, 0, kind, underlying, on, *numbers)
