"""A slot's training data on its way from PROD's database to PC's.

An export is a folder: one zstd-compressed CSV a table, and export.json with row counts and hashes.
It is written from one snapshot, so bars and features agree. Rows go in blocks, a week each, of
which only those are written that PC does not have just like this: PC says what it has by a digest
a block, so a corrected bar of last year goes along as the new ones do. The import makes PC's rows
of that timeframe equal to PROD's in one transaction: a repeated import changes nothing, half of
one is never seen, and whether they are equal is checked by the digests.
"""

import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zstandard
from django.db import connections, transaction

from bots.decision.engine import align_to_features
from bots.decision.owner import OwnTrade
from bots.services import own_trades
from markets import store
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar
from markets.domain.exogenous import FUNDING
from markets.domain.features import Features, schema_for
from markets.domain.price_panel import PricePanel
from markets.models import Bar, Feature, OwnerTrade, Reading, TradingDay
from tradingsite.clock import Epoch
from tradingsite.databases import TRAINING
from tradingsite.errors import Degraded
from tradingsite.machines import transfer
from tradingsite.registry import BOTS, CONTEXTS, Slot
from training.pipeline.data_checks import UnsoundData, missing_rows

SUMMARY = "export.json"
# Room that must stay free after an export: a full disk would stop the databases too.
RESERVE_MB = 200
# The advisory lock of whoever imports into PC's database of a market.
IMPORTING = 7_301


class BadExport(Degraded):
    """An export that cannot be used; the message names the file and what is wrong."""


class StaleCopy(BadExport):
    """PC has other rows than PROD believed: its next export must be a whole one."""


Blocks = Mapping[str, str]
"""The digest of each block of a table's rows."""
Holding = Mapping[str, Blocks]
"""What PC has of a slot's tables, by the name of the file."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of an export: its file, columns and which of its rows belong to the slot."""

    file: str
    name: str
    columns: str
    where: str
    time: str = ""
    """The column by which rows are parted into weeks; all are one block where there is none."""

    @property
    def block(self) -> str:
        """Return the expression of a row's block."""
        if not self.time:
            return "'all'"
        return f"to_char(date_trunc('week', {self.time} AT TIME ZONE 'UTC'), 'YYYY-MM-DD')"

    @property
    def replaced_rows(self) -> str:
        """Return which of PC's rows this table's export replaces."""
        return "timeframe = %(timeframe)s" if "timeframe" in self.columns else "true"


