import dataclasses
import datetime
from pathlib import Path

import numpy as np
import pytest

from markets.domain import calendar as module
from markets.domain.calendar import (
    BadCalendar,
    CryptoCalendar,
    Day,
    NseCalendar,
    Session,
    ist_instant,
    nse_days,
    nse_sessions,
    trading_date,
)
from tradingsite.clock import Epoch

IST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@pytest.fixture(scope="module")
def nse() -> NseCalendar:
    return NseCalendar.from_days(nse_days())


def at(text: str) -> int:
    """Return the epoch seconds of an IST wall clock time like 2024-10-01 09:15."""
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=IST).timestamp())


def ist(instant: int) -> str:
    return datetime.datetime.fromtimestamp(instant, IST).strftime("%Y-%m-%d %H:%M")


def hours(nse: NseCalendar, date: str) -> str | None:
    session = nse.session_on(datetime.date.fromisoformat(date))
    if session is None:
        return None
    return f"{ist(session.opens_at)[11:]}-{ist(session.closes_at)[11:]} {session.kind}"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2009-06-01", "09:55-15:30 normal"),
        ("2010-01-04", "09:00-15:30 normal"),
        ("2010-10-18", "09:15-15:30 normal"),
        ("2024-10-01", "09:15-15:30 normal"),
        ("2026-07-31", "09:15-15:30 normal"),
        ("2026-08-03", "09:15-15:40 normal"),
        ("2026-11-23", "09:15-15:40 normal"),
        ("2024-10-02", None),
        ("2026-11-24", None),
        ("2024-10-05", None),
        ("2021-02-24", "09:15-17:00 special"),
        ("2024-05-18", "09:15-12:30 special"),
        ("2026-02-01", "09:15-15:30 special"),
        ("2024-11-01", "18:00-19:00 muhurat"),
        ("2025-10-21", "13:45-14:45 muhurat"),
        ("2027-01-04", None),
    ],
)
def test_hours_of_known_dates(nse: NseCalendar, date: str, expected: str | None) -> None:
    assert hours(nse, date) == expected


@pytest.mark.parametrize(
    ("date", "verified"),
    [
        ("2024-10-01", True),
        ("2024-10-02", True),  # a confirmed holiday
        ("2024-10-05", True),  # a Saturday
        ("2026-02-01", True),
        ("2026-11-08", False),  # the Diwali Sunday nobody has confirmed
        ("2007-11-09", False),  # listed as open, but we hold no bar of it
        ("2007-06-01", False),  # before our evidence
        ("2027-01-04", False),  # no list for 2027 yet
        ("2027-01-02", False),
    ],
)
def test_orders_fail_closed_where_a_day_is_not_confirmed(
    nse: NseCalendar, date: str, verified: bool
) -> None:
    assert nse.is_verified(datetime.date.fromisoformat(date)) is verified


def test_sessions_a_year_are_about_two_hundred_and_fifty(nse: NseCalendar) -> None:
    for year in range(2007, 2027):
        count = len(nse.sessions(datetime.date(year, 1, 1), datetime.date(year, 12, 31)))
        assert 242 <= count <= 256, year
    assert sum(session.date.year == 2026 for session in nse_sessions()) == 247


def test_every_row_says_where_it_comes_from() -> None:
    days = nse_days()
    assert all(day.source for day in days)
    assert [day.date for day in days] == sorted({day.date for day in days})
    weekdays = {day.date for day in days if day.date.weekday() < 5}
    assert len(weekdays) == np.busday_count("2007-01-01", "2027-01-01")


def test_instants_find_their_session(nse: NseCalendar) -> None:
    friday, monday = at("2024-10-04 09:15"), at("2024-10-07 09:15")
    open_at, close_at = at("2024-10-04 09:15"), at("2024-10-04 15:30")
    assert not nse.is_open(Epoch(open_at - 1))
    assert nse.is_open(Epoch(open_at))
    assert nse.is_open(Epoch(close_at - 1))
    assert not nse.is_open(Epoch(close_at))
    inside = nse.session_at(Epoch(open_at + 60))
    assert inside is not None
    assert inside.date == datetime.date(2024, 10, 4)

    following = nse.next_session(Epoch(friday))
    assert following is not None
    assert following.opens_at == monday
    own = nse.next_session(Epoch(friday - 1))
    assert own is not None
    assert own.opens_at == friday

    before = nse.previous_session(Epoch(close_at - 1))
    assert before is not None
    assert before.date == datetime.date(2024, 10, 3)
    just_closed = nse.previous_session(Epoch(close_at))
    assert just_closed is not None
    assert just_closed.date == datetime.date(2024, 10, 4)


