"""JSON and workbooks to rows: the answers of brokers and exchanges as they were saved."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from markets.imports.files import BadFile, Part
from markets.imports.grids import Grid, ParquetGrid, Row, RowsGrid, TextGrid

_CANDLE = ["time", "open", "high", "low", "close", "volume", "oi"]
_BYBIT = ["time", "open", "high", "low", "close", "volume", "turnover"]
_OKX = ["time", "open", "high", "low", "close", "volume", "volccy", "volccyquote", "confirm"]
_KLINE = [
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
    *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
]
_ARRAYS = ("open", "high", "low", "close")
_LEAST_CELLS = 5


def grid_of(part: Part) -> Grid:
    """Return the table of a part; raise BadFile where there is none."""
    if part.kind == "parquet":
        return ParquetGrid(part)
    if part.kind == "xlsx":
        return _workbook(part)
    return _json(part) if part.kind == "json" else TextGrid(part)


def _json(part: Part) -> Grid:
    with part.opened() as (stream, _):
        try:
            # Numbers stay as they are written, so that none is rounded on the way.
            told = json.loads(stream.read(), parse_float=str, parse_int=str, parse_constant=str)
        except ValueError as error:
            raise BadFile(f"{part.name}: not whole JSON ({error})") from error
    stated, names, rows = _table(part, told)
    if not rows:
        raise BadFile(f"{part.name}: there is no bar in it")
    width = len(names)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != width:
            found = len(row) if isinstance(row, list) else 1
            raise BadFile(f"{part.name}, row {number}: {found} values where others have {width}")
    cells = [Row(0, list(names))]
    cells += [Row(number, list(map(_text, row))) for number, row in enumerate(rows, start=1)]
    return RowsGrid(part, cells, stated)


def _table(part: Part, told: Any) -> tuple[str, Sequence[str], list[Any]]:
    """Return the format, the names and the rows of what was parsed."""
    if isinstance(told, dict):
        inner = _inner(told)
        if inner is not None:
            stated, told = inner
            if isinstance(told, list):
                return _listed(part, told, stated)
        if isinstance(told, dict) and all(isinstance(told.get(each), list) for each in _ARRAYS):
            return _arrays(part, told)
    if isinstance(told, list):
        return _listed(part, told, "")
    known = ", ".join(map(str, list(told)[:8])) if isinstance(told, dict) else str(told)[:80]
    raise BadFile(f"{part.name}: JSON that holds no bars that are known ({known})")


def _inner(told: dict[str, Any]) -> tuple[str, Any] | None:
    """Return what an answer of a broker's or an exchange's is around, and whose it is."""
    result, data = told.get("result"), told.get("data")
    if isinstance(result, dict) and isinstance(result.get("list"), list):
        return "bybit", result["list"]
    if isinstance(result, dict) and "ticks" in result:
        return "deribit", result
    if isinstance(told.get("payload"), dict) and "candles" in told["payload"]:
        return "groww", told["payload"]["candles"]
    if isinstance(data, dict) and "candles" in data:
        return "", data["candles"]
    if isinstance(data, list) and "code" in told:
        return "okx-api", data
    if isinstance(data, (dict, list)):
        return "", data
    return ("", told["candles"]) if isinstance(told.get("candles"), list) else None


def _arrays(part: Part, told: dict[str, Any]) -> tuple[str, Sequence[str], list[Any]]:
    time = next((n for n in ("timestamp", "start_Time", "start_time", "ticks") if n in told), None)
    if time is None:
        raise BadFile(f"{part.name}: arrays of prices without one of times (timestamp, ticks)")
    names = [time, *_ARRAYS, *(["volume"] if "volume" in told else [])]
    lengths = {name: len(told[name]) for name in names}
    if len(set(lengths.values())) != 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise BadFile(f"{part.name}: its arrays are not equally long ({said})")
    stated = "deribit" if time == "ticks" else "dhan"
    rows = [list(row) for row in zip(*(told[name] for name in names), strict=True)]
    return stated, ["time", *names[1:]], rows


def _listed(part: Part, told: list[Any], stated: str) -> tuple[str, Sequence[str], list[Any]]:
    if told and all(isinstance(row, dict) for row in told):
        rows = [row for row in told if row.get("stat") != "Not_Ok"]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return stated, names, [[row.get(name, "") for name in names] for row in rows]
    if not told or not isinstance(told[0], list) or len(told[0]) < _LEAST_CELLS:
        raise BadFile(f"{part.name}: JSON that holds no bars that are known")
    width = len(told[0])
    if width == len(_KLINE):
        return "binance", _KLINE, told
    if width == len(_OKX):
        return stated or "okx-api", _OKX, told
    if width > len(_CANDLE):
        raise BadFile(f"{part.name}: rows of {width} values, which no bars that are known have")
    if stated == "bybit":
        return stated, _BYBIT[:width], told
    if not stated:
        stated = _broker(told)
    return stated, _CANDLE[:width], told


def _broker(told: list[Any]) -> str:
    """Return whose candles these are, by how their times are written."""
    first = _text(told[0][0])
    if first.isdecimal():
        return "ccxt"
    return "upstox" if first.endswith("+05:30") and len(told[0]) > 6 else "kite"


def _workbook(part: Part) -> Grid:
    """Return the first sheet that holds a table."""
    import openpyxl

    with part.opened() as (stream, _):
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        except (KeyError, ValueError, OSError) as error:
            raise BadFile(f"{part.name}: the workbook is damaged ({error})") from error
        for sheet in book.worksheets:
            # Some programs state a dimension of one cell, which would hide all the others.
            sheet.reset_dimensions()
            rows = [[_text(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
            width = max(map(len, rows), default=0)
            if width >= _LEAST_CELLS:
                padded = [row + [""] * (width - len(row)) for row in rows]
                return RowsGrid(part, [Row(line, row) for line, row in enumerate(padded, start=1)])
    raise BadFile(f"{part.name}: no sheet of the workbook holds a table of bars")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
