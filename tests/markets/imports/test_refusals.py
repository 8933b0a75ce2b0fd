"""What is no file of bars, or not clear, is refused by its line, its cause and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from markets.imports.bars import BadFile, read_files
from markets.imports.foreign_files import OTHERS
from markets.imports.reading import ReadOptions
from tests.markets.imports.cases import CASES
from tests.markets.imports.rows import CALENDARS

PLAIN = "ts,open,high,low,close\n"
BAR = "1,2,1,2"
AMIBROKER = "NIFTY_F1,20240603,09:16,1,2,1,2,7\n"
MT5 = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\n"
DHAN = '{"timestamp":[1,2],"open":[1,1],"high":[1,1],"low":[1,1],"close":[1]}'


def refusal(path: Path, content: str | bytes, timeframe: str = "15m", **asked: Any) -> str:
    """Read a file and return the words that refuse it, after its name."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    market = asked.pop("market", "nifty")
    with pytest.raises(BadFile) as refused:
        read_files([path], timeframe, CALENDARS[market], ReadOptions(market, **asked))
    words = str(refused.value)
    assert words.startswith(str(path))
    return words.removeprefix(str(path))


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{other.title}-{min(other.has)}")
def test_what_holds_no_bars_is_refused_by_name(other: Any, tmp_path: Path) -> None:
    header = ",".join(sorted(other.has)).title()
    words = refusal(tmp_path / "other.csv", f"\n{header}\n{'1,' * len(other.has)}\n")
    assert words == f", line 2: this is {other.title}: {other.instead}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_no_format_of_bars_is_taken_for_what_holds_none(case: Any) -> None:
    names = {re.sub(r"\s+", " ", name.strip(' "\ufeff\r').lower()) for name in case.head.split(",")}
    assert not [other.title for other in OTHERS if other.has <= names]