def test_the_calendar_ends_instead_of_guessing(nse: NseCalendar) -> None:
    assert nse.next_session(Epoch(at("2026-12-31 09:15"))) is None
    assert nse.previous_session(Epoch(at("2007-01-02 09:55"))) is None
    assert not nse.covers(datetime.date(2027, 1, 1))
    assert nse.last_date == datetime.date(2026, 12, 31)


def test_bar_opens_of_normal_and_long_days(nse: NseCalendar) -> None:
    day = datetime.date(2024, 10, 1)
    quarters = nse.bar_opens("15m", day)
    assert (len(quarters), ist(quarters[0])[11:], ist(quarters[-1])[11:]) == (25, "09:15", "15:15")
    assert [ist(each)[11:] for each in nse.bar_opens("1h", day)][-2:] == ["14:15", "15:15"]
    assert len(nse.bar_opens("1h", day)) == 7
    assert nse.bar_opens("1d", day) == [at("2024-10-01 09:15")]
    assert nse.bar_opens("15m", datetime.date(2024, 10, 2)) == []
    long_day = nse.bar_opens("15m", datetime.date(2026, 8, 3))
    assert (len(long_day), ist(long_day[-1])[11:]) == (25, "15:15")


def test_closes_are_cut_off_by_the_session(nse: NseCalendar) -> None:
    opens = np.array([at("2024-10-01 14:15"), at("2024-10-01 15:15")], dtype=np.int64)
    closes = nse.closes_at("1h", opens)
    assert [ist(int(each))[11:] for each in closes] == ["15:15", "15:30"]
    assert closes.dtype == np.int64
    assert ist(int(nse.closes_at("1h", np.array([at("2026-08-03 15:15")]))[0]))[11:] == "15:40"


def test_a_daily_bar_closes_with_the_session_of_its_date(nse: NseCalendar) -> None:
    opens = np.array(
        [at("2009-06-01 09:15"), at("2024-10-01 00:00"), at("2024-11-01 09:15")], dtype=np.int64
    )
    closes = [ist(int(each)) for each in nse.closes_at("1d", opens)]
    assert closes == ["2009-06-01 15:30", "2024-10-01 15:30", "2024-11-01 19:00"]


def test_bars_outside_every_session_keep_their_nominal_end(nse: NseCalendar) -> None:
    opens = np.array([at("2024-10-02 10:15"), at("2027-03-01 10:15")], dtype=np.int64)
    assert np.array_equal(nse.closes_at("1h", opens), opens + 3_600)
    assert np.array_equal(nse.closes_at("1d", opens), opens + 86_400)
    assert np.array_equal(NseCalendar([]).closes_at("15m", opens), opens + 900)
    late = np.array([at("2025-10-21 15:30")], dtype=np.int64)  # after that day's hour of Diwali
    assert np.array_equal(nse.closes_at("1d", late), late + 86_400)


def test_closes_agree_with_the_session_of_every_bar(nse: NseCalendar) -> None:
    sessions = nse.sessions(datetime.date(2010, 9, 1), datetime.date(2011, 1, 31))
    for timeframe in ("15m", "1h", "1d"):
        for session in sessions:
            opens = np.array(nse.bar_opens(timeframe, session.date), dtype=np.int64)
            closes = nse.closes_at(timeframe, opens)
            assert np.array_equal(closes[:-1], opens[1:])
            assert closes[-1] == session.closes_at


def test_a_calendar_of_sessions_alone_takes_gaps_for_holidays() -> None:
    calendar = NseCalendar(nse_sessions())
    assert calendar.is_verified(datetime.date(2024, 10, 2))
    assert not calendar.is_verified(datetime.date(2027, 1, 4))


def test_a_row_missing_from_the_table_is_not_verified() -> None:
    lost = datetime.date(2024, 10, 1)
    calendar = NseCalendar.from_days(day for day in nse_days() if day.date != lost)
    assert calendar.session_on(lost) is None
    assert not calendar.is_verified(lost)


def test_contradictory_sessions_are_refused() -> None:
    day = datetime.date(2024, 10, 1)
    good = Session(day, Epoch(100), Epoch(200), "normal", True, "test")
    later = dataclasses.replace(
        good, date=datetime.date(2024, 10, 2), opens_at=Epoch(150), closes_at=Epoch(300)
    )
    with pytest.raises(BadCalendar, match="2024-10-01 and 2024-10-02 overlap"):
        NseCalendar([good, later])
    with pytest.raises(BadCalendar, match="closes before it opens"):
        NseCalendar([dataclasses.replace(good, closes_at=Epoch(100))])
    with pytest.raises(BadCalendar, match="'evening'"):
        NseCalendar([dataclasses.replace(good, kind="evening")])
    with pytest.raises(BadCalendar, match="without opening or closing"):
        NseCalendar.from_days([Day(day, "special", None, None, "", "test", True)])


