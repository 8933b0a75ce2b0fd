"""The lists of instruments: kept with their history, and no trading without today's."""

import dataclasses
import datetime as dt
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from bots.execution import ledger
from bots.live.decisions import Decider
from bots.live.policies import Policies
from bots.models import RiskState
from markets import tasks
from markets.capture.bars import sources as bar_sources
from markets.capture.instruments import daily as daily_instruments
from markets.capture.instruments import history as instrument_history
from markets.capture.instruments.history import BadList
from markets.models import InstrumentList, ListedInstrument
from markets.venues.base import VenueInstrument
from tests.desk import Desk, ist
from tests.histories import seed_days
from tests.markets.venues.kite.desk import KiteDesk, kite_desk
from tradingsite import clock
from tradingsite.models import JobRun, Notice

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc"])

MONDAY, TUESDAY, WEDNESDAY = (dt.date(2026, 6, day) for day in (1, 2, 3))


def future(month: int = 6, lot: int = 65, **facts: object) -> VenueInstrument:
    day = dt.date(2026, month, 30)
    made = VenueInstrument(
        name=f"NIFTY {day} FUT",
        symbol=f"NFO:NIFTY26{day:%b}FUT".upper(),
        token=month,
        kind="FUT",
        underlying="NIFTY",
        expiry=day,
        strike=Decimal(0),
        lot_size=Decimal(lot),
        tick_size=Decimal("0.1"),
    )
    return dataclasses.replace(made, **facts)  # type: ignore[arg-type]


def keep(date: dt.date, *rows: VenueInstrument) -> tuple[int, int]:
    return instrument_history.save_list("nifty", "kite", date, rows, ["NIFTY"])


def history() -> list[tuple[str, int, str, str]]:
    rows = ListedInstrument.on("nifty").objects.order_by("symbol", "first_on")
    return [
        (row.symbol[4:], int(row.lot_size), f"{row.first_on:%d}", f"{row.last_on:%d}")
        for row in rows
    ]


# --- History -------------------------------------------------------------------------------------


def test_what_stays_lives_longer_and_what_changes_begins_anew() -> None:
    assert keep(MONDAY, future(6), future(7)) == (2, 0)
    assert keep(TUESDAY, future(6), future(7, lot=75)) == (1, 1)
    assert keep(WEDNESDAY, future(6), future(7, lot=75), future(8)) == (1, 0)
    assert history() == [
        ("NIFTY26AUGFUT", 65, "03", "03"),
        ("NIFTY26JULFUT", 65, "01", "01"),
        ("NIFTY26JULFUT", 75, "02", "03"),
        ("NIFTY26JUNFUT", 65, "01", "03"),
    ]
    on_monday, on_tuesday = (
        instrument_history.on("nifty", "kite", day) for day in (MONDAY, TUESDAY)
    )
    assert on_monday["NIFTY 2026-07-30 FUT"].lot_size == 65
    assert on_tuesday["NIFTY 2026-07-30 FUT"].lot_size == 75


@pytest.mark.parametrize(
    "change",
    [
        {"lot_size": Decimal(30)},
        {"tick_size": Decimal("0.05")},
        {"token": 99},
        {"expiry": dt.date(2026, 6, 29)},
    ],
)
def test_each_fact_that_changes_begins_a_new_row(change: dict[str, Any]) -> None:
    keep(MONDAY, future())
    keep(TUESDAY, dataclasses.replace(future(), **change))
    assert [(first, last) for _, _, first, last in history()] == [("01", "01"), ("02", "02")]


def test_what_comes_back_was_not_there_meanwhile() -> None:
    for date, rows in ((MONDAY, (6, 7)), (TUESDAY, (6,)), (WEDNESDAY, (6, 7))):
        keep(date, *map(future, rows))
    assert [row for row in history() if "JUL" in row[0]] == [
        ("NIFTY26JULFUT", 65, "01", "01"),
        ("NIFTY26JULFUT", 65, "03", "03"),
    ]