TABLES = (
    Table(
        "bars.csv.zst",
        Bar._meta.db_table,
        "timeframe, opens_at, closes_at, open, high, low, close, volume, source",
        "timeframe = %(timeframe)s AND closes_at <= %(until)s",
        "closes_at",
    ),
    Table(
        "features.csv.zst",
        Feature._meta.db_table,
        'timeframe, opens_at, closes_at, schema, "values"',
        "timeframe = %(timeframe)s AND closes_at <= %(until)s AND schema = %(schema)s",
        "closes_at",
    ),
    Table(
        # What holding costs; what models know of readings is in the features.
        "readings.csv.zst",
        Reading._meta.db_table,
        "series, at, value, source",
        f"series = '{FUNDING}' AND at <= %(until)s",
        "at",
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
    """Feature rows and the panel they are traded on, one row each a bar."""

    features: Features
    panel: PricePanel
    fingerprint: str
    missing_rows: int = 0
    """How many rows that the calendar expects are not there."""
    owner_trades: tuple[OwnTrade, ...] = ()
    """By hand, oldest first, for a bot that learns from them."""


def export(
    slot: Slot, until: dt.datetime, folder: Path, held: Holding | None = None
) -> dict[str, Any]:
    """Write what PC lacks of a slot's data up to an instant into a new folder; return its summary.

    Raises NoSpace for a disk that is or would be full and BadExport where there are no rows; then
    the folder is gone. Raises UnsoundData where bars that rows are made of break the rule of bars.
    """
    # Before the first byte: a disk that this fills stops the bots' databases.
    if transfer.free_mb(folder) < RESERVE_MB:
        raise transfer.NoSpace(
            f"no disk space for the export: {transfer.free_mb(folder)} MB free at {folder}, "
            f"{RESERVE_MB} MB must stay free. Make room and run it again"
        )
    calendar = store.load_calendar(slot.market)
    for timeframe in (slot.timeframe, *CONTEXTS[slot.market, slot.timeframe]):
        bars = store.load_bars(slot.market, timeframe)
        _require_valid_bars(slot.market, timeframe, bars, calendar)
    schema = schema_for(slot.market, slot.timeframe).hash
    values = {"timeframe": slot.timeframe, "until": until, "schema": schema}
    summary: dict[str, Any] = {"slot": slot.slug, "until": until.isoformat(), "schema": schema}
    try:
        with transfer.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            summary["files"] = files = _snapshot(slot, values, folder, held or {})
            if not files["features.csv.zst"]["blocks"]:
                raise BadExport(
                    f"{slot.slug} has no feature rows up to {until:%Y-%m-%d}: import bars first "
                    f"(manage.py importbars {slot.market} {slot.timeframe} FILE)"
                )
            # Written last: an export without it did not finish.
            (folder / SUMMARY).write_text(json.dumps(summary, indent=1, sort_keys=True))
            transfer.sync_folder(folder)
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)  # half an export must not keep the disk full
        raise
    return summary


def import_and_load(slot: Slot, folder: Path) -> Dataset:
    """Make PC's rows of the slot's timeframe what PROD's are, and return them as arrays.

    Raises StaleCopy where PC did not have what the export left out; then nothing was changed.
    """
    summary = read_summary(folder, slot)
    alias = TRAINING[slot.market]
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        # One import of a market at a time, and none between an import and its own reading.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [IMPORTING])
        for table in tables_of(slot):
            _read(cursor, table, summary["files"][table.file], slot, folder / table.file)
        return load(slot, summary["fingerprint"])


def holding(slot: Slot) -> Holding:
    """Return what PC has of a slot's tables, for PROD's next export."""
    values = {"timeframe": slot.timeframe}
    with connections[TRAINING[slot.market]].cursor() as cursor:
        return {
            table.file: _digests(cursor, table, table.replaced_rows, values)
            for table in tables_of(slot)
        }


def load(slot: Slot, fingerprint: str) -> Dataset:
    """Return PC's rows of a slot as arrays; raise UnsoundData where none may learn from them."""
    alias = TRAINING[slot.market]
    features = store.load_features(alias, slot.timeframe)
    bars = store.load_bars(alias, slot.timeframe)
    calendar = store.load_calendar(slot.market, alias)
    _require_valid_bars(alias, slot.timeframe, bars, calendar)
    panel = align_to_features(
        store.load_price_panel(slot, bars, calendar, alias), features.opens_at
    )
    trades = own_trades(alias) if BOTS[slot.bot].learns_from_owner else ()
    return Dataset(features, panel, fingerprint, missing_rows(features, calendar), trades)


def slice_rows(data: Dataset, first: Epoch, stop: Epoch) -> Dataset:
    """Return the rows [first, stop) of a dataset."""
    rows, features = slice(first, stop), data.features
    sliced = Features(
        features.opens_at[rows], features.closes_at[rows], features.values[rows], features.schema
    )
    return replace(data, features=sliced, panel=data.panel.slice(first, stop))


def read_summary(folder: Path, slot: Slot) -> dict[str, Any]:
    """Return an export's summary after checking every file against it; raise BadExport."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_bytes())
        _check_summary(summary, folder, slot)
        blocks = json.dumps(summary["files"]["features.csv.zst"]["blocks"], sort_keys=True)
        summary["fingerprint"] = hashlib.sha256(blocks.encode()).hexdigest()
    except FileNotFoundError as error:
        raise BadExport(f"{folder} has no {SUMMARY}: the export did not finish") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadExport(f"{folder / SUMMARY} is not an export's summary: {error!r}") from error
    return summary


def _require_valid_bars(alias: str, timeframe: str, bars: Bars, calendar: Calendar) -> None:
    try:
        store.require_on_calendar(alias, timeframe, bars, calendar)
    except store.OffCalendarTable as error:
        raise UnsoundData(str(error)) from error


def _check_summary(summary: dict[str, Any], folder: Path, slot: Slot) -> None:
    if summary["slot"] != slot.slug:
        raise BadExport(f"{folder} is an export of {summary['slot']}, wanted {slot.slug}")
    if summary["schema"] != schema_for(slot.market, slot.timeframe).hash:
        raise BadExport(f"{folder} was exported with other features than this code computes")
    for table in tables_of(slot):
        path = folder / table.file
        if not path.is_file():
            raise BadExport(f"{path} is missing")
        if transfer.sha256(path) != summary["files"][table.file]["sha256"]:
            raise BadExport(f"{path} has other bytes than were exported: ship it again")


def _snapshot(slot: Slot, values: dict[str, Any], folder: Path, held: Holding) -> dict[str, Any]:
    """Write every table as of one instant; return each file's rows, bytes, hash and blocks."""
    alias = slot.market
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        # Bars may be corrected while this reads: all tables are of the first query's instant.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return {
            table.file: _write(cursor, table, values, folder / table.file, held.get(table.file, {}))
            for table in tables_of(slot)
        }