@pytest.mark.parametrize(
    "line",
    [
        "2024-10-01,party,09:15,15:30,,test,true",
        "2024-10-01,special,9.15,15:30,,test,true",
        "2024-10-01,special,09:15,15:30,,test,maybe",
        "2024-13-01,holiday,,,,test,true",
    ],
)
def test_a_bad_line_of_the_data_file_is_named(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calendar.csv"
    file.write_text(f"date,kind,opens,closes,name,source,verified\n{line}\n", encoding="utf-8")
    monkeypatch.setattr(module, "NSE_CALENDAR_FILE", file)
    with pytest.raises(BadCalendar, match=r"calendar.csv, line 2"):
        nse_days()


def test_trading_date_turns_at_midnight_in_india() -> None:
    midnight = at("2024-10-02 00:00")
    assert trading_date(Epoch(midnight - 1)) == datetime.date(2024, 10, 1)
    assert trading_date(Epoch(midnight)) == datetime.date(2024, 10, 2)
    assert ist_instant(datetime.date(2024, 10, 2), datetime.time(0, 0)) == midnight


def test_crypto_never_closes() -> None:
    calendar = CryptoCalendar()
    midnight = int(datetime.datetime(2024, 10, 1, tzinfo=datetime.UTC).timestamp())
    assert calendar.is_open(Epoch(midnight))
    assert calendar.session_at(Epoch(midnight - 1)).date == datetime.date(2024, 9, 30)
    assert calendar.session_at(Epoch(midnight)).date == datetime.date(2024, 10, 1)
    assert calendar.next_session(Epoch(midnight)).opens_at == midnight + 86_400
    assert calendar.previous_session(Epoch(midnight)).closes_at == midnight
    assert calendar.is_verified(datetime.date(2040, 1, 1))
    opens = calendar.bar_opens("4h", datetime.date(2024, 10, 1))
    assert opens == [midnight + hour * 3_600 for hour in (0, 4, 8, 12, 16, 20)]
    assert np.array_equal(
        calendar.closes_at("4h", np.array(opens, dtype=np.int64)), np.array(opens) + 14_400
    )
    days = calendar.sessions(datetime.date(2024, 2, 28), datetime.date(2024, 3, 1))
    assert [day.date.day for day in days] == [28, 29, 1]


def test_a_session_in_two_parts_has_no_bars_in_its_pause(nse: NseCalendar) -> None:
    drill = datetime.date(2024, 3, 2)  # 09:15 to 10:00 and 11:30 to 12:30
    quarters = [ist(each)[11:] for each in nse.bar_opens("15m", drill)]
    assert quarters == ["09:15", "09:30", "09:45", "11:30", "11:45", "12:00", "12:15"]
    # A bar that the pause only touches is there, and one that lies in it is not.
    assert [ist(each)[11:] for each in nse.bar_opens("1h", drill)] == ["09:15", "11:15", "12:15"]
    assert nse.is_open(Epoch(at("2024-03-02 09:59")))
    assert not nse.is_open(Epoch(at("2024-03-02 10:00")))
    assert not nse.is_open(Epoch(at("2024-03-02 11:29")))
    assert nse.is_open(Epoch(at("2024-03-02 11:30")))
    outage = nse.bar_opens("15m", datetime.date(2021, 2, 24))
    assert [ist(each)[11:] for each in outage[9:12]] == ["11:30", "15:45", "16:00"]


def test_the_index_has_no_bar_while_futures_trade_on_after_its_auction() -> None:
    calendar = NseCalendar.from_days(nse_days())
    july, august = datetime.date(2026, 7, 31), datetime.date(2026, 8, 3)
    for date, ends in ((july, "15:30"), (august, "15:40")):
        session = calendar.session_on(date)
        assert session is not None
        assert session.closes_at == ist_instant(date, datetime.time.fromisoformat(ends))
        for timeframe, bars in (("15m", 25), ("1h", 7), ("1d", 1)):
            opens = np.array(calendar.bar_opens(timeframe, date), dtype=np.int64)
            assert len(opens) == bars, (date, timeframe)
            closes = calendar.closes_at(timeframe, opens)
            # What is decided at the last bar waits for the next session, on both sides of the date.
            assert closes[-1] == session.closes_at
            assert (closes[:-1] == opens[1:]).all()
    at = ist_instant(august, datetime.time(15, 35))
    assert calendar.is_open(Epoch(at)), "futures trade"
    assert calendar.closes_at("15m", np.array([at], dtype=np.int64))[0] == ist_instant(
        august, datetime.time(15, 40)
    )
