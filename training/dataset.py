"""A slot's training data on its way from PROD's database to PC's.

An export is a folder: one zstd-compressed CSV a table, and export.json with row counts and hashes.
It is written from one snapshot, so bars and features agree. The import replaces PC's rows of that
timeframe in one transaction: a repeated import changes nothing, and half of one is never seen.
"""

import datetime as dt
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zstandard
from django.db import connections, transaction

from bots.engine import align
from bots.owner import OwnTrade
from bots.services import own_trades
from markets import store
from markets.features import Features, schema_for
from markets.models import Bar, Feature, OwnerTrade, Reading, TradingDay
from markets.readings import FUNDING
from markets.tape import Tape
from tradingsite import remote
from tradingsite.databases import TRAINING
from tradingsite.errors import Degraded
from tradingsite.registry import BOTS, Slot
from training.soundness import missing_rows

SUMMARY = "export.json"
# Room that must stay free after an export: a full disk would stop the databases too.
RESERVE_MB = 200
# The advisory lock of whoever imports into PC's database of a market.
IMPORTING = 7_301


class BadExport(Degraded):
    """An export that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of an export: its file, columns and which of its rows belong to the slot."""

    file: str
    name: str
    columns: str
    where: str


TABLES = (
    Table(
        "bars.csv.zst",
        Bar._meta.db_table,
        "timeframe, opens_at, closes_at, open, high, low, close, volume, source",
        "timeframe = %(timeframe)s AND closes_at <= %(until)s",
    ),
    Table(
        "features.csv.zst",
        Feature._meta.db_table,
        'timeframe, opens_at, closes_at, schema, "values"',
        "timeframe = %(timeframe)s AND closes_at <= %(until)s AND schema = %(schema)s",
    ),
    Table(
        # What holding costs; what models know of readings is in the features.
        "readings.csv.zst",
        Reading._meta.db_table,
        "series, at, value, source",
        f"series = '{FUNDING}' AND at <= %(until)s",
    ),
    Table(
        "trading_days.csv.zst",
        TradingDay._meta.db_table,
        "date, kind, opens_at, closes_at, name, source, verified",
        "true",
    ),
)
# What only a bot that learns from the owner is given.
OWNER_TABLE = Table(
    "owner_trades.csv.zst",
    OwnerTrade._meta.db_table,
    "trade_id, traded_on, order_id, symbol, exchange, instrument, expiry, quantity, price, "
    "product, given_by, at, came_by",
    "at <= %(until)s AND given_by = 'owner'",
)


def tables_of(slot: Slot) -> tuple[Table, ...]:
    """Return the tables of a slot's export."""
    return (*TABLES, OWNER_TABLE) if BOTS[slot.bot].learns_from_owner else TABLES


@dataclass(frozen=True, slots=True)
class Dataset:
    """Feature rows and the tape they are traded on, one row each a bar."""

    features: Features
    tape: Tape
    fingerprint: str
    missing_rows: int = 0
    """How many rows that the calendar expects are not there."""
    owner_trades: tuple[OwnTrade, ...] = ()
    """By hand, oldest first, for a bot that learns from them."""


def export(slot: Slot, until: dt.datetime, folder: Path) -> dict[str, Any]:
    """Write a slot's data up to an instant into a new folder and return its summary.

    Raises NoSpace for a disk that is or would be full and BadExport where there are no rows; then
    the folder is gone.
    """
    if remote.free_mb(folder) < RESERVE_MB:
        raise remote.NoSpace(
            f"no disk space for the export: {remote.free_mb(folder)} MB free at {folder}, "
            f"{RESERVE_MB} MB must stay free. Make room and run it again"
        )
    schema = schema_for(slot.market, slot.timeframe).hash
    values = {"timeframe": slot.timeframe, "until": until, "schema": schema}
    summary: dict[str, Any] = {"slot": slot.slug, "until": until.isoformat(), "schema": schema}
    try:
        with remote.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            summary["files"] = files = _snapshot(slot, values, folder)
            if not files["features.csv.zst"]["rows"]:
                raise BadExport(
                    f"{slot.slug} has no feature rows up to {until:%Y-%m-%d}: import bars first "
                    f"(manage.py importbars {slot.market} {slot.timeframe} FILE)"
                )
            # Written last: an export without it did not finish.
            (folder / SUMMARY).write_text(json.dumps(summary, indent=1, sort_keys=True))
            remote.sync_folder(folder)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)  # half an export must not keep the disk full
        raise
    return summary


