"""Many rows into a table at once: COPY into a table of the connection's own, then one statement.

    counts = bulk.upsert("nifty", "markets_reading", ("series", "at", "value"), rows, key)

A row whose key is stored replaces that one where it differs, and changes nothing where it does not,
so that what came twice is stored once. A `where` or an `update` narrows that, in SQL that calls the
stored row `stored` and the new one `excluded`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import OperationalError, connections, transaction
from psycopg import sql

REPORT_EVERY_ROWS = 2_000

Row = Sequence[Any]
Report = Callable[[int], None]
"""Called with the number of rows sent so far."""


class TableLocked(OperationalError):
    """Another session kept a table, or its rows, locked for longer than we may wait."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Count what an upsert did; a key that came twice counts once."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    lowest: Any = None
    """The least value, among the rows written, of the column that was asked for; None for none."""

    @property
    def written(self) -> int:
        """Return how many rows are new or changed."""
        return self.inserted + self.updated


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold rows that were copied beside their table, for statements of the same transaction."""

    alias: str
    table: str
    columns: tuple[str, ...]
    name: str
    """The temporary table's."""
    cursor: Any

    def execute(self, query: str, values: Sequence[Any] = (), **parts: sql.Composable) -> int:
        """Run a statement with {stage}, {table}, {columns} or parts in it; return its row count."""
        statement = sql.SQL(query).format(
            stage=sql.Identifier(self.name),
            table=sql.Identifier(self.table),
            columns=_names(self.columns),
            **parts,
        )
        with _naming(self.alias, self.table):
            self.cursor.execute(statement, values)
        return int(self.cursor.rowcount)

    def upsert(
        self,
        key: Sequence[str],
        *,
        constants: Mapping[str, Any] | None = None,
        update: Sequence[str] | Mapping[str, str] | None = None,
        where: str = "TRUE",
        lowest: str | None = None,
    ) -> Counts:
        """Insert the rows, or update those whose key is stored; see `upsert`."""
        same = constants or {}
        if update is None:
            update = [name for name in (*self.columns, *same) if name not in key]
        takes: dict[str, sql.Composable] = (
            {name: sql.SQL(value) for name, value in update.items()}
            if isinstance(update, Mapping)
            else {name: sql.Identifier("excluded", name) for name in update}
        )
        own_key = _names([name for name in key if name in self.columns])
        query = sql.SQL(_UPSERT).format(
            table=sql.Identifier(self.table),
            stage=sql.Identifier(self.name),
            columns=_names(self.columns),
            all_columns=_names((*self.columns, *same)),
            values=sql.SQL(", ").join(
                [*map(sql.Identifier, self.columns), *[sql.SQL("%s")] * len(same)]
            ),
            own_key=own_key,
            action=_action(takes, key, where),
            is_new=_is_new(self.alias, key[0]) if takes else sql.SQL("TRUE"),
            lowest=sql.SQL("NULL::integer") if lowest is None else sql.Identifier(lowest),
        )
        with _naming(self.alias, self.table):
            self.cursor.execute(query, list(same.values()))
        given, inserted, written, least = self.cursor.fetchone()
        return Counts(inserted, written - inserted, given - written, least)


# By the key's order, so that two writers at once never wait for each other in a circle. Of a key
# that came twice the last row counts: in a table just filled its place (ctid) tells which that is.
_UPSERT = """
WITH given AS MATERIALIZED (
    SELECT DISTINCT ON ({own_key}) {columns} FROM {stage} ORDER BY {own_key}, ctid DESC
), written AS (
    INSERT INTO {table} AS stored ({all_columns}) SELECT {values} FROM given
    ON CONFLICT {action}
    RETURNING {is_new} AS is_new, {lowest} AS lowest
)
SELECT (SELECT count(*) FROM given), count(*) FILTER (WHERE is_new), count(*), min(lowest)
FROM written
"""


