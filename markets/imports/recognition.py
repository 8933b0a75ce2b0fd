"""Find the header of a table and what format it is, by what it holds and not by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markets.imports.files import BadFile
from markets.imports.foreign_files import OTHER_CELLS, OTHERS
from markets.imports.format import TIME_NAMES, Format
from markets.imports.formats import BY_KEY, FORMATS, STATED
from markets.imports.grids import Grid, Row

_LOOKS_LIKE_VOLUME = re.compile(r"vol|qty|quantity|shares|amount|turnover|contracts|size")


@dataclass(frozen=True, slots=True)
class Found:
    """Hold a recognised table: its format, and where its columns are."""

    format: Format
    after: int
    """The line above the first row."""
    time: int
    clock: int | None
    prices: tuple[int, ...]
    volume: int | None
    symbol: int | None
    keep: int | None
    expiry: int | None
    stated_symbol: str = ""
    """The symbol that stands beside the table and not in its rows."""


def recognise(grid: Grid, volume: str = "") -> Found:
    """Return what a table is; raise BadFile naming what it is instead, or what it lacks.

    `volume` names the column that is the volume, or says "none".
    """
    if not grid.head:
        raise BadFile(f"{grid.part.name} is empty, or its first line is")
    for place, row in enumerate(grid.head):
        names = _names(row.cells)
        _refuse_others(grid, row, names)
        if grid.stated:
            return _placed(grid, row, STATED[grid.stated], names, volume)
        for known in FORMATS:
            if known.fits(names):
                return _checked(grid, place, known, names, volume)
            if known.fits_cells(row.cells):
                named = list(known.names)
                return _placed(grid, Row(row.line - 1, named), known, named, volume)
    raise BadFile(_what_lacks(grid))


def _names(cells: Sequence[str]) -> list[str]:
    """Return names stripped and in lower case, but where two differ by their case alone."""
    bare = [cell.strip().strip("\ufeff").strip() for cell in cells]
    if {"t", "T"} <= set(bare):
        return bare
    return [re.sub(r"\s+", " ", name.lower()) for name in bare]


def _refuse_others(grid: Grid, row: Row, names: list[str]) -> None:
    for other in OTHERS:
        if other.has <= set(names):
            raise BadFile(f"{grid.where(row.line)}: this is {other.title}: {other.instead}")
    for title, patterns in OTHER_CELLS:
        pairs = zip(patterns, row.cells, strict=False)
        if len(row.cells) == len(patterns) and all(re.fullmatch(*pair) for pair in pairs):
            raise BadFile(f"{grid.where(row.line)}: this is {title}: only bars are read")


def _checked(grid: Grid, place: int, known: Format, names: list[str], volume: str) -> Found:
    """Settle what the header alone does not say."""
    row = grid.head[place]
    if known.key == "yfinance":
        return _yfinance(grid, place, names, volume)
    if known.key == "plain":
        known = _plain(grid, place, names)
    return _placed(grid, row, known, names, volume)


def _yfinance(grid: Grid, place: int, names: list[str], volume: str) -> Found:
    row, symbol = grid.head[place], ""
    following = grid.head[place + 1 : place + 3]
    for each in following:
        first = each.cells[0].strip().lower()
        if first == "ticker":
            symbols = sorted({cell.strip() for cell in each.cells[1:] if cell.strip()})
            if len(symbols) > 1:
                raise BadFile(
                    f"{grid.where(each.line)}: it holds several tickers "
                    f"({', '.join(symbols[:5])}); download each into a file of its own"
                )
            symbol = symbols[0] if symbols else ""
        elif first not in ("date", "datetime"):
            break
        row = each
    found = _placed(grid, Row(row.line, row.cells), BY_KEY["yfinance"], names, volume)
    return replace(found, stated_symbol=symbol)


def _plain(grid: Grid, place: int, names: list[str]) -> Format:
    """Return whose plain table it is, as far as its first time tells."""
    known = BY_KEY["plain"]
    time = _place(names, TIME_NAMES)
    if time is None or place + 1 >= len(grid.head):
        return known
    first = grid.head[place + 1].cells[time].strip()
    if first.endswith(("+05:30", "+0530")):
        return STATED["kite"] if names[time] == "date" else known
    return known


def _placed(grid: Grid, row: Row, known: Format, names: list[str], volume: str) -> Found:
    """Return where the columns of a format are; raise BadFile for one that is not there."""
    time = _place(names, known.time)
    prices = [_place(names, (name,)) for name in known.prices]
    if time is None or None in prices:
        lacks = [*(["a time column"] if time is None else [])]
        lacks += [n for n, place in zip(known.prices, prices, strict=True) if place is None]
        raise BadFile(_lacks(grid, row, lacks))
    clock = _place(names, (known.clock,)) if known.clock else None
    if clock is None and known.key == "plain":
        clock = _clock_column(names, time)
    return Found(
        known,
        row.line,
        time,
        clock,
        tuple(place for place in prices if place is not None),
        _volume(grid, row, known, names, volume),
        _place(names, (known.symbol,)),
        _place(names, (known.keep[0],)),
        _place(names, (known.expiry,)),
    )


def _clock_column(names: list[str], time: int) -> int | None:
    """Return the column of the time of day where a plain table has date and time apart."""
    if names[time] == "date" and "time" in names:
        return names.index("time")
    return None


def _volume(grid: Grid, row: Row, known: Format, names: list[str], asked: str) -> int | None:
    if asked.lower() == "none":
        return None
    if asked:
        place = _place(names, (asked.strip().lower(),))
        if place is None:
            said = ", ".join(name for name in names if name)
            raise BadFile(
                f"{grid.where(row.line)}: no column is called {asked!r}; there are {said}"
            )
        return place
    place = _place(names, known.volume)
    if place is None and not known.has_plots:
        likely = [name for name in names if _LOOKS_LIKE_VOLUME.search(name)]
        if likely:
            raise BadFile(
                f"{grid.where(row.line)}: the column {likely[0]!r} may be the volume, and no "
                f"column is called {known.volume[0] if known.volume else 'so'}; say which it is: "
                f"--volume '{likely[0]}', or --volume none"
            )
    return place


def _place(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return where the first of some names stands first."""
    return next((names.index(name) for name in wanted if name and name in names), None)


def _what_lacks(grid: Grid) -> str:
    """Say what the row that comes nearest to a header lacks."""
    wanted = {*TIME_NAMES, *BY_KEY["plain"].prices}
    rows = [(len(wanted & set(_names(row.cells))), row) for row in grid.head]
    count, row = max(rows, key=lambda each: each[0])
    if count < 1:
        row = grid.head[0]
    names = _names(row.cells)
    lacks = [] if _place(names, TIME_NAMES) is not None else ["a time column"]
    return _lacks(grid, row, lacks + [n for n in BY_KEY["plain"].prices if n not in names])


def _lacks(grid: Grid, row: Row, lacks: Sequence[str]) -> str:
    names = ",".join(cell.strip() for cell in row.cells)[:120]
    return (
        f"{grid.where(row.line)}: the header {names!r} lacks {', '.join(lacks)}; wanted "
        "ts,open,high,low,close[,volume], or one of the formats in docs/data.md"
    )
