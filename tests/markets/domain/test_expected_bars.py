"""Which bars the calendar expects, and longer bars made of shorter ones."""

import dataclasses

import numpy as np
import pytest

from markets.capture.bars.polling import BarRequest, fetch
from markets.domain.bar_rule import Span, expected, spans
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_sessions
from markets.domain.expected_bars import aggregate, finer, newest
from markets.venues.base import DataVenue
from tests.desk import ist
from tests.histories import hours, joined
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

FIELDS = dataclasses.fields(Bars)
NSE, CRYPTO = NseCalendar(nse_sessions()), CryptoCalendar()


def at(text: str) -> int:
    return clock.epoch(ist(text))


def times(opens: np.ndarray) -> list[str]:
    return [f"{clock.from_seconds(each).astimezone(clock.IST):%d %H:%M}" for each in opens.tolist()]


def walk(calendar: Calendar, timeframe: str, start: str, end: str) -> Bars:
    """Return bars that rise by one with each, where the calendar expects them."""
    opens, closes = expected(calendar, timeframe, Epoch(at(start)), Epoch(at(end)))
    steps = np.arange(len(opens), dtype=np.float64) + 100.0
    return Bars(opens, closes, steps, steps + 2.0, steps - 2.0, steps + 1.0, np.ones(len(opens)))


@pytest.mark.parametrize(
    ("timeframe", "start", "end", "wanted"),
    [
        # A holiday has none, and neither has a weekend.
        ("15m", "2026-06-26 00:00", "2026-06-28 23:00", []),
        # The evening hour of Diwali, and a Saturday morning.
        ("15m", "2024-11-01 00:00", "2024-11-01 23:00", ["01 18:00", "01 18:15", "01 18:30", "01 18:45"]),  # noqa: E501
        ("1h", "2024-03-02 00:00", "2024-03-02 23:00", ["02 09:15", "02 11:15", "02 12:15"]),
        ("1d", "2024-10-31 23:00", "2024-11-02 23:00", ["01 18:00"]),
        # From August 2026 the last bar of the day holds the auction and ends with the session.
        ("15m", "2026-08-03 15:15", "2026-08-03 16:00", ["03 15:15"]),
        # Closed by the end, and not before the start.
        ("15m", "2026-06-01 09:30", "2026-06-01 10:00", ["01 09:30", "01 09:45"]),
    ],
)  # fmt: skip
def test_the_calendar_says_which_bars_close(
    timeframe: str, start: str, end: str, wanted: list[str]
) -> None:
    opens, closes = expected(NSE, timeframe, Epoch(at(start)), Epoch(at(end)))
    assert times(opens) == wanted
    assert np.all(closes > opens) and np.all(closes <= at(end))


def test_the_last_bar_of_a_longer_day_ends_with_it() -> None:
    _, closes = expected(NSE, "15m", Epoch(at("2026-08-03 15:30")), Epoch(at("2026-08-03 16:00")))
    assert times(closes) == ["03 15:40"]


def test_the_newest_bar_is_the_last_that_has_closed() -> None:
    assert newest(NSE, "1d", Epoch(at("2026-06-29 12:00"))) == (
        at("2026-06-25 09:15"),
        at("2026-06-25 15:30"),
    )
    assert newest(CRYPTO, "4h", Epoch(at("2026-06-01 10:00"))) == (
        at("2026-06-01 05:30"),
        at("2026-06-01 09:30"),
    )


def test_missing_bars_that_follow_each_other_are_one_span() -> None:
    opens, _ = expected(NSE, "15m", Epoch(at("2026-06-01 09:15")), Epoch(at("2026-06-02 10:00")))
    absent = opens[[1, 2, 24, 25, 27]]  # the last of a day and the first of the next are neighbours
    assert spans(opens, absent) == [
        Span(Epoch(opens[1]), Epoch(opens[2]), 2),
        Span(Epoch(opens[24]), Epoch(opens[25]), 2),
        Span(Epoch(opens[27]), Epoch(opens[27]), 1),
    ]
    assert spans(opens, opens[:0]) == []