def test_the_same_days_list_again_takes_the_firsts_place() -> None:
    keep(MONDAY, future(6), future(7))
    keep(TUESDAY, future(6), future(7, lot=75), future(8))
    first = history()
    keep(TUESDAY, future(6), future(7))
    assert [row for row in history() if "AUG" in row[0]] == []
    keep(TUESDAY, future(6), future(7, lot=75), future(8))
    assert history() == first
    assert InstrumentList.on("nifty").objects.count() == 2


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([future(6)], "not whole"),
        ([dataclasses.replace(future(6), name="X"), *[future(6, symbol=str(i), name="X") for i in range(6)]], "nothing that is called NIFTY"),  # noqa: E501
        ([future(6), future(6), *map(future, (7, 8, 9))], "symbols twice"),
        ([future(6, expiry=MONDAY), *map(future, (7, 8, 9))], "of another day"),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_right_is_refused(rows: list[VenueInstrument], why: str) -> None:
    keep(MONDAY, *map(future, (6, 7, 8, 9, 10)))
    before = history()
    with pytest.raises(BadList, match=why):
        keep(TUESDAY, *rows)
    assert history() == before
    assert daily_instruments.is_stale("nifty", TUESDAY)


def test_an_older_list_is_refused() -> None:
    keep(TUESDAY, future())
    with pytest.raises(BadList, match="comes after"):
        keep(MONDAY, future())


def test_five_thousand_rows_take_less_than_two_seconds() -> None:
    rows = [future(6), *(future(6, symbol=f"NFO:X{i}", name=f"NIFTY {i}") for i in range(5_000))]
    keep(MONDAY, *rows)
    rows[100:110] = [dataclasses.replace(row, lot_size=Decimal(75)) for row in rows[100:110]]
    began = time.perf_counter()
    assert keep(TUESDAY, *rows) == (10, 10)
    assert time.perf_counter() - began < 2.0  # measured 0.3


# --- No trading without today's ------------------------------------------------------------------


def listed(market: str, date: dt.date) -> None:
    InstrumentList.on(market).objects.create(
        venue=daily_instruments.venue_name(market),
        date=date,
        fetched_at=dt.datetime.combine(date, dt.time(9, 5), clock.IST),
        rows=1,
        sha256="x",
    )


@pytest.mark.parametrize(
    ("market", "at", "is_allowed"),
    [
        ("nifty", "2026-06-02 08:00", True),  # today's is not due yet
        ("nifty", "2026-06-02 09:11", False),
        ("nifty", "2026-06-06 12:00", False),
        ("btc", "2026-06-02 09:09", True),
        ("btc", "2026-06-02 09:10", False),
    ],
)
def test_mondays_list_is_stale_when_tuesdays_is_due(market: str, at: str, is_allowed: bool) -> None:
    seed_days("nifty")
    assert "no list" in daily_instruments.trading_allowed(market, ist(at))
    listed(market, MONDAY)
    said = daily_instruments.trading_allowed(market, ist(at))
    assert (said == "") == is_allowed
    assert is_allowed or "is of 2026-06-01" in said


def test_over_a_holiday_the_last_trading_days_list_is_good() -> None:
    seed_days("nifty")
    listed("nifty", dt.date(2026, 6, 25))  # 26 June is a holiday, and a weekend follows
    for at in ("2026-06-26 12:00", "2026-06-28 12:00", "2026-06-29 09:09"):
        assert daily_instruments.trading_allowed("nifty", ist(at)) == ""
    assert daily_instruments.trading_allowed("nifty", ist("2026-06-29 09:10"))


def test_only_the_simulated_desk_decides_without_a_list(set_market: Callable[..., None]) -> None:
    seed_days("nifty")
    desk = Desk("nifty", set_market)
    decider = Decider(desk.bot, desk.venue, desk.instruments, Policies(desk.bot))
    ledger.open_rows(desk.bot, desk.front, desk.venue.name)
    risk = RiskState.on("nifty").objects.get(bot="nifty")
    now = clock.epoch(desk.now)
    assert decider.obstacle(risk, now) == ""
    for mode in ("paper", "live"):
        with override_settings(MODE=mode):
            assert "there is no list" in decider.obstacle(risk, now)
    listed("nifty", MONDAY)
    with override_settings(MODE="paper"):
        assert decider.obstacle(risk, now) == ""


# --- The job -------------------------------------------------------------------------------------


