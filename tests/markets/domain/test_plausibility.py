"""What can hardly be true of bars is named, with its likely cause; what is true is not doubted."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from markets import store
from markets.domain.bars import Bars
from markets.domain.calendar import NseCalendar, ist_instant, nse_sessions
from markets.domain.plausibility import Doubt, adjusted, doubts
from markets.imports import batches as import_batches
from markets.models import BarImport
from tests import histories
from tests.markets.domain.test_bar_rule import bars_at, grid

NSE = NseCalendar(nse_sessions())
NONE: dict[str, Bars] = {}


def walk(timeframe: str, first: str, last: str, seed: int = 1) -> Bars:
    """Return a random walk of NIFTY's bars on the calendar's grid."""
    bars = bars_at(grid(NSE, timeframe, first, last), timeframe, NSE)
    moves = np.random.default_rng(seed).normal(0.0, 0.001, len(bars))
    close = 22_000.0 * np.exp(np.cumsum(moves))
    opened = np.concatenate((close[:1], close[:-1]))
    high, low = np.maximum(opened, close) + 2.0, np.minimum(opened, close) - 2.0
    return Bars(bars.opens_at, bars.closes_at, opened, high, low, close, bars.volume)


def daily(bars: Bars) -> Bars:
    """Return the days of quarters of an hour."""
    days = bars_at(grid(NSE, "1d", "2024-01-01", "2024-03-31"), "1d", NSE)
    close = bars.close[np.searchsorted(bars.closes_at, days.closes_at)]
    return replace(days, open=close - 1.0, high=close + 5.0, low=close - 5.0, close=close)


QUARTERS = walk("15m", "2024-01-01", "2024-03-31")
DAYS = daily(QUARTERS)


def scaled(bars: Bars, rows: slice, by: float) -> Bars:
    """Return bars of which some are of another scale."""
    columns = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    for column in columns.values():
        column[rows] *= by
    return replace(bars, **columns)


def found(bars: Bars, timeframe: str = "15m", others: dict[str, Bars] = NONE) -> list[Doubt]:
    """Return the doubts of bars beside nothing stored."""
    return doubts("nifty", timeframe, bars, Bars.empty(), others, NSE)


def test_what_agrees_is_not_doubted() -> None:
    assert found(QUARTERS, others={"1d": DAYS}) == []
    assert found(DAYS, "1d", {"15m": QUARTERS}) == []


@pytest.mark.parametrize(
    ("change", "count", "words"),
    [
        (lambda: scaled(QUARTERS, slice(500, 501), 100.0), 1, "this bar alone is of another scale"),
        (lambda: scaled(QUARTERS, slice(500, None), 0.01), 1, "x100: another scale, as rupees"),
        (lambda: scaled(QUARTERS, slice(500, None), 0.5), 1, "a 1:2 split or a bonus"),
        (lambda: scaled(QUARTERS, slice(500, None), 0.1), 1, "a 1:10 split that was not adjusted"),
        (lambda: scaled(QUARTERS, slice(500, None), 1.4), 1, "a move of +40% that this market has"),
    ],
)
def test_a_leap_is_named_once_with_its_cause(
    change: Callable[[], Bars], count: int, words: str
) -> None:
    told = found(change())
    assert len(told) == count and words in str(told[0])
    assert told[0].opens_at == QUARTERS.opens_at[500]


def test_a_low_of_another_scale_is_named() -> None:
    low = QUARTERS.low.copy()
    low[300] /= 100.0
    [told] = found(replace(QUARTERS, low=low))
    assert told.opens_at == QUARTERS.opens_at[300] and "times apart" in told.why


def test_a_leap_from_what_is_stored_is_named_too() -> None:
    stored, later = QUARTERS.slice(0, 700), scaled(QUARTERS, slice(None), 0.01).slice(700)
    [told] = doubts("nifty", "15m", later, stored, NONE, NSE)
    assert told.opens_at == later.opens_at[0] and "x100" in told.why
    before = scaled(QUARTERS, slice(None), 0.01).slice(0, 700)
    [told] = doubts("nifty", "15m", before, QUARTERS.slice(700), NONE, NSE)
    assert told.opens_at == before.opens_at[-1]


def test_days_that_lie_one_day_off_are_told_by_the_quarters() -> None:
    # A market that moves by 2 % a day, so that a neighbour is not as good.
    moving = scaled(QUARTERS, slice(None), 1.0)
    factor = np.exp(0.03 * np.sin(np.arange(len(DAYS)) * 2.5))
    by_day = factor[np.searchsorted(DAYS.closes_at, QUARTERS.closes_at)]
    moving = replace(moving, close=QUARTERS.close * by_day)
    true = DAYS.close * factor
    shifted = replace(
        DAYS,
        close=np.append(true[1:], true[-1]),
        open=np.append(true[1:], true[-1]),
        high=np.append(true[1:], true[-1]) + 5.0,
        low=np.append(true[1:], true[-1]) - 5.0,
    )
    [told] = found(shifted, "1d", {"15m": moving})
    assert "closes are not those of the 15m bars: they look one bar early" in told.why


def test_another_scale_of_a_whole_file_is_told_by_the_other_timeframe() -> None:
    told = found(scaled(DAYS, slice(None), 0.5), "1d", {"15m": QUARTERS})
    assert any("all are 0.5 times theirs" in each.why for each in told)


def test_one_close_that_differs_is_named_by_its_bar() -> None:
    close = DAYS.close.copy()
    close[10] *= 1.05
    day = replace(DAYS, close=close, high=np.maximum(DAYS.high, close))
    [told] = found(day, "1d", {"15m": QUARTERS})
    assert told.opens_at == DAYS.opens_at[10] and "the 15m bar of that instant at" in told.why


def test_a_day_that_was_made_up_is_named() -> None:
    days = np.flatnonzero(QUARTERS.closes_at <= DAYS.closes_at[20])
    last = int(days[-1])
    flat = {name: getattr(QUARTERS, name).copy() for name in ("open", "high", "low", "close")}
    for column in flat.values():
        column[last - 24 : last + 1] = QUARTERS.close[last - 25]
    told = found(replace(QUARTERS, **flat))
    assert [each.opens_at for each in told] == [int(QUARTERS.opens_at[last - 24])]
    assert "nothing moved in the whole session" in told[0].why


def test_prices_before_a_split_are_adjusted() -> None:
    at = ist_instant(dt.date(2024, 2, 15), dt.time())
    before = QUARTERS.closes_at <= at
    split = replace(
        scaled(QUARTERS, slice(0, int(before.sum())), 10.0), volume=before.astype(np.float64)
    )
    done = adjusted(split, "15m", {at: 10.0})
    assert np.allclose(done.close, QUARTERS.close) and found(done) == []
    assert list(np.unique(done.volume[before])) == [10.0]


@pytest.mark.django_db(databases=["btc", "default"])
def test_doubtful_bars_are_refused_until_there_is_a_reason(tmp_path: Path) -> None:
    bars = histories.four_hours(60)
    path = tmp_path / "bars.csv"

    def write(by: float) -> None:
        rows = [
            f"{at},{o:.2f},{h:.2f},{low:.2f},{c:.2f}"
            for at, o, h, low, c in zip(
                bars.opens_at, *(scaled(bars, slice(30, 31), by).__getattribute__(name)
                for name in ("open", "high", "low", "close")), strict=True
            )
        ]  # fmt: skip
        path.write_text("\n".join(["ts,open,high,low,close", *rows]) + "\n")

    write(100.0)
    with pytest.raises(CommandError, match=r"4h bar of .*: it opens at .*another scale"):
        call_command("importbars", "btc", "4h", str(path))
    assert not len(store.load_bars("btc", "4h"))
    call_command("importbars", "btc", "4h", str(path), "--anyway", "the exchange printed it")
    assert BarImport.on("btc").objects.get().reason == "the exchange printed it"
    assert len(store.load_bars("btc", "4h")) == 60
    import_batches.undo_import("btc")


@pytest.mark.django_db(databases=["allocator", "nifty", "btc", "default"])
def test_a_split_in_an_assets_closes_is_refused_and_adjusted(tmp_path: Path) -> None:
    path = tmp_path / "goldbees.csv"
    days = [dt.date(2024, 4, day) for day in (12, 15, 16, 17)]
    rows = [
        f"{day},{price},{price},{price},{price}"
        for day, price in zip(days, (6_100, 61.5, 61.0, 61.2), strict=True)
    ]
    path.write_text("\n".join(["date,open,high,low,close", *rows]) + "\n")
    with pytest.raises(CommandError, match=r"15 Apr 2024 .*x100.*--adjust 2024-04-15=RATIO"):
        call_command("allocator", "import", "goldbees", str(path))
    call_command("allocator", "import", "goldbees", str(path), "--adjust", "2024-04-15=100")