@pytest.mark.parametrize(
    ("start", "cause"),
    [
        (b"%PDF-1.7", "this is a PDF: contract notes and statements hold no bars"),
        (b"<!DOCTYPE html><html>", "this is a web page and not the file"),
        (b"\n <HTML>", "this is a web page and not the file"),
        (b"<?xml version='1.0'?>", "this is XML"),
        (b"\xd0\xcf\x11\xe0rest", "a workbook of the old .xls kind: save it as XLSX or CSV"),
        (b"\x80\x04\x95", "a pickle, which may run code of its own"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
        (b"SQLite format 3\x00", "an SQLite database: export the table as CSV"),
        (b"PK\x05\x06" + b"\x00" * 18, "a zip archive without a file in it"),
        (b"PK\x03\x04rest", "the zip file is cut off or damaged"),
        (b"\x1f\x8brest", "the gzip file is cut off or damaged"),
        (b"PAR1rest", "the Parquet file is cut off or damaged"),
        (b"", " is empty, or its first line is"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_bytes_that_are_no_table_are_refused_by_what_they_are(
    start: bytes, cause: str, tmp_path: Path
) -> None:
    assert cause in refusal(tmp_path / "bars.csv", start)


@pytest.mark.parametrize(
    ("content", "asked", "words"),
    [
        # Whose bars they are.
        (
            "Ticker,Date,Time,Open,High,Low,Close,Volume,Open Interest\n"
            "NIFTY-I.NFO,03/06/2024,09:15:59,1,2,1,2,7,1\n"
            "NIFTY-II.NFO,03/06/2024,09:15:59,1,2,1,2,7,1\n",
            {},
            ": it holds several symbols (NIFTY-I.NFO, NIFTY-II.NFO); pick one with --symbol",
        ),
        (AMIBROKER, {"symbol": "NIFTY"}, ": it holds no NIFTY; it holds NIFTY_F1"),
        (AMIBROKER.replace("NIFTY", "BANKNIFTY"), {}, ": it is of BANKNIFTY_F1, and not of nifty"),
        (
            "Price,Close,Close,High,Low,Open\nTicker,^NSEI,INFY.NS,^NSEI,^NSEI,^NSEI\n",
            {},
            ", line 2: it holds several tickers (INFY.NS, ^NSEI)",
        ),
        (
            "TradDt,FinInstrmTp,TckrSymb,XpryDt,OpnPric,HghPric,LwPric,ClsPric,TtlTradgVol\n"
            "2024-06-03,STK,INFY,,1,2,1,2,7\n",
            {},
            " holds no bars: fininstrmtp is IDF in none of its 1 rows",
        ),
        (PLAIN, {}, " has a header and no rows"),
        # What a time means.
        (
            AMIBROKER.replace("09:16", "11:16"),
            {},
            ", line 1: whether a time is a bar's start or its end cannot be told (of 1 sessions 0 "
            "look like starts and 0 like ends); say it: --label start, end or last",
        ),
        (
            PLAIN + f"03/06/2024 09:15,{BAR}\n",
            {},
            ", line 2: 03/06/2024 09:15 can be read in two ways, and no date of the file tells "
            "which; say it: --dates dmy (day first) or --dates mdy (month first)",
        ),
        (
            MT5 + "2024.06.03\t11:15\t1\t2\t1\t2\t7\t7\n",
            {},
            ", line 2: 2024-06-03 11:15 has no time zone; say which one it is in, as in "
            "--tz Asia/Kolkata or --tz UTC",
        ),
        (
            PLAIN + f"2024-06-03T09:15+05:30,{BAR}\n2024-06-03T09:30,{BAR}\n",
            {},
            ", line 3: the time has no time zone; say which one it is in, unlike those above",
        ),
        (PLAIN + f"45446.385,{BAR}\n", {}, ", line 2: '45446.385' is a spreadsheet's number"),
        (PLAIN + f"2024-02-30 09:15,{BAR}\n", {}, ", line 2: '2024-02-30 09:15' is no date"),
        (PLAIN + f"2024-06-03 24:15,{BAR}\n", {}, ", line 2: '2024-06-03 24:15' is no time of"),
        (PLAIN + f"1328845500,{BAR}\n,,,,\n1328845500,{BAR}\n", {}, ", line 4: 2012-02-10 03:45"),
        (
            PLAIN + "".join(f"2024-06-03T{at}Z,{BAR}\n" for at in ("04:15", "04:45", "04:30")),
            {},
            ", line 4: 2024-06-03 04:30:00 UTC is before the line above it; sort the file by time",
        ),
        # Which column is what.
        (
            "ts,open,high,low,close,Volume BTC\n",
            {},
            ", line 1: the column 'volume btc' may be the volume, and no column is called volume; "
            "say which it is: --volume 'volume btc', or --volume none",
        ),
        (PLAIN, {"volume": "lots"}, ", line 1: no column is called 'lots'; there are ts, open"),
        (
            "when,open,high,low\n",
            {},
            ", line 1: the header 'when,open,high,low' lacks a time column, close; wanted",
        ),
        ("IndexName,Date,Total Returns Index\n", {}, ", line 1: this is a total returns index"),
        ("20240603,09:15:03,21748.35,0,0\n", {}, ", line 1: this is TrueData's ticks: only bars"),
        # What JSON is not.
        ('{"data": {"candles": []}}', {}, ": JSON that holds no bars that are known"),
        ('{"a": 1, "b": 2}', {}, ": JSON that holds no bars that are known (a, b)"),
        ("[[1,2,3,4,5],[1,2,3", {}, ": not whole JSON ("),
        ("[[1,2,3,4,5],[1,2,3]]", {}, ", row 2: 3 values where others have 5"),
        (DHAN, {}, ": its arrays are not equally long (timestamp 2, open 2, high 2, low 2, close"),
        (
            '{"code":"0","data":[["1717632000000","1","1","1","1","1","1","1","1"]]}',
            {"market": "btc"},
            ", row 0: the column 'volume' may be the volume",
        ),
    ],
)
def test_what_is_not_clear_is_refused_by_line_and_cause(
    content: str, asked: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path / "bars.csv", content, **asked).startswith(words)


def test_an_archive_that_is_not_what_its_sum_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h-2024-06.csv"
    path.with_name(path.name + ".CHECKSUM").write_text(f"{'0' * 64}  {path.name}\n")
    words = refusal(path, "1717372800000,1,2,1,2,7,1717376399999,1,1,1,1,0\n", "1h", market="btc")
    assert words.startswith(": it is not the file that BTCUSDT-1h-2024-06.csv.CHECKSUM tells of")


def test_another_market_in_the_files_name_is_refused(tmp_path: Path) -> None:
    content = PLAIN.replace("ts", "time") + f"2024-06-03T09:15:00+05:30,{BAR}\n"
    words = refusal(tmp_path / "NSE_BANKNIFTY, 15.csv", content)
    assert words == (
        ": it is of BANKNIFTY, and not of nifty; if that is meant, pass --symbol 'BANKNIFTY'"
    )
