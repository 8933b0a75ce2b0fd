"""Shorter bars made into a market's own: held to a naive reference, from each session's open."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.domain import timeframes
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_sessions
from markets.domain.resampling import LEAST_SHARE, is_on_grid, resample

NSE, CRYPTO = NseCalendar(nse_sessions()), CryptoCalendar()
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))
# An ordinary day; one with an hour in the evening; one with a pause; one with hours without index.
DAYS = (
    dt.date(2024, 6, 3),
    dt.date(2024, 11, 1),
    dt.date(2021, 2, 24),
    dt.date(2026, 8, 4),
)
MAKES = [("1m", "15m"), ("5m", "15m"), ("5m", "1h"), ("3m", "1d"), ("15m", "1h"), ("1h", "1d")]


def grid_of(calendar: Calendar, day: dt.date, seconds: int) -> list[int]:
    """Return the opens of all parts of a day's session, those of a pause left out."""
    session = calendar.session_on(day)
    assert session is not None
    pause = calendar.pause_on(day)
    without = calendar.silences_on(day) + ([pause] if pause else [])
    return [
        at
        for at in range(session.opens_at, session.closes_at, seconds)
        if not any(first <= at and at + seconds <= end for first, end in without)
    ]


def bars_at(opens: list[int], seconds: int, seed: int = 0) -> Bars:
    """Return bars of any prices that open at the given times."""
    random = np.random.default_rng(seed)
    at = np.array(opens, dtype=np.int64)
    edges = np.sort(random.uniform(100.0, 200.0, (4, len(at))), axis=0)
    swapped = random.random(len(at)) < 0.5
    opened = np.where(swapped, edges[1], edges[2])
    closed = np.where(swapped, edges[2], edges[1])
    volume = random.integers(0, 1_000, len(at)).astype(float)
    return Bars(at, at + seconds, opened, edges[3], edges[0], closed, volume)


def reference(
    parts: Bars, seconds: int, timeframe: str, calendar: Calendar
) -> tuple[list[Any], list[Any]]:
    """Return bars as rows and the opens of those that were not made, by plain loops."""
    length, made, left_out = timeframes.seconds(timeframe), [], []
    for day in sorted({dt.datetime.fromtimestamp(at, INDIA).date() for at in parts.opens_at}):
        session = calendar.session_on(day)
        assert session is not None
        grid = grid_of(calendar, day, seconds)
        for opened in calendar.bar_opens(timeframe, day):
            end = session.closes_at if timeframe == "1d" else opened + length
            wanted = sum(opened <= at < end for at in grid)
            rows = [row for row, at in enumerate(parts.opens_at) if opened <= at < end]
            if not rows:
                continue
            if len(rows) < LEAST_SHARE * wanted:
                left_out.append(opened)
                continue
            row = [opened, parts.open[rows[0]], max(parts.high[rows]), min(parts.low[rows])]
            made.append([*row, parts.close[rows[-1]], sum(parts.volume[rows])])
    return made, left_out


@given(
    makes=st.sampled_from(MAKES),
    days=st.sets(st.sampled_from(DAYS), min_size=1),
    lacks=st.floats(0.0, 0.3),
    seed=st.integers(0, 2**32 - 1),
)
def test_bars_are_what_plain_loops_make_of_the_parts(
    makes: tuple[str, str], days: set[dt.date], lacks: float, seed: int
) -> None:
    part, timeframe = makes
    seconds = timeframes.seconds(part)
    opens = [at for day in sorted(days) for at in grid_of(NSE, day, seconds)]
    there = np.random.default_rng(seed).random(len(opens)) >= lacks
    opens = [at for at, kept in zip(opens, there, strict=True) if kept]
    parts = bars_at(opens, seconds, seed)
    result = resample(parts, seconds, timeframe, NSE)
    made, left_out = reference(parts, seconds, timeframe, NSE)
    bars = result.bars
    columns = (bars.opens_at, bars.open, bars.high, bars.low, bars.close, bars.volume)
    assert [list(row) for row in zip(*columns, strict=True)] == made
    assert result.left_out.tolist() == left_out
    assert bars.closes_at.tolist() == NSE.closes_at(timeframe, bars.opens_at).tolist()
    if len(bars):
        bars.validate()