def _digests(cursor: Any, table: Table, where: str, values: dict[str, Any]) -> dict[str, str]:
    """Return the digest of each block of a table's rows, as PostgreSQL writes them."""
    cursor.execute(
        f"SELECT {table.block}, md5(string_agg(row, ',' ORDER BY row)) FROM "  # noqa: S608
        f"(SELECT *, md5(ROW({table.columns})::text) AS row FROM {table.name} WHERE {where}) AS t "
        "GROUP BY 1",
        values,
    )
    return dict(cursor.fetchall())


def _write(
    cursor: Any, table: Table, values: dict[str, Any], path: Path, held: Blocks
) -> dict[str, Any]:
    blocks = _digests(cursor, table, table.where, values)
    sent = sorted(block for block, digest in blocks.items() if held.get(block) != digest)
    query = (
        f"COPY (SELECT {table.columns} FROM {table.name} WHERE {table.where} "  # noqa: S608
        f"AND {table.block} = ANY(%(sent)s) ORDER BY 1, 2) TO STDOUT (FORMAT csv)"
    )
    compressor = zstandard.ZstdCompressor(level=3)
    with (
        path.open("wb") as file,
        compressor.stream_writer(file, closefd=False) as stream,
        cursor.copy(query, values | {"sent": sent}) as copy,
    ):
        for block in copy:
            stream.write(block)
    return {
        "rows": cursor.rowcount,
        "bytes": path.stat().st_size,
        "sha256": transfer.sha256(path),
        "blocks": blocks,
        "sent": sent,
    }


def _read(cursor: Any, table: Table, entry: dict[str, Any], slot: Slot, path: Path) -> None:
    values = {"timeframe": slot.timeframe, "sent": entry["sent"], "kept": list(entry["blocks"])}
    cursor.execute(
        f"DELETE FROM {table.name} WHERE {table.replaced_rows} "  # noqa: S608
        f"AND ({table.block} = ANY(%(sent)s) OR NOT {table.block} = ANY(%(kept)s))",
        values,
    )
    with (
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        cursor.copy(f"COPY {table.name} ({table.columns}) FROM STDIN (FORMAT csv)") as copy,
    ):
        while block := stream.read(1 << 20):
            copy.write(block)
    # The file's hash says that it came whole, this that it went in whole.
    if cursor.rowcount != entry["rows"]:
        raise BadExport(f"{path} held {cursor.rowcount} rows, {entry['rows']} were exported")
    if _digests(cursor, table, table.replaced_rows, values) != entry["blocks"]:
        raise StaleCopy(
            f"PC's rows of {table.name} differ from PROD's after the import of {path.name}: what "
            "was left out of it is not here as PROD believed"
        )