def import_and_load(slot: Slot, folder: Path) -> Dataset:
    """Replace PC's rows of the slot's timeframe by an export's, and return them as arrays."""
    summary = read_summary(folder, slot)
    alias = TRAINING[slot.market]
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        # One import of a market at a time, and none between an import and its own reading.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [IMPORTING])
        for table in tables_of(slot):
            _read(cursor, table, summary["files"][table.file], slot, folder / table.file)
        return load(slot, summary["fingerprint"])


def load(slot: Slot, fingerprint: str) -> Dataset:
    """Return PC's rows of a slot as arrays; raise UnsoundData where none may learn from them."""
    alias = TRAINING[slot.market]
    features = store.load_features(alias, slot.timeframe)
    bars = store.load_bars(alias, slot.timeframe)
    calendar = store.load_calendar(slot.market, alias)
    tape = align(store.load_tape(slot, bars, calendar, alias), features.opens_at)
    trades = own_trades(alias) if BOTS[slot.bot].learns_from_owner else ()
    return Dataset(features, tape, fingerprint, missing_rows(features, calendar), trades)


def cut(data: Dataset, first: int, stop: int) -> Dataset:
    """Return the rows [first, stop) of a dataset."""
    rows, features = slice(first, stop), data.features
    kept = Features(
        features.opens_at[rows], features.closes_at[rows], features.values[rows], features.schema
    )
    return replace(data, features=kept, tape=data.tape.slice(first, stop))


def read_summary(folder: Path, slot: Slot) -> dict[str, Any]:
    """Return an export's summary after checking every file against it; raise BadExport."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_bytes())
        _check_summary(summary, folder, slot)
        summary["fingerprint"] = summary["files"]["features.csv.zst"]["sha256"]
    except FileNotFoundError as error:
        raise BadExport(f"{folder} has no {SUMMARY}: the export did not finish") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadExport(f"{folder / SUMMARY} is not an export's summary: {error!r}") from error
    return summary


def _check_summary(summary: dict[str, Any], folder: Path, slot: Slot) -> None:
    if summary["slot"] != slot.slug:
        raise BadExport(f"{folder} is an export of {summary['slot']}, wanted {slot.slug}")
    if summary["schema"] != schema_for(slot.market, slot.timeframe).hash:
        raise BadExport(f"{folder} was exported with other features than this code computes")
    for table in tables_of(slot):
        path = folder / table.file
        if not path.is_file():
            raise BadExport(f"{path} is missing")
        if remote.sha256(path) != summary["files"][table.file]["sha256"]:
            raise BadExport(f"{path} has other bytes than were exported: ship it again")


def _snapshot(slot: Slot, values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write every table as of one instant; return each file's rows, bytes and hash."""
    alias = slot.market
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return {
            table.file: _write(cursor, table, values, folder / table.file)
            for table in tables_of(slot)
        }


def _write(cursor: Any, table: Table, values: dict[str, Any], path: Path) -> dict[str, Any]:
    query = (
        f"COPY (SELECT {table.columns} FROM {table.name} WHERE {table.where} ORDER BY 1, 2) "  # noqa: S608
        "TO STDOUT (FORMAT csv)"
    )
    compressor = zstandard.ZstdCompressor(level=3)
    with (
        path.open("wb") as file,
        compressor.stream_writer(file, closefd=False) as stream,
        cursor.copy(query, values) as copy,
    ):
        for block in copy:
            stream.write(block)
    cursor.execute(
        f"SELECT count(*) FROM {table.name} WHERE {table.where}",  # noqa: S608
        values,
    )
    return {
        "rows": cursor.fetchone()[0],
        "bytes": path.stat().st_size,
        "sha256": remote.sha256(path),
    }


def _read(cursor: Any, table: Table, entry: dict[str, Any], slot: Slot, path: Path) -> None:
    if "timeframe" in table.columns:
        cursor.execute(
            f"DELETE FROM {table.name} WHERE timeframe = %s",  # noqa: S608
            [slot.timeframe],
        )
    else:
        cursor.execute(f"DELETE FROM {table.name}")  # noqa: S608
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        cursor.copy(f"COPY {table.name} ({table.columns}) FROM STDIN (FORMAT csv)") as copy,
    ):
        while block := stream.read(1 << 20):
            copy.write(block)
    if cursor.rowcount != entry["rows"]:
        raise BadExport(f"{path} held {cursor.rowcount} rows, {entry['rows']} were exported")
