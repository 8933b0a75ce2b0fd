"""Reading a file of bars: what is taken, and by which words a bad row is refused."""

import datetime as dt
import gzip
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from markets.domain.bar_rule import Span, missing
from markets.domain.calendar import CryptoCalendar, NseCalendar, ist_instant, nse_sessions
from markets.imports.bars import BadFile, read_bars
from tradingsite import clock
from tradingsite.clock import Epoch

NSE = NseCalendar(nse_sessions())
CRYPTO = CryptoCalendar()
KOLKATA = ZoneInfo("Asia/Kolkata")

# Line 3 is the one that the tests break.
GOOD = (
    "ts,open,high,low,close,volume",
    "2024-06-03T09:15:00+05:30,100,110,90,105,7",
    "2024-06-03T09:30:00+05:30,105,115,95,110,8",
    "2024-06-03T09:45:00+05:30,110,120,100,115,9",
)

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes lines to a file."""

    def to_file(*lines: str, name: str = "bars.csv") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return to_file


def at(text: str) -> int:
    """Return an ISO time as epoch seconds."""
    return clock.epoch(dt.datetime.fromisoformat(text))


def test_a_file_is_read_whole(write: Write) -> None:
    bars = read_bars(write(*GOOD), "nifty", "15m", NSE)
    assert bars.opens_at[0] == at("2024-06-03T09:15:00+05:30")
    assert list(bars.closes_at - bars.opens_at) == [900] * 3
    assert list(bars.open) == [100, 105, 110]
    assert list(bars.high) == [110, 115, 120]
    assert list(bars.low) == [90, 95, 100]
    assert list(bars.close) == [105, 110, 115]
    assert list(bars.volume) == [7, 8, 9]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2024-06-03T09:00:00+05:30,105,115,95,110,8", "is before the line above it"),
        ("2024-06-03T09:15:00+05:30,105,115,95,110,8", "is there twice"),
        ("2024-06-03T09:30:00+05:30,105,94,95,110,8", "high 94 is below low 95"),
        ("2024-06-03T09:30:00+05:30,120,115,95,110,8", "open 120 or close 110 is outside low 95"),
        ("2024-06-03T09:30:00+05:30,105,115,95,94,8", "close 94 is outside low 95 to high 115"),
        ("2024-06-03T09:30:00,105,115,95,110,8", "has no time zone; say which one it is in"),
        ("2024-06-03T09:30:00+05:30,nan,115,95,110,8", "open is nan, not a number"),
        ("2024-06-03T09:30:00+05:30,105,inf,95,110,8", "high is inf, not a number"),
        ("2024-06-03T09:30:00+05:30,105,115,,110,8", "low '' is not a number"),
        ("2024-06-03T09:30:00+05:30,105,115,95,1O5,8", "close '1O5' is not a number"),
        ("2024-06-03T09:30:00+05:30,105,115,-95,110,8", "low -95 is not positive"),
        ("2024-06-03T09:30:00+05:30,0,115,95,110,8", "open 0 is not positive"),
        ("2024-06-03T09:30:00+05:30,105,115,95,110,-8", "volume -8 is negative"),
        ("2024-06-03T09:30:00+05:30,105,1e12,95,110,8", "high 1e+12 is too large to be one"),
        ("2024-06-03T09:30:00+05:30,105,115,95", "4 columns where the header has 6"),
        ("2024-06-03T09:30:00+05:30,1,105,115,95,110,8", "7 columns where the header has 6"),
        ("June the 3rd,105,115,95,110,8", "'June the 3rd' is not a time like 2024-06-03"),
        ("1962-06-03T09:30:00+05:30,105,115,95,110,8", "is not between 1990 and 2100"),
        ("2024-06-03T09:20:00+05:30,105,115,95,110,8", "no 15m bar opens at 03 Jun 2024 09:20 IST"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_reason(write: Write, row: str, reason: str) -> None:
    path = write(GOOD[0], GOOD[1], row, GOOD[3])
    with pytest.raises(BadFile) as refused:
        read_bars(path, "nifty", "15m", NSE)
    assert str(refused.value).startswith(f"{path}, line 3: ")
    assert reason in str(refused.value)


def test_the_line_is_the_files_even_after_empty_ones(write: Write) -> None:
    path = write(GOOD[0], "", GOOD[1], "", GOOD[2].replace("115", "1"))
    with pytest.raises(BadFile, match=r"line 5: high 1 is below low 95"):
        read_bars(path, "nifty", "15m", NSE)


def test_a_naive_time_is_read_in_the_zone_that_was_named(write: Write) -> None:
    path = write(*(line.replace("+05:30", "") for line in GOOD))
    kolkata = read_bars(path, "nifty", "15m", NSE, KOLKATA)
    utc = read_bars(path, "nifty", "15m", NSE, ZoneInfo("UTC"))
    assert kolkata.opens_at[0] == at("2024-06-03T09:15:00+05:30")
    assert list(utc.opens_at - kolkata.opens_at) == [19_800] * 3


def test_a_named_zone_does_not_touch_times_that_have_one(write: Write) -> None:
    bars = read_bars(write(*GOOD), "nifty", "15m", NSE, ZoneInfo("UTC"))
    assert bars.opens_at[0] == at("2024-06-03T09:15:00+05:30")


def test_kites_own_file_is_read(write: Write) -> None:
    path = write(
        "date,open,high,low,close,volume,oi",
        "2024-06-03T09:15:00+0530,100,110,90,105,0,0",
        "2024-06-03 10:15:00+05:30,105,115,95,110,0,0",
    )
    bars = read_bars(path, "nifty", "1h", NSE)
    assert list(np.diff(bars.opens_at)) == [3600]
    assert bars.opens_at[0] == at("2024-06-03T09:15:00+05:30")


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_binances_own_file_is_read_in_whatever_unit_it_counts(write: Write, unit: int) -> None:
    # Binance changed from milli- to microseconds in January 2025.
    first = at("2025-01-01T00:00:00+00:00")
    header = "Open_time,Open,High,Low,Close,Volume,Close_time,Quote_volume,Count,Taker,Quote,Ignore"
    rows = [
        f"{(first + 3_600 * bar) * unit},100,110,90,105,1.5,{(first + 3_600) * unit - 1},9,9,9,9,0"
        for bar in range(4)
    ]
    bars = read_bars(write(header, *rows), "btc", "1h", CRYPTO)
    assert list(bars.opens_at) == [first + 3_600 * bar for bar in range(4)]
    assert list(bars.volume) == [1.5] * 4


def test_a_daily_bar_is_named_by_its_session(write: Write) -> None:
    # A Saturday of short special sessions, 18 May 2024, is in the calendar; a Sunday is not.
    path = write(
        "date,open,high,low,close",
        "2024-05-16,100,110,90,105",
        "2024-05-17,100,110,90,105",
        "2024-05-18,100,110,90,105",
        "2024-05-19,100,110,90,105",
    )
    with pytest.raises(BadFile, match="line 5: Sun 19 May 2024 has no session"):
        read_bars(path, "nifty", "1d", NSE)
    bars = read_bars(path, "nifty", "1d", NSE, leaves_out=True)
    friday, saturday = NSE.session_on(dt.date(2024, 5, 17)), NSE.session_on(dt.date(2024, 5, 18))
    assert friday and saturday
    assert list(bars.opens_at[1:3]) == [friday.opens_at, saturday.opens_at]
    assert list(bars.closes_at[1:3]) == [friday.closes_at, saturday.closes_at]
    assert list(bars.volume) == [0] * 3


def test_one_daily_session_given_twice_is_refused(write: Write) -> None:
    path = write(
        "ts,open,high,low,close",
        "2024-06-03,100,110,90,105",
        "2024-06-03T09:15:00+05:30,100,110,90,105",
    )
    with pytest.raises(BadFile, match="line 3: opens_at does not come after"):
        read_bars(path, "nifty", "1d", NSE)


def test_a_bar_ends_with_its_session(write: Write) -> None:
    path = write("ts,open,high,low,close", "2024-06-03T15:15:00+05:30,100,110,90,105")
    bars = read_bars(path, "nifty", "1h", NSE)
    assert list(bars.closes_at) == [at("2024-06-03T15:30:00+05:30")]


def test_a_packed_file_is_known_by_its_bytes(write: Write, tmp_path: Path) -> None:
    packed = tmp_path / "bars.csv"
    packed.write_bytes(gzip.compress(write(*GOOD, name="plain.csv").read_bytes()))
    assert len(read_bars(packed, "nifty", "15m", NSE)) == 3


def test_a_damaged_packed_file_is_refused(write: Write, tmp_path: Path) -> None:
    start = at("2024-01-01T00:00:00+00:00")
    random = np.random.default_rng(1)
    rows = [
        f"{start + 3_600 * bar},{low + 2},{low + 3},{low},{low + 1}"
        for bar, low in enumerate(random.uniform(100, 200, 2_000))
    ]
    body = gzip.compress(write("ts,open,high,low,close", *rows).read_bytes())
    flipped = bytearray(body)
    flipped[len(body) // 2] ^= 0xFF
    for name, damaged in (("cut", body[: len(body) // 2]), ("flipped", bytes(flipped))):
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(damaged)
        with pytest.raises(BadFile) as refused:
            read_bars(path, "btc", "1h", CRYPTO)
        assert str(path) in str(refused.value), name
    with pytest.raises(BadFile, match="the gzip file is cut off or damaged"):
        read_bars(tmp_path / "cut.csv.gz", "btc", "1h", CRYPTO)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes("ts,open,high,low,close\n2024-06-03,1,1,1,1 \xa3".encode("latin-1"))
    with pytest.raises(BadFile, match="not UTF-8 text at byte"):
        read_bars(path, "nifty", "1d", NSE)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "is empty"),
        (("ts,open,high,low,close",), "has a header and no rows"),
        (("ts,open,high,close", "1"), "line 1: .* lacks low; wanted ts,open,high,low,close"),
        (("when,open,low,close", "1"), "line 1: .* lacks a time column, high; wanted"),
        (("2024-06-03,1,1,1,1",), "line 1: .* lacks a time column, open, high, low, close"),
    ],
)
def test_a_file_without_bars_or_columns_is_refused(
    write: Write, lines: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(BadFile, match=reason):
        read_bars(write(*lines), "nifty", "15m", NSE)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        read_bars(tmp_path / "bars.csv", "nifty", "15m", NSE)
    with pytest.raises(BadFile, match="Is a directory"):
        read_bars(tmp_path, "nifty", "15m", NSE)


def test_bars_of_another_timeframe_are_refused(write: Write) -> None:
    with pytest.raises(BadFile, match="usually 15 minutes apart, so they are not 1h bars"):
        read_bars(write(*GOOD), "nifty", "1h", NSE)


def test_progress_is_told_in_bytes(write: Write) -> None:
    rows = [f"{1_699_999_200 + 3_600 * bar},100,110,90,105" for bar in range(4_100)]
    path = write("ts,open,high,low,close", *rows)
    told: list[int] = []
    read_bars(path, "btc", "1h", CRYPTO, report=told.append)
    assert len(told) == 2
    assert 0 < told[0] <= told[1] <= path.stat().st_size


def test_gaps_are_counted_against_the_calendar(write: Write) -> None:
    # Friday 31 May to Monday 3 June 2024: the week-end between them is no gap.
    opens = [
        ist_instant(date, dt.time(9, 15)) + 3_600 * bar
        for date in (dt.date(2024, 5, 31), dt.date(2024, 6, 3))
        for bar in range(7)
    ]
    absent = {opens[2], opens[5], opens[6], opens[7]}
    rows = [f"{each},100,110,90,105" for each in opens if each not in absent]
    bars = read_bars(write("ts,open,high,low,close", *rows), "nifty", "1h", NSE)
    assert missing(bars.opens_at, "1h", NSE) == [
        Span(Epoch(opens[2]), Epoch(opens[2]), 1),
        Span(Epoch(opens[5]), Epoch(opens[7]), 3),
    ]


def test_whole_bars_have_no_gaps(write: Write) -> None:
    assert missing(read_bars(write(*GOOD), "nifty", "15m", NSE).opens_at, "15m", NSE) == []