def clocks(opens: list[int]) -> list[str]:
    """Return instants as Indian clocks show them."""
    return [f"{dt.datetime.fromtimestamp(at, INDIA):%H:%M}" for at in opens]


def test_hours_of_a_session_begin_with_it_and_not_on_the_clock() -> None:
    opens = grid_of(NSE, DAYS[0], 60)
    hours = resample(bars_at(opens, 60), 60, "1h", NSE).bars
    wanted = ["09:15", "10:15", "11:15", "12:15", "13:15", "14:15", "15:15"]
    assert clocks(hours.opens_at.tolist()) == wanted
    assert clocks(hours.closes_at.tolist()[-1:]) == ["15:30"]


def test_hours_of_bitcoin_begin_at_midnight_in_utc() -> None:
    start = int(dt.datetime(2024, 6, 3, tzinfo=dt.UTC).timestamp())
    opens = list(range(start, start + 2 * 86_400, 3_600))
    bars = resample(bars_at(opens, 3_600), 3_600, "4h", CRYPTO).bars
    assert bars.opens_at.tolist() == list(range(start, start + 2 * 86_400, 14_400))


@pytest.mark.parametrize(
    ("lacking", "made", "incomplete", "left_out"),
    [([], 2, 0, []), ([16], 2, 1, []), ([16, 17], 1, 0, ["09:30"]), (range(15, 30), 1, 0, [])],
    ids=["whole", "one of fifteen lacks", "two of fifteen lack", "none is there"],
)
def test_a_bar_of_too_few_parts_is_left_out_and_told(
    lacking: list[int], made: int, incomplete: int, left_out: list[str]
) -> None:
    opens = grid_of(NSE, DAYS[0], 60)[:30]
    parts = bars_at([at for row, at in enumerate(opens) if row not in lacking], 60)
    result = resample(parts, 60, "15m", NSE)
    assert (len(result.bars), result.incomplete) == (made, incomplete)
    assert clocks(result.left_out.tolist()) == left_out


def test_parts_of_where_the_index_has_no_price_stand_in_for_no_others() -> None:
    session = NSE.session_on(DAYS[3])
    assert session is not None
    opens = list(range(session.opens_at, session.closes_at, 60))
    whole = resample(bars_at(opens, 60), 60, "15m", NSE)
    assert clocks(whole.bars.opens_at.tolist()[-1:]) == ["15:15"]
    assert not len(whole.left_out) and not whole.incomplete
    # 363 minutes have a price of the index: without 45 of them less than nine tenths are there.
    day = resample(bars_at(opens[45:], 60), 60, "1d", NSE)
    assert not len(day.bars) and clocks(day.left_out.tolist()) == ["09:15"]


def test_nothing_gives_nothing() -> None:
    result = resample(Bars.empty(), 60, "15m", NSE)
    assert not len(result.bars) and not len(result.left_out) and not result.incomplete


def test_parts_that_make_no_whole_bar_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of 10 minutes makes a 15m bar"):
        resample(bars_at(grid_of(NSE, DAYS[0], 600), 600), 600, "15m", NSE)


@pytest.mark.parametrize("calendar", [NSE, CRYPTO], ids=["nse", "crypto"])
def test_a_part_is_lawful_where_it_lies_on_the_grid_from_the_open(calendar: Calendar) -> None:
    opens = grid_of(calendar, DAYS[0], 300)
    at = np.array(opens, dtype=np.int64)
    assert is_on_grid(at, 300, calendar).all()
    assert not is_on_grid(at + 60, 300, calendar).any()
    before, after = at[:1] - 300, at[-1:] + 300
    outside = is_on_grid(np.append(before, after), 300, calendar)
    assert outside.tolist() == [calendar is CRYPTO] * 2