# --- Longer bars ---------------------------------------------------------------------------------


def same(left: Bars, right: Bars) -> bool:
    columns = [(getattr(left, each.name), getattr(right, each.name)) for each in FIELDS]
    return all(one.shape == other.shape and np.allclose(one, other) for one, other in columns)


def test_four_hours_are_made_on_the_boundaries_of_utc() -> None:
    fine = hours(48)
    assert same(aggregate(fine, "1h", "4h", CRYPTO), joined(fine))
    # One that lacks its first hour is left out, and so is the one that still forms.
    assert same(aggregate(fine.slice(1, 47), "1h", "4h", CRYPTO), joined(fine).slice(1, 11))


def test_hours_are_made_on_the_boundaries_of_the_session() -> None:
    fine = walk(NSE, "15m", "2026-06-01 09:00", "2026-06-02 15:30")
    made = aggregate(fine, "15m", "1h", NSE)
    opens, closes = expected(
        NSE, "1h", Epoch(at("2026-06-01 09:00")), Epoch(at("2026-06-02 15:30"))
    )
    assert np.array_equal(made.opens_at, opens) and np.array_equal(made.closes_at, closes)
    made.validate()
    # The last one of a day is a quarter of an hour long: its only part.
    assert (made.open[6], made.close[6], made.volume[6]) == (fine.open[24], fine.close[24], 1.0)
    assert (made.open[0], made.close[0], made.high[0]) == (100.0, 104.0, 105.0)


def test_four_hours_of_a_session_are_cut_off_at_its_close() -> None:
    fine = walk(NSE, "1h", "2026-06-01 09:00", "2026-06-01 15:30")
    made = aggregate(fine, "1h", "4h", NSE)
    assert times(made.opens_at) == ["01 09:15", "01 13:15"]
    assert times(made.closes_at) == ["01 13:15", "01 15:30"]


def test_half_a_bar_is_no_bar() -> None:
    fine = walk(NSE, "15m", "2026-06-01 09:00", "2026-06-01 15:30")
    hole = np.arange(len(fine)) != 5
    rest = Bars(*(getattr(fine, each.name)[hole] for each in FIELDS))
    assert times(aggregate(rest, "15m", "1h", NSE).opens_at)[:2] == ["01 09:15", "01 11:15"]
    assert len(aggregate(Bars.empty(), "15m", "1h", NSE)) == 0


def test_a_day_is_made_of_nothing_but_itself() -> None:
    assert finer("1d") == []
    assert finer("4h") == ["1h", "15m"]
    assert finer("15m") == []


class Poor:
    """A venue with a few timeframes."""

    name = "poor"

    def __init__(self, **bars: Bars) -> None:
        self._bars = bars
        self.asked: list[tuple[str, int]] = []

    def reach_seconds(self, timeframe: str) -> int:
        return 10 * 86_400 if f"t{timeframe}" in self._bars else 0

    def bars(self, instrument: str, timeframe: str, start: int, end: int) -> Bars:
        self.asked.append((timeframe, start))
        found = self._bars[f"t{timeframe}"]
        first, stop = np.searchsorted(found.opens_at, [start, end])
        return found.slice(int(first), int(stop))


def test_what_a_venue_lacks_is_made_of_the_longest_it_has() -> None:
    fine = hours(48)
    venue = Poor(t1h=fine)
    as_venue: DataVenue = venue  # type: ignore[assignment]  # it has what is read here
    newest_open = int(joined(fine).opens_at[5])
    want = BarRequest(
        "BTC-PERP", "4h", Epoch(newest_open), Epoch(newest_open + 14_400), Epoch(newest_open)
    )
    made = fetch(as_venue, CRYPTO, want)
    assert same(made, joined(fine).slice(5, 6))
    assert venue.asked == [("1h", newest_open - newest_open % 86_400)]
    for timeframe in ("15m", "1d"):
        with pytest.raises(Degraded, match=f"poor has no {timeframe} bars"):
            fetch(as_venue, CRYPTO, dataclasses.replace(want, timeframe=timeframe))
