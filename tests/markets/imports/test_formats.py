"""Each format of bars, read from a small file: the right bars, and what it says of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import openpyxl
import pytest

from markets.domain import timeframes
from markets.imports.bars import read_files
from markets.imports.files import parts_of
from markets.imports.formats import FORMATS, STATED
from markets.imports.reading import ReadOptions
from markets.imports.recognition import recognise
from markets.imports.structures import grid_of
from tests.markets.imports.cases import CASES
from tests.markets.imports.rows import CALENDARS, INDIA, Case, as_rows, bars_of, joined
from tradingsite.registry import MARKETS

TITLES = {each.key: each.title for each in (*FORMATS, *STATED.values())}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.key}-{case.timeframe}")
def test_a_file_of_each_format_gives_its_bars(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content())
    asked = ReadOptions(case.market, **case.asked)
    grid = grid_of(parts_of(path)[0])
    assert recognise(grid, asked.volume).format.key == case.key
    read = read_files([path], case.timeframe, CALENDARS[case.market], asked)
    written = [row if case.has_volume else replace(row, v=0) for row in case.rows()]
    own = MARKETS[case.market].timeframes
    makes = [case.timeframe] if case.timeframe in own else list(own)
    assert list(read.bars) == makes
    for timeframe, bars in read.bars.items():
        expected = joined(written, case.market, timeframe)
        assert as_rows(bars, timeframes.seconds(timeframe)) == expected
    told = " ".join(read.notes)
    assert f"this looks like {TITLES[case.key]}" in told
    for words in case.said:
        assert words in told


def test_every_format_has_a_case() -> None:
    known = {each.key for each in (*FORMATS, *STATED.values())}
    assert {case.key for case in CASES} == known


def test_dhans_own_sample_is_of_the_day_that_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "dhan.json"
    prices = {name: [100.0] for name in ("open", "high", "low", "close")}
    path.write_text(json.dumps({"start_Time": [1_328_845_500], **prices}))
    asked = ReadOptions("nifty", since_1980=True)
    (at,) = read_files([path], "15m", CALENDARS["nifty"], asked).bars["15m"].opens_at.tolist()
    assert dt.datetime.fromtimestamp(at, INDIA) == dt.datetime(2022, 2, 9, 9, 15, tzinfo=INDIA)


def test_a_table_anywhere_in_a_workbook_is_read_with_its_dates(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet["B4"] = "a heading"
    rows = bars_of("nifty", "15m")
    for column, name in enumerate(("ts", "open", "high", "low", "close", "volume"), start=2):
        sheet.cell(6, column, name)
    for number, row in enumerate(rows, start=7):
        at = dt.datetime.fromtimestamp(row.s, INDIA).replace(tzinfo=None)
        for column, cell in enumerate((at, row.o, row.h, row.l, row.c, row.v), start=2):
            sheet.cell(number, column, cell)
    book.save(path := tmp_path / "bars.xlsx")
    read = read_files([path], "15m", CALENDARS["nifty"], ReadOptions("nifty"))
    assert as_rows(read.bars["15m"], 900) == rows


def test_a_file_that_is_what_its_sum_says_is_read_and_told_so(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name.endswith(".zip"))
    path = tmp_path / case.name
    path.write_bytes(case.content())
    digest = hashlib.sha256(case.content()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
    read = read_files([path], case.timeframe, CALENDARS[case.market], ReadOptions(case.market))
    assert read.notes[0] == f"{path.name}: it is what the .CHECKSUM beside it says."
