"""The tables of formats in the documents say what the registry says, no more and no less."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from markets.imports.files import _REFUSED
from markets.imports.foreign_files import OTHER_CELLS, OTHERS
from markets.imports.format import INDIA, UTC, Format
from markets.imports.formats import FORMATS, STATED

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text()
ZONES = {INDIA: "Indian time", UTC: "UTC", "Etc/GMT-3": ""}
LABELS = {
    "start": "times are starts",
    "last": "times are last seconds",
    "": "start or end by the calendar",
}


def table(header: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table; what is said of a title twice stands in one row."""
    by_title: dict[str, list[list[str]]] = {}
    for title, *cells in rows:
        columns = by_title.setdefault(title, [[] for _ in cells])
        for column, cell in zip(columns, cells, strict=True):
            if cell and cell not in column:
                column.append(cell)
    lines = [header, "|" + "---|" * header.count(" | ") + "---|"]
    for title, columns in by_title.items():
        lines.append(f"| {' | '.join([title, *('; or '.join(each) for each in columns)])} |")
    return lines


def done_with(known: Format) -> str:
    """Return what is done with a format's rows, in the registry's words."""
    label = "days" if known.is_daily else LABELS[known.label]
    idle = "rows without prices are passed over" if known.has_idle_rows else ""
    told = [label, ZONES.get(known.zone, ""), known.note, idle]
    return "; ".join(each for each in told if each)


def in_documents(header: str) -> list[str]:
    """Return the lines of the table with a header."""
    lines = TEXT.splitlines()
    start = lines.index(header)
    return lines[start : lines.index("", start)]


def test_every_format_stands_in_the_table_as_it_is_described() -> None:
    header = "| format | known by | what is done | what is refused |"
    known = dict.fromkeys((*FORMATS, *STATED.values()))
    rows = ((each.title, each.signs, done_with(each), each.refused) for each in known)
    assert in_documents(header) == table(header, rows)


def test_what_holds_no_bars_stands_in_the_table_with_what_to_do() -> None:
    header = "| no bars | what is said |"
    rows = [(other.title, other.instead) for other in OTHERS]
    rows += [(title, "only bars are read") for title, _ in OTHER_CELLS]
    assert in_documents(header) == table(header, rows)


def test_bytes_that_are_refused_are_named() -> None:
    for _, what in _REFUSED:
        name = what.split(":")[0].split(",")[0]
        assert name in " ".join(TEXT.split()), name
