import dataclasses
import datetime
from decimal import Decimal

import pytest

from markets.domain.calendar import NseCalendar, nse_days, nse_sessions
from markets.domain.contracts import (
    expiries,
    freeze_quantity,
    front_expiry,
    is_extrapolated,
    lot_size,
    tick_size,
)

Date = datetime.date


@pytest.fixture(scope="module")
def nse() -> NseCalendar:
    return NseCalendar.from_days(nse_days())


@pytest.mark.parametrize(
    ("month", "expected"),
    [
        ((2021, 7), Date(2021, 7, 29)),
        ((2023, 6), Date(2023, 6, 28)),  # the last Thursday was Bakri Id
        ((2024, 3), Date(2024, 3, 28)),
        ((2025, 8), Date(2025, 8, 28)),  # the last of the Thursdays
        ((2025, 9), Date(2025, 9, 30)),  # the first of the Tuesdays
        ((2026, 3), Date(2026, 3, 30)),
        ((2026, 11), Date(2026, 11, 23)),  # Tuesday 24 is Guru Nanak Jayanti
        ((2026, 12), Date(2026, 12, 29)),
        ((2027, 1), Date(2027, 1, 25)),  # beyond the calendar, yet Republic Day is certain
    ],
)
def test_monthly_expiries(nse: NseCalendar, month: tuple[int, int], expected: Date) -> None:
    first = Date(*month, 1)
    assert expiries(nse, first, first + datetime.timedelta(days=30)) == [expected]


def test_there_is_one_expiry_a_month_and_it_is_a_session(nse: NseCalendar) -> None:
    dates = expiries(nse, Date(2007, 1, 1), Date(2026, 12, 31))
    assert [(date.year, date.month) for date in dates] == [
        (year, month) for year in range(2007, 2027) for month in range(1, 13)
    ]
    assert all(nse.session_on(date) is not None for date in dates)


def test_the_hour_of_diwali_is_no_expiry_day() -> None:
    last_tuesday = Date(2026, 10, 27)
    sessions = [
        dataclasses.replace(session, kind="muhurat") if session.date == last_tuesday else session
        for session in nse_sessions()
    ]
    october = expiries(NseCalendar(sessions), Date(2026, 10, 1), Date(2026, 10, 31))
    assert october == [Date(2026, 10, 26)]


def test_expiries_include_both_ends(nse: NseCalendar) -> None:
    assert expiries(nse, Date(2026, 10, 27), Date(2026, 11, 23)) == [
        Date(2026, 10, 27),
        Date(2026, 11, 23),
    ]
    assert expiries(nse, Date(2026, 10, 28), Date(2026, 11, 22)) == []


def test_the_expiring_contract_is_left_on_its_last_day(nse: NseCalendar) -> None:
    dates = expiries(nse, Date(2026, 10, 1), Date(2026, 12, 31))
    assert front_expiry(Date(2026, 11, 22), dates) == Date(2026, 11, 23)
    assert front_expiry(Date(2026, 11, 23), dates) == Date(2026, 12, 29)
    with pytest.raises(ValueError, match="no expiry after 2026-12-29"):
        front_expiry(Date(2026, 12, 29), dates)


@pytest.mark.parametrize(
    ("expiry", "units"),
    [
        (Date(2014, 10, 30), 50),
        (Date(2014, 11, 27), 25),
        (Date(2015, 10, 29), 25),
        (Date(2015, 11, 26), 75),
        (Date(2021, 6, 24), 75),
        (Date(2021, 7, 29), 50),
        (Date(2024, 4, 25), 50),
        (Date(2024, 5, 30), 25),
        (Date(2025, 1, 30), 25),
        (Date(2025, 2, 27), 75),
        (Date(2025, 12, 30), 75),
        (Date(2026, 1, 27), 65),
        (Date(2026, 11, 23), 65),
    ],
)
def test_lot_of_the_monthly_future(expiry: Date, units: int) -> None:
    assert lot_size("nifty", expiry) == units


def test_before_the_first_source_the_first_row_answers_and_says_so() -> None:
    assert lot_size("nifty", Date(2009, 6, 25)) == 50
    assert is_extrapolated("nifty", Date(2009, 6, 25))
    assert not is_extrapolated("nifty", Date(2014, 10, 30))
    assert not is_extrapolated("btc", Date(2009, 6, 25))


def test_bitcoin_lot_is_ours() -> None:
    assert lot_size("btc", Date(2024, 1, 1)) == 0.01


@pytest.mark.parametrize(
    ("market", "date", "price", "tick"),
    [
        ("nifty", Date(2025, 4, 14), "24000", "0.05"),
        ("nifty", Date(2025, 4, 15), "24000", "0.10"),
        ("nifty", Date(2025, 4, 15), "15000", "0.05"),
        ("nifty", Date(2025, 4, 15), "30000.05", "0.20"),
        ("btc", Date(2025, 4, 15), "9999.9", "0.1"),
        ("btc", Date(2025, 4, 15), "100000", "1"),
    ],
)
def test_tick_by_date_and_level(market: str, date: Date, price: str, tick: str) -> None:
    assert tick_size(market, date, Decimal(price)) == Decimal(tick)


def test_freeze_quantity_by_level() -> None:
    assert freeze_quantity("nifty", Date(2026, 11, 2), Decimal(26_000)) == 1_800
    assert freeze_quantity("nifty", Date(2021, 8, 2), Decimal(15_763)) == 2_800
    assert freeze_quantity("nifty", Date(2026, 11, 2), Decimal(60_000)) == 600
    assert freeze_quantity("btc", Date(2026, 11, 2), Decimal(60_000)) is None


def test_an_unknown_market_is_refused() -> None:
    with pytest.raises(ValueError, match="nifty, btc"):
        lot_size("gold", Date(2026, 1, 1))