def upsert(
    alias: str,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Row] | bytes,
    key: Sequence[str],
    *,
    constants: Mapping[str, Any] | None = None,
    update: Sequence[str] | Mapping[str, str] | None = None,
    where: str = "TRUE",
    lowest: str | None = None,
    report: Report = lambda sent: None,
) -> Counts:
    """Write rows in one transaction by their key, which a unique index is on; return the counts.

    `constants` are columns of one value for all rows. `update` names the columns that a stored row
    takes over, all but the key unless given and none for (); a mapping gives each its expression.
    Rows are values in the order of `columns`, or bytes of PostgreSQL's binary COPY. Raises
    TableLocked where another session holds the table or a row, and then nothing is stored.
    """
    with staged(alias, table, columns, rows, report) as stage:
        return stage.upsert(key, constants=constants, update=update, where=where, lowest=lowest)


@contextmanager
def staged(
    alias: str,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Row] | bytes,
    report: Report = lambda sent: None,
) -> Iterator[Stage]:
    """Give rows in a temporary table of a table's own types, in a transaction."""
    columns = tuple(columns)
    # Made once a connection, and named by its columns: one made for each call would leave rows in
    # the catalogue to vacuum, and a collector calls each minute.
    name = f"incoming_{table}_{zlib.crc32(' '.join(columns).encode()):08x}"
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        stage = Stage(alias, table, columns, name, cursor)
        stage.execute(_CREATE)
        _copy(cursor, name, columns, rows, report)
        yield stage
        # The commit empties it; a second call may come before that.
        stage.execute("TRUNCATE {stage}")


# No constraints come with it: a row may break them until the statement that stores it.
_CREATE = """
CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS
AS SELECT {columns} FROM {table} WITH NO DATA
"""


def _copy(
    cursor: Any, name: str, columns: tuple[str, ...], rows: Iterable[Row] | bytes, report: Report
) -> None:
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(name), _names(columns))
    if isinstance(rows, bytes):
        with cursor.copy(into + sql.SQL(" (FORMAT binary)")) as copy:
            copy.write(rows)
        return
    with cursor.copy(into) as copy:
        for number, row in enumerate(rows, start=1):
            copy.write_row(row)
            if number % REPORT_EVERY_ROWS == 0:
                report(number)


def _action(takes: Mapping[str, sql.Composable], key: Sequence[str], where: str) -> sql.Composable:
    """Return what is done with a stored row of the same key, by what each column takes over."""
    if not takes:
        # Of any unique index: that of the option quotes is on each partition and not on the whole.
        return sql.SQL("DO NOTHING")
    comma = sql.SQL(", ")
    # IS DISTINCT FROM, for a null differs from a number and not from a null.
    return sql.SQL(
        "({key}) DO UPDATE SET {sets} WHERE ({stored}) IS DISTINCT FROM ({new}) AND ({where})"
    ).format(
        key=_names(key),
        sets=comma.join(
            sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in takes.items()
        ),
        stored=comma.join(sql.Identifier("stored", name) for name in takes),
        new=comma.join(takes.values()),
        where=sql.SQL(where),
    )


def _is_new(alias: str, key: str) -> sql.Composable:
    """Return what is true of a returned row that was inserted and not updated."""
    version: int = connections[alias].pg_version  # type: ignore[attr-defined]  # PostgreSQL's own
    if version >= 180_000:
        return sql.SQL("old.{} IS NULL").format(sql.Identifier(key))
    # The transaction that locked the row in order to update it, 0 for a new one. A partitioned
    # table has no such column to return, so before PostgreSQL 18 it takes new rows only.
    return sql.SQL("xmax = 0")


def _names(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))


@contextmanager
def _naming(alias: str, table: str) -> Iterator[None]:
    """Say of a wait for a lock, or a statement, that was ended which table it was for."""
    try:
        yield
    except OperationalError as error:
        ended = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
        if not isinstance(error.__cause__, ended):
            raise
        raise TableLocked(
            f"{table} of the database {alias} took too long to write, and nothing was stored: "
            f"{str(error).strip().partition(chr(10))[0]}. Another session holds the table or these "
            f"rows; pg_stat_activity tells which. Try again once it is done."
        ) from error
