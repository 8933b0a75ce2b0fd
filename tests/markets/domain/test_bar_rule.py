"""The rule of bars: what the calendar gives is taken, all else is refused with its likely cause."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets import store
from markets.domain import bar_rule
from markets.domain.bar_rule import OffCalendarBars, Span
from markets.domain.bars import BadBars, Bars, IntArray
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, ist_instant, nse_sessions
from markets.imports import batches as import_batches
from markets.models import Bar, Source
from tests import histories
from tradingsite.clock import Epoch

NSE = NseCalendar(nse_sessions())
CRYPTO = CryptoCalendar()
HOURS = 3_600


def grid(calendar: Calendar, timeframe: str, first: str, last: str) -> IntArray:
    """Return the opens that the calendar gives from one date to another."""
    days = calendar.sessions(dt.date.fromisoformat(first), dt.date.fromisoformat(last))
    return np.array(
        [at for day in days for at in calendar.bar_opens(timeframe, day.date)], dtype=np.int64
    )


def bars_at(opens: IntArray, timeframe: str, calendar: Calendar) -> Bars:
    """Return bars of one price that open at some instants."""
    price = np.full(len(opens), 100.0)
    closes = calendar.closes_at(timeframe, opens)
    return Bars(opens, closes, price, price, price, price, np.zeros(len(opens)))


@pytest.mark.parametrize(
    ("timeframe", "first", "last"),
    [
        ("15m", "2007-09-17", "2007-10-31"),  # sessions from 09:55
        ("1h", "2010-09-01", "2010-11-30"),  # from 09:00, then 09:15, with Muhurat
        ("15m", "2021-02-22", "2021-02-26"),  # the outage and its late session
        ("15m", "2024-02-26", "2024-03-08"),  # a Saturday in two parts
        ("1d", "2025-01-20", "2025-02-05"),  # the Saturday of a budget
    ],
)
def test_every_session_there_was_is_lawful(timeframe: str, first: str, last: str) -> None:
    opens = grid(NSE, timeframe, first, last)
    bar_rule.require(bars_at(opens, timeframe, NSE), timeframe, NSE)
    assert bar_rule.missing(opens, timeframe, NSE) == []


@pytest.mark.parametrize(
    ("timeframe", "shift", "words"),
    [
        ("1h", -15 * 60, "begin on the clock's hour"),
        ("1h", 19_800, "Indian ones read as UTC: pass --tz Asia/Kolkata"),
        ("15m", -19_800, "UTC ones read as Indian: pass --tz UTC"),
        ("1h", HOURS, "look like the ends of 1h bars"),
        ("1d", -86_400, "look one day early"),
        ("1d", 86_400, "look one day late"),
    ],
)
def test_a_shifted_table_is_refused_with_its_likely_cause(
    timeframe: str, shift: int, words: str
) -> None:
    opens = grid(NSE, timeframe, "2024-01-01", "2024-06-30") + shift
    with pytest.raises(OffCalendarBars, match=words):
        bar_rule.require(bars_at(opens, timeframe, NSE), timeframe, NSE)


def test_four_hours_of_indian_midnights_are_not_the_markets() -> None:
    opens = grid(CRYPTO, "4h", "2024-01-01", "2024-02-01") - 19_800
    with pytest.raises(OffCalendarBars, match="begin at Indian midnights: pass --tz UTC") as caught:
        bar_rule.require(bars_at(opens, "4h", CRYPTO), "4h", CRYPTO)
    assert len(caught.value.rows) == len(opens) and not caught.value.are_few


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (ist_instant(dt.date(2024, 6, 3), dt.time(15, 30)), "no 15m bar opens at 03 Jun 2024 15:3"),
        (ist_instant(dt.date(2024, 6, 3), dt.time(9)), "that session is from 09:15 to 15:30"),
        (ist_instant(dt.date(2024, 6, 9), dt.time(9, 15)), "Sun 09 Jun 2024 has no session"),
        (ist_instant(dt.date(2024, 6, 17), dt.time(9, 15)), "Mon 17 Jun 2024 has no session"),
        (ist_instant(dt.date(2006, 6, 5), dt.time(9, 15)), "knows nothing of 05 Jun 2006"),
    ],
)
def test_one_bar_too_many_is_named(at: int, words: str) -> None:
    right = grid(NSE, "15m", "2024-06-03", "2024-06-14")
    opens = np.sort(np.append(right, at))
    with pytest.raises(OffCalendarBars, match=words) as caught:
        bar_rule.require(bars_at(opens, "15m", NSE), "15m", NSE)
    assert caught.value.row == int(np.searchsorted(opens, at)) and caught.value.are_few


def test_a_close_that_is_not_the_calendars_is_refused() -> None:
    bars = bars_at(grid(NSE, "1h", "2024-06-03", "2024-06-03"), "1h", NSE)
    late = replace(bars, closes_at=bars.opens_at + HOURS)  # 15:15 to 16:15
    with pytest.raises(
        OffCalendarBars, match=r"bar of 03 Jun 2024 15:15 IST does not close at .*16"
    ):
        bar_rule.require(late, "1h", NSE)


def test_what_is_missing_is_counted_to_the_last_bar_there_is() -> None:
    opens = grid(NSE, "1h", "2024-06-03", "2024-06-05")
    assert bar_rule.missing(np.delete(opens, [3, 4, 19]), "1h", NSE) == [
        Span(Epoch(opens[3]), Epoch(opens[4]), 2),
        Span(Epoch(opens[19]), Epoch(opens[19]), 1),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, -900, 900, 3_600, 19_800, -19_800, 86_400]),
            st.integers(0, 60),
            st.integers(1, 40),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_mixture_keeps_the_rule_or_is_refused_whole(
    parts: list[tuple[int, int, int]],
) -> None:
    right = grid(NSE, "1h", "2024-06-03", "2024-06-21")
    pieces = [right[first : first + count] + shift for shift, first, count in parts]
    opens = np.sort(np.concatenate(pieces))
    bars = bars_at(opens, "1h", NSE)
    try:
        bar_rule.require(bars, "1h", NSE)
    except BadBars:
        assert len(np.unique(opens)) < len(opens) or not np.isin(opens, right).all()
    else:
        assert np.isin(opens, right).all()
        assert (bars.closes_at[:-1] <= bars.opens_at[1:]).all()
        lacks = sum(span.bars for span in bar_rule.missing(opens, "1h", NSE))
        assert lacks + len(opens) == np.searchsorted(right, opens[-1]) + 1 - np.searchsorted(
            right, opens[0]
        )


@pytest.mark.django_db(databases=["btc", "default"])
def test_no_door_stores_bars_off_the_calendar() -> None:
    off = histories.four_hours(50, first=histories.FIRST - 19_800)
    with pytest.raises(BadBars, match="begin at Indian midnights"):
        store.save_bars("btc", "4h", off, Source.IMPORTED)
    with pytest.raises(BadBars, match="begin at Indian midnights"):
        import_batches.import_bars("btc", {"4h": off})
    assert not Bar.on("btc").objects.exists()


@pytest.mark.django_db(databases=["btc", "default"])
def test_an_import_beside_stored_bars_that_break_the_rule_is_refused() -> None:
    bars = histories.four_hours(50)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    # As an import before the rule had left them.
    row = Bar.on("btc").objects.order_by("opens_at")[10]
    Bar.on("btc").objects.filter(pk=row.pk).update(opens_at=row.opens_at - dt.timedelta(hours=1))
    later = histories.four_hours(10, first=int(bars.closes_at[-1]))
    with pytest.raises(store.OffCalendarTable, match="bars remove btc 4h --off-calendar"):
        import_batches.import_bars("btc", {"4h": later})
    assert Bar.on("btc").objects.count() == 50
