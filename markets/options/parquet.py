"""A day of quotes as a Parquet file, written whole or not at all.

Prices are in paise, times in UTC. There are two forms, and both are read back: the plain one, for
other programs, has the values themselves; the archive's has differences, its columns named for it
(`ltp_step`, `bid_from_ltp`). A quote differs little from the same instrument's a minute before, and
bid and ask from the last price: with the bytes of numbers apart (BYTE_STREAM_SPLIT) zstd makes 4.5
bytes a row of a simulated day so, 8.7 of the plain form.
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

from markets.domain.bars import IntArray
from markets.options.days import Day
from markets.options.minute_batch import COLUMNS
from markets.venues.base import VenueInstrument
from tradingsite.errors import Degraded
from tradingsite.machines import transfer

PLAIN, STEPS = "nightdesk options 1", "nightdesk options 2"
SUFFIX = ".parquet"
LEVEL = 9
# What each of the archive's columns is the difference from: a column of the same row, or, as "",
# the same column of the instrument's row before.
FROM = {"ltp": "", "bid": "ltp", "ask": "ltp", "volume": "", "oi": "", "iv": ""}


class BadArchive(Degraded):
    """A file that is not a whole day of quotes; the message names it and says why."""


def write(day: Day, path: Path, *, plain: bool = False) -> None:
    """Write a day; raise NoSpace where the disk is full, and leave nothing of it then."""
    import pyarrow as pa

    names = pa.array([row.name for row in day.instruments], pa.string())
    which = pa.array(day.which.astype(np.int32))
    arrays: dict[str, Any] = {
        "name": pa.DictionaryArray.from_arrays(which, names),
        "ts": pa.array(day.ts * 1_000, pa.timestamp("ms", tz="UTC")),
    }
    columns = dict(zip(COLUMNS, day.values.T, strict=True))
    kinds = {"volume": pa.int64(), "iv": pa.int16(), "age": pa.int16()}
    encoding = "DELTA_BINARY_PACKED"
    if not plain:
        columns = _steps(columns, day.which)
        kinds = {"volume_step": pa.int64()}
        encoding = "BYTE_STREAM_SPLIT"
    for name, values in columns.items():
        arrays[name] = pa.array(values, kinds.get(name, pa.int32()))
    said = {
        "format": PLAIN if plain else STEPS,
        "date": day.date.isoformat(),
        "instruments": _packed([_described(row) for row in day.instruments]),
    }
    encodings = {"ts": "DELTA_BINARY_PACKED", **dict.fromkeys(columns, encoding)}
    _write_durably(pa.table(arrays), encodings, said, path)


def _write_durably(table: Any, encodings: dict[str, str], said: dict[str, Any], path: Path) -> None:
    """Write a table beside its place, and put it there once it is on the disk."""
    from pyarrow import parquet

    scratch = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with transfer.explained(path.parent):
            with parquet.ParquetWriter(
                scratch,
                table.schema,
                compression="zstd",
                compression_level=LEVEL,
                use_dictionary=["name"],
                column_encoding=encodings,
                store_schema=False,
            ) as writer:
                writer.write_table(table, row_group_size=max(len(table), 1))
                writer.add_key_value_metadata(said)
            with scratch.open("rb+") as file:
                os.fsync(file.fileno())
            scratch.replace(path)
            transfer.sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def read(path: Path) -> Day:
    """Return the day of a file; raise BadArchive."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path).metadata or {}
        said = {key.decode(): text for key, text in metadata.items()}
        form = said.get("format", b"").decode()
        if form not in (PLAIN, STEPS):
            raise BadArchive(f"{path}: it is not of the format {STEPS!r} or {PLAIN!r}")
        date = dt.date.fromisoformat(said["date"].decode())
        instruments = [_instrument(row) for row in _unpacked(said["instruments"])]
        table = parquet.ParquetFile(path, read_dictionary=["name"]).read()
        places = {row.name: place for place, row in enumerate(instruments)}
        column = table.column("name").unify_dictionaries().combine_chunks()
        names = np.array([places[name] for name in column.dictionary.to_pylist()], dtype=np.int64)
        which = names[column.indices.to_numpy()] if len(table) else np.empty(0, dtype=np.int64)
        ts = table.column("ts").cast(pa.int64()).to_numpy() // 1_000
        held = {
            name: table.column(_step_name(name) if form == STEPS else name).to_numpy()
            for name in COLUMNS
        }
        if form == STEPS:
            held = _values(held, which)
        values = np.stack([held[name] for name in COLUMNS], axis=1)
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException, zlib.error) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadArchive(f"{path}: {reason}") from error
    return Day.sorted(date, instruments, which, ts, values.astype(np.int64))


def _step_name(name: str) -> str:
    other = FROM.get(name)
    return name if other is None else f"{name}_from_{other}" if other else f"{name}_step"


def _steps(columns: dict[str, IntArray], which: IntArray) -> dict[str, IntArray]:
    """Return the archive's columns, by their names in it."""
    found = {}
    starts = _starts(which)
    for name, values in columns.items():
        other = FROM.get(name)
        steps = values - columns[other] if other else values
        if other == "":
            steps = np.diff(values, prepend=0)
            steps[starts] = values[starts]
        found[_step_name(name)] = steps
    return found


def _values(steps: dict[str, IntArray], which: IntArray) -> dict[str, IntArray]:
    """Return the values of the archive's columns, by the values' names."""
    found: dict[str, IntArray] = {}
    starts = _starts(which)
    lengths = np.diff(starts, append=len(which))
    for name, column in steps.items():
        other = FROM.get(name)
        values = column.astype(np.int64)
        if other == "":
            sums = np.cumsum(values)
            # What had come together when an instrument's own rows began.
            values = sums - np.repeat(sums[starts] - values[starts], lengths)
        found[name] = values + found[other] if other else values
    return found


def _starts(which: IntArray) -> IntArray:
    """Return where each instrument's rows begin."""
    return np.flatnonzero(np.diff(which, prepend=-1) != 0)


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
