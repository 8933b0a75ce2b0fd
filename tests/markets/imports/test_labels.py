"""What times mean, settled over the whole of a file and told: labels, dates, several files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from markets.imports.bars import BadFile, Read, read_files
from markets.imports.reading import ReadOptions
from tests.markets.imports.rows import CALENDARS, INDIA, Row, bars_of
from tradingsite.clock import Epoch

HEAD = "ts,open,high,low,close,volume\n"


def lines(rows: Iterable[Row], *, later: int = 0, pattern: str = "%Y-%m-%d %H:%M") -> str:
    """Return bars as a plain table without a zone, each time some seconds later than its open."""
    text = HEAD
    for row in rows:
        at = dt.datetime.fromtimestamp(row.s + later, INDIA)
        text += f"{at:{pattern}},{row.o},{row.h},{row.l},{row.c},{row.v}\n"
    return text


def read(folder: Path, *contents: str, timeframe: str = "15m", **asked: Any) -> Read:
    """Write files and read them as one."""
    paths = [folder / f"{number}.csv" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return read_files(paths, timeframe, CALENDARS["nifty"], ReadOptions("nifty", **asked))


@pytest.mark.parametrize(
    ("later", "said"),
    [(0, ""), (900, "times are the ends of bars, as 3 whole sessions show"), (899, "")],
    ids=["starts", "ends", "last seconds"],
)
def test_whole_sessions_tell_what_a_time_means(later: int, said: str, tmp_path: Path) -> None:
    rows = bars_of("nifty", "15m")
    pattern = "%Y-%m-%d %H:%M:%S"
    got = read(tmp_path, lines(rows, later=later, pattern=pattern), zone=INDIA)
    assert got.bars["15m"].opens_at.tolist() == [row.s for row in rows]
    assert said in " ".join(got.notes)


def test_the_short_last_bar_of_an_hourly_session_is_read_by_its_end(tmp_path: Path) -> None:
    rows = bars_of("nifty", "1h")
    text = HEAD
    for row in rows:
        session = CALENDARS["nifty"].session_at(Epoch(row.s))
        assert session is not None
        end = dt.datetime.fromtimestamp(min(row.s + 3_600, session.closes_at), INDIA)
        text += f"{end:%Y-%m-%d %H:%M},{row.o},{row.h},{row.l},{row.c},{row.v}\n"
    got = read(tmp_path, text, timeframe="1h", zone=INDIA)
    assert got.bars["1h"].opens_at.tolist() == [row.s for row in rows]


def test_sessions_that_contradict_each_other_are_left_to_the_user(tmp_path: Path) -> None:
    rows = bars_of("nifty", "15m")
    later = lines(rows[25:50], later=900).removeprefix(HEAD)
    mixed = lines(rows[:25]) + later
    with pytest.raises(BadFile, match=r"of 2 sessions 1 look like starts and 1 like ends"):
        read(tmp_path, mixed, zone=INDIA)


@pytest.mark.parametrize(("label", "later"), [("start", 0), ("end", 900), ("last", 899)])
def test_what_the_user_says_of_a_label_decides(label: str, later: int, tmp_path: Path) -> None:
    rows = bars_of("nifty", "15m")[5:10]
    text = lines(rows, later=later, pattern="%Y-%m-%d %H:%M:%S")
    got = read(tmp_path, text, zone=INDIA, label=label)
    assert got.bars["15m"].opens_at.tolist() == [row.s for row in rows]


def test_rows_of_before_the_open_are_set_aside_and_told(tmp_path: Path) -> None:
    rows = bars_of("nifty", "1m")
    before = "2024-06-03 09:08,9,9,9,9,0\n"
    text = lines(rows).replace(HEAD, HEAD + before)
    got = read(tmp_path, text, timeframe="1m", zone=INDIA)
    assert got.bars["15m"].open[0] == rows[0].o
    assert "1 rows of before the open set aside" in " ".join(got.notes)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [("%d/%m/%Y", "dates with the day first"), ("%m/%d/%y", "dates with the month first")],
)
def test_one_day_above_twelve_tells_the_order_of_all_dates(
    pattern: str, said: str, tmp_path: Path
) -> None:
    days = [dt.date(2024, 6, day) for day in (10, 11, 12, 13)]
    text = HEAD + "".join(f"{day:{pattern}},1,2,1,2,7\n" for day in days)
    got = read(tmp_path, text, timeframe="1d")
    found = [dt.datetime.fromtimestamp(at, INDIA) for at in got.bars["1d"].opens_at.tolist()]
    assert [at.date() for at in found] == days
    assert said in " ".join(got.notes)


def test_files_that_overlap_and_agree_are_one_series(tmp_path: Path) -> None:
    rows = bars_of("nifty", "15m")
    got = read(tmp_path, lines(rows[20:]), lines(rows[:25]), zone=INDIA)
    assert got.bars["15m"].opens_at.tolist() == [row.s for row in rows]
    assert "5 bars are in two of the files, and the same in both." in got.notes
    assert "these look like a plain table of bars" in " ".join(got.notes)


def test_files_that_disagree_are_refused_by_both_lines(tmp_path: Path) -> None:
    rows = bars_of("nifty", "15m")
    first, second = lines(rows[:25]), lines(rows[20:]).replace("20020.5", "20020.75")
    with pytest.raises(BadFile, match=r"0.csv, line 22 and .*1.csv, line 2 disagree about the bar"):
        read(tmp_path, first, second, zone=INDIA)


def test_minutes_said_to_be_quarters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"usually 5 minutes apart, so they are not 15m bars"):
        read(tmp_path, lines(bars_of("nifty", "5m")), zone=INDIA)
