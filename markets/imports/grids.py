"""A file's cells as text, in blocks of columns with the numbers of their lines.

Text goes through pyarrow's reader, one thread, so that every line keeps its number; workbooks,
Parquet and JSON come to the same shape.
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from markets.imports.files import HEAD_BYTES, BadFile, Part, Report

if TYPE_CHECKING:
    import pyarrow as pa

HEAD_ROWS = 40
# Larger ones are read no faster, and leave the allocator tens of megabytes of holes.
_BLOCK_BYTES = 1 << 19
_DELIMITERS = (",", ";", "\t", "|")
LineArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a row near the beginning, with the number of its line."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Block:
    """Hold some rows: the numbers of their lines, and the wanted columns as text."""

    lines: LineArray
    columns: list[pa.StringArray]


class Grid(ABC):
    """Give the cells of one table; `word` is what a row is called in messages."""

    word = "row"
    decimal_comma = False
    stated = ""
    """The key of the format, where the structure itself says it."""

    def __init__(self, part: Part) -> None:
        """Take the part that holds the table."""
        self.part = part
        self.head: list[Row] = []

    @abstractmethod
    def blocks(self, after: int, columns: Sequence[int], report: Report) -> Iterator[Block]:
        """Give the columns of all rows below a line, in order; raise BadFile for a broken one."""

    def where(self, line: int) -> str:
        """Return how a row is called in messages."""
        return f"{self.part.name}, {self.word} {line}"


class TextGrid(Grid):
    """Read delimited text of any of the usual delimiters, with a decimal point or comma."""

    word = "line"

    def __init__(self, part: Part) -> None:
        """Read the first lines, and find out what stands between the cells."""
        super().__init__(part)
        head = part.head()
        self.encoding = part.encoding(head)
        text = head.decode(self.encoding, errors="replace")
        lines = text.splitlines()
        if len(head) == HEAD_BYTES:
            lines = lines[:-1]
        self.lines_before = 0
        if lines and (told := re.fullmatch(r'"?sep=(.)"?', lines[0].strip())):
            self.delimiter = told[1]
            lines[0] = ""
        else:
            self.delimiter = _delimiter(lines)
        # A quote that is not closed would swallow what follows: the reader proper tells of it.
        rows = csv.reader(lines[: 4 * HEAD_ROWS], delimiter=self.delimiter)
        self.head = [Row(line, cells) for line, cells in enumerate(rows, start=1) if any(cells)]
        self.head = self.head[:HEAD_ROWS]
        self.decimal_comma = self.delimiter != "," and _has_decimal_commas(self.head)

    def _reader(
        self, stream: _Closed, after: int, names: list[str], wanted: list[str], bad: _BadRows
    ) -> Any:
        """Return pyarrow's reader of the rows after a line, every cell of them as text."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        return arrow_csv.open_csv(
            stream,
            arrow_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                skip_rows=after,
                column_names=names,
                encoding="utf8" if self.encoding == "utf-8-sig" else self.encoding,
            ),
            arrow_csv.ParseOptions(
                delimiter=self.delimiter, invalid_row_handler=bad, ignore_empty_lines=False
            ),
            arrow_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=False,
            ),
        )

    def blocks(self, after: int, columns: Sequence[int], report: Report) -> Iterator[Block]:
        import pyarrow as pa

        width = len(next(row.cells for row in self.head if row.line >= max(after, 1)))
        names = [str(column) for column in range(width)]
        wanted = [str(column) for column in columns]
        bad = _BadRows(width)
        with self.part.opened() as (stream, raw):
            # An empty file, as far as pyarrow goes, is one without a row.
            try:
                reader = self._reader(_Closed(stream), after, names, wanted, bad)
                line = after + 1
                for batch in reader:
                    lines = bad.lines(line, batch.num_rows)
                    if len(lines):
                        line = int(lines[-1]) + 1
                    whole = bad.rows_before(lines)
                    yield Block(lines[:whole], [each[:whole] for each in batch.columns])
                    bad.refuse(self)
                    report(raw.tell())
            except pa.ArrowInvalid as error:
                if str(error).startswith("Empty CSV file"):
                    return
                bad.refuse(self)
                self._tell(error)
            bad.refuse(self)

    def _tell(self, error: Exception) -> None:
        """Raise BadFile saying what pyarrow found wrong, by the byte where it is the text."""
        if "UTF8" in str(error).upper().replace("-", ""):
            with self.part.opened() as (stream, _):
                for _ in io.TextIOWrapper(stream, encoding=self.encoding):
                    pass
        reason = str(error).partition(":")[2].strip() or str(error)
        raise BadFile(f"{self.part.name}: not a CSV file ({reason[:200]})") from error