@pytest.fixture
def desk(
    tmp_path: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[KiteDesk]:
    """Return the broker's desk on Monday at 09:05; BTC has its list of the day."""
    seed_days("nifty")
    bar_sources.forget()
    with kite_desk(tmp_path, set_market) as made:
        made.go("2026-06-01 09:05")
        listed("btc", MONDAY)
        monkeypatch.setitem(bar_sources.MAKERS, "nifty", lambda calendar: made.venue)
        yield made
    bar_sources.forget()


def fire(at: str) -> JobRun | None:
    tasks.fetch_instruments.delay(scheduled_for=ist(at).isoformat())
    return JobRun.objects.filter(job="instruments", scheduled_for=ist(at)).first()


def test_the_morning_list_is_fetched_once(desk: KiteDesk) -> None:
    run = fire("2026-06-01 09:05")
    assert run and run.state == JobRun.State.DONE, run
    kept = InstrumentList.on("nifty").objects.get()
    assert kept.rows == ListedInstrument.on("nifty").objects.count() > 3_000
    desk.go("2026-06-01 09:10")
    assert fire("2026-06-01 09:10") is None
    assert daily_instruments.trading_allowed("nifty", clock.market()) == ""
    out = StringIO()
    call_command("instruments", "nifty", "--find", "2026-06-30 FUT", stdout=out)
    words = " ".join(out.getvalue().split())
    assert "NIFTY 2026-06-30 FUT" in words and "65" in words and "2026-06-01" in words
    call_command("instruments", "nifty", stdout=out)
    assert "It is the list of the day." in out.getvalue()


def test_a_list_that_is_late_is_asked_for_again_and_told(desk: KiteDesk) -> None:
    desk.broker.kite.sessions.expire()
    desk.venue._listed = None
    run = fire("2026-06-01 09:05")
    assert run and run.state == JobRun.State.SKIPPED and "tried again" in run.detail
    assert not Notice.objects.exists()
    desk.go("2026-06-01 09:15")
    with pytest.raises(daily_instruments.Degraded):
        fire("2026-06-01 09:10")
    notice = Notice.objects.get(key="instruments")
    assert notice.severity == "critical" and "No new orders" in notice.text
    desk.sign_in()
    run = fire("2026-06-01 09:15")
    assert run and run.state == JobRun.State.DONE
    assert Notice.objects.get(key="instruments").resolved_at is not None


def test_on_a_holiday_only_the_market_that_never_closes_is_asked(desk: KiteDesk) -> None:
    assert daily_instruments._lacking(dt.date(2026, 6, 26)) == ["btc"]


def test_an_expiry_moved_by_a_holiday_is_the_lists_own(desk: KiteDesk) -> None:
    # Tuesday 24 November 2026 is a holiday: the month's contracts end on Monday.
    desk.go("2026-11-20 09:05")
    desk.sign_in()
    daily_instruments.fetch("nifty", dt.date(2026, 11, 20))
    friday = instrument_history.on("nifty", "kite", dt.date(2026, 11, 20))
    assert "NIFTY 2026-11-23 FUT" in friday
    assert not any("2026-11-24" in name for name in friday)
    desk.go("2026-11-25 09:05")
    desk.sign_in()
    daily_instruments.fetch("nifty", dt.date(2026, 11, 25))
    after = instrument_history.on("nifty", "kite", dt.date(2026, 11, 25))
    assert not any("2026-11-23" in name for name in after)
    future_row = ListedInstrument.on("nifty").objects.get(name="NIFTY 2026-11-23 FUT")
    assert (future_row.first_on, future_row.last_on) == (dt.date(2026, 11, 20),) * 2


def test_a_lot_that_changed_overnight_has_both_its_days(desk: KiteDesk) -> None:
    rows = desk.venue.instruments()
    instrument_history.save_list("nifty", "kite", MONDAY, rows, ["NIFTY"])
    name = "NIFTY 2026-06-30 FUT"
    changed = [
        dataclasses.replace(row, lot_size=Decimal(75)) if row.name == name else row for row in rows
    ]
    assert instrument_history.save_list("nifty", "kite", TUESDAY, changed, ["NIFTY"]) == (1, 1)
    lots = [instrument_history.on("nifty", "kite", day)[name].lot_size for day in (MONDAY, TUESDAY)]
    assert lots == [65, 75]