class _Closed:
    """Hand a stream to pyarrow, which closes what it is given, and keep it open."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class _BadRows:
    """Note the rows of another width: empty ones are passed over, another refuses the file."""

    width: int
    skipped: list[int] = field(default_factory=list)
    first: tuple[int, int] | None = None

    def __call__(self, row: Any) -> str:
        if row.text.strip(" ,;\t|\r\n\x00\x1a"):
            self.first = self.first or (row.number, row.actual_columns)
        self.skipped.append(row.number)
        return "skip"

    def lines(self, start: int, count: int) -> LineArray:
        """Return the lines of the next rows, which skip those of another width."""
        if not self.skipped or self.skipped[-1] < start:
            return np.arange(start, start + count, dtype=np.int32)
        lines = np.arange(start, start + count + len(self.skipped), dtype=np.int32)
        return lines[~np.isin(lines, self.skipped)][:count]

    def rows_before(self, lines: LineArray) -> int:
        return len(lines) if self.first is None else int(np.searchsorted(lines, self.first[0]))

    def refuse(self, grid: Grid) -> None:
        if self.first is not None:
            line, found = self.first
            raise BadFile(f"{grid.where(line)}: {found} columns where the header has {self.width}")


class RowsGrid(Grid):
    """Hold a table whose rows are in memory already: of JSON or a workbook."""

    def __init__(self, part: Part, rows: Sequence[Row], stated: str = "") -> None:
        """Take the rows, padded to one width, and the format where the structure said it."""
        super().__init__(part)
        self._rows = rows
        self.head = [row for row in rows[:HEAD_ROWS] if any(row.cells)]
        self.stated = stated

    def blocks(self, after: int, columns: Sequence[int], report: Report) -> Iterator[Block]:
        import pyarrow as pa

        rows = [row for row in self._rows if row.line > after and any(row.cells)]
        if rows:
            cells = [
                pa.array([row.cells[column] for row in rows], pa.string()) for column in columns
            ]
            yield Block(np.array([row.line for row in rows], dtype=np.int32), cells)
        report(self.part.path.stat().st_size)


class ParquetGrid(Grid):
    """Read a Parquet file, an index of pandas' among its columns."""

    def __init__(self, part: Part) -> None:
        """Read the names and the first rows."""
        super().__init__(part)
        self._names: list[str] = []
        first = next(self._batches(HEAD_ROWS), None)
        names = [
            "time" if re.fullmatch(r"__index_level_0__", name) else name for name in self._names
        ]
        rows = [] if first is None else [list(cells) for cells in zip(*first, strict=True)]
        self.head = [Row(0, names)]
        self.head += [Row(line, cells) for line, cells in enumerate(rows[:HEAD_ROWS], start=1)]

    def blocks(self, after: int, columns: Sequence[int], report: Report) -> Iterator[Block]:
        import pyarrow as pa

        line = 1
        for cells in self._batches(65_536, columns):
            count = len(cells[0])
            lines = np.arange(line, line + count, dtype=np.int32)
            yield Block(lines, [pa.array(each, pa.string()) for each in cells])
            line += count
        report(self.part.path.stat().st_size)

    def _batches(
        self, size: int, columns: Sequence[int] | None = None
    ) -> Iterator[list[list[str]]]:
        import pyarrow as pa
        from pyarrow import parquet

        with self.part.opened() as (stream, _):
            try:
                file = parquet.ParquetFile(io.BytesIO(stream.read()))
                self._names = list(file.schema_arrow.names)
                wanted = None if columns is None else [self._names[each] for each in columns]
                for batch in file.iter_batches(size, columns=wanted):
                    by_name = {name: batch.column(name) for name in batch.schema.names}
                    yield [_as_text(by_name[name]) for name in wanted or self._names]
            except pa.ArrowException as error:
                reason = f"the Parquet file is cut off or damaged ({error})"
                raise BadFile(f"{self.part.name}: {reason}") from error


def _as_text(column: Any) -> list[str]:
    """Return a column of any type as the text that a CSV file would have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        if column.type.tz is not None:
            column = pc.cast(pc.cast(column, pa.timestamp("s", "UTC"), safe=False), pa.int64())
        else:
            column = pc.strftime(
                pc.cast(column, pa.timestamp("s"), safe=False), "%Y-%m-%d %H:%M:%S"
            )
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return ["" if each is None else repr(each) for each in column.to_pylist()]
    return ["" if each is None else str(each) for each in column.to_pylist()]


def _delimiter(lines: Sequence[str]) -> str:
    """Return what parts the cells: that which gives most rows the same number of them."""
    best, chosen = (0, 0), ","
    for delimiter in _DELIMITERS:
        counts = [len(cells) for cells in csv.reader(lines[:HEAD_ROWS], delimiter=delimiter)]
        counts = [count for count in counts if count > 3]
        usual = max(set(counts), key=counts.count, default=0)
        # A comma may stand within numbers: another delimiter that parts as many rows is the one.
        score = (counts.count(usual), int(delimiter != ","))
        if usual and score > best:
            best, chosen = score, delimiter
    return chosen


def _has_decimal_commas(head: Sequence[Row]) -> bool:
    cells = [cell.strip() for row in head for cell in row.cells]
    with_comma = sum(bool(re.fullmatch(r"-?[\d.]*\d,\d+", cell)) for cell in cells)
    with_point = sum(bool(re.fullmatch(r"-?\d+\.\d+", cell)) for cell in cells)
    return with_comma > with_point
