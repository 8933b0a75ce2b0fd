"""How old each stream of data is, by the market's calendar."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal

import pytest

from markets import freshness
from markets.capture.instruments import daily as daily_instruments
from markets.domain.calendar import CryptoCalendar, NseCalendar, nse_sessions
from markets.freshness import Datum, NewestBar
from markets.models import InstrumentList, Reading
from markets.options.models import CollectedMinute, Gap
from markets.straddle import models as straddles
from monitoring.dashboard import freshness as shown
from tests.desk import ist
from tests.histories import seed_days
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.registry import MARKETS

NSE, CRYPTO = NseCalendar(nse_sessions()), CryptoCalendar()
databases = pytest.mark.django_db(databases=["default", "nifty", "btc", "options", "straddle"])


def state(datum: Datum | None, now: dt.datetime) -> str:
    return freshness.judge("x", datum, now, speed=1.0).state


def bar(opens: str, closes: str, timeframe: str = "15m") -> NewestBar:
    return NewestBar(timeframe, ist(opens), ist(closes), "venue")


def test_a_stream_without_a_piece_says_so() -> None:
    stream = freshness.judge("x", None, ist("2026-06-01 10:00"), 1.0)
    assert (stream.state, stream.note, stream.mark) == ("empty", "none stored yet", "none")


def test_bars_are_late_two_minutes_after_their_close_by_the_calendar() -> None:
    newest = bar("2026-06-05 15:15", "2026-06-05 15:30")  # a Friday's last
    for now, wanted in (
        ("2026-06-06 12:00", "closed"),
        ("2026-06-08 09:31", "fresh"),
        ("2026-06-08 09:33", "late"),
    ):
        assert state(freshness.bars(NSE, newest, ist(now)), ist(now)) == wanted
    assert freshness.bars(NSE, newest, ist("2026-06-06 12:00")) == Datum(
        ist("2026-06-05 15:30"), ist("2026-06-08 09:30"), "venue", is_open=False
    )


def test_bars_that_the_day_lacks_are_counted_up_to_the_newest() -> None:
    # From 09:15 to 12:30 there are thirteen quarters.
    for of_day, lost in ((13, 0), (12, 1), (5, 8)):
        newest = replace(bar("2026-06-05 12:15", "2026-06-05 12:30"), of_day=of_day)
        datum = freshness.bars(NSE, newest, ist("2026-06-05 12:40"))
        assert datum is not None and datum.lost == lost
        stream = freshness.judge("x", datum, ist("2026-06-05 12:40"), 1.0)
        assert (stream.state, stream.is_lossy) == ("fresh", lost > 0)
        if lost:
            assert stream.note == f"{lost} of 13 bars of the day up to then are not here"
            assert "bars gaps" in stream.remedy
    # A market that never closes has six a day, of which some open the day before.
    newest = NewestBar("4h", ist("2026-06-05 13:30"), ist("2026-06-05 17:30"), "venue", 5)
    datum = freshness.bars(CRYPTO, newest, ist("2026-06-05 17:40"))
    assert datum is not None and datum.lost == 0


@databases
def test_straddle_gaps_of_the_day_are_added_up_once() -> None:
    seed_days()
    now = ist("2026-06-01 10:15")
    series = straddles.Series.objects.create(
        underlying="NIFTY",
        expiry=dt.date(2026, 6, 2),
        kind="straddle",
        since=ist("2026-06-01 09:15"),
        **dict.fromkeys(("width", "strike", "call_strike", "put_strike"), 0),
    )
    straddles.Tick.objects.create(
        series=series,
        ts=ist("2026-06-01 10:14"),
        **dict.fromkeys(("number", "call", "put", "premium", "spot"), 1),
    )
    assert straddle(now).lost == 0
    for first, last, reason in (
        ("09:00", "09:20", "nothing followed"),  # five minutes of it within the session
        ("09:30", "09:40", "no ticks of a leg"),
        ("09:35", "09:50", "no ticks of another"),
        ("10:10", "10:40", "no ticks"),
    ):
        straddles.Gap.objects.create(
            began_at=ist(f"2026-06-01 {first}"), ended_at=ist(f"2026-06-01 {last}"), reason=reason
        )
    stream = straddle(now)
    assert stream.lost == 5 + 20 + 5 and stream.is_lossy and stream.mark == "warn"
    assert stream.note == "ticks of 30 of 60 minutes of the day are missing, in part or whole"


def straddle(now: dt.datetime) -> freshness.Stream:
    _, source = freshness.registered()["Straddle"]
    return freshness.judge("Straddle", source(now), now, 1.0)


def test_a_fast_market_gives_the_same_real_time() -> None:
    datum = Datum(ist("2026-06-01 10:00"), ist("2026-06-01 10:15"))
    late = ist("2026-06-01 10:20")
    assert freshness.judge("x", datum, late, 1.0).state == "late"
    assert freshness.judge("x", datum, late, 48.0).state == "fresh"


@databases
def test_what_stands_beside_the_bars_is_read_in_one_query(
    django_assert_num_queries: object,
) -> None:
    seed_days("nifty")
    now = ist("2026-06-02 13:42")
    market = MARKETS["nifty"]
    assert set(freshness.exogenous(market, NSE, now).values()) == {None}
    Reading.on("nifty").objects.create(
        series="INDIA VIX 15m", at=ist("2026-06-02 13:30"), value=Decimal("13.4"), source="venue"
    )
    InstrumentList.on("nifty").objects.create(
        venue="kite", date=now.date(), fetched_at=ist("2026-06-02 09:05"), rows=1, sha256="x"
    )
    with django_assert_num_queries(1, using="nifty"):  # type: ignore[operator]  # pytest-django's
        found = freshness.exogenous(market, NSE, now)
    assert found["India VIX"] == Datum(ist("2026-06-02 13:30"), ist("2026-06-02 13:45"))
    assert found["NIFTY instruments"] == Datum(ist("2026-06-02 09:05"), ist("2026-06-03 09:10"))
    assert state(found["India VIX"], ist("2026-06-02 13:48")) == "late"


@databases
def test_funding_is_due_as_often_as_it_came() -> None:
    market, first = MARKETS["btc"], ist("2026-06-02 12:30")
    rows = Reading.on("btc").objects
    rows.create(series="FUNDING", at=first, value=Decimal("0.0001"), source="venue")
    alone = freshness.exogenous(market, CRYPTO, first)["BTC funding"]
    assert alone and alone.due_at == first + dt.timedelta(hours=8)
    rows.create(
        series="FUNDING", at=first + dt.timedelta(hours=1), value=Decimal(0), source="venue"
    )
    found = freshness.exogenous(market, CRYPTO, first)["BTC funding"]
    assert found == Datum(first + dt.timedelta(hours=1), first + dt.timedelta(hours=2))


@databases
def test_options_are_due_each_minute_of_the_session() -> None:
    seed_days("nifty")
    _, source = freshness.registered()["Options"]
    assert source(ist("2026-06-02 10:00")) is None
    CollectedMinute.objects.create(
        ts=ist("2026-06-02 09:59"), asked=1, stored=1, first_at=ist("2026-06-02 09:59")
    )
    found = source(ist("2026-06-02 10:00"))
    assert found and (found.at, found.due_at) == (ist("2026-06-02 09:59"), ist("2026-06-02 10:00"))
    assert state(found, ist("2026-06-02 10:05")) == "late"
    closed = source(ist("2026-06-02 15:31"))
    assert closed and closed.due_at == ist("2026-06-03 09:16")
    assert state(closed, ist("2026-06-02 15:31")) == "closed"


@databases
def test_lost_minutes_of_options_are_counted_and_warned_of() -> None:
    seed_days("nifty")
    _, source = freshness.registered()["Options"]
    now = ist("2026-06-02 10:00")
    CollectedMinute.objects.create(ts=now, asked=1, stored=1, first_at=now)
    for number in range(6):
        if number == 5:
            stream = freshness.judge("Options", source(now), now, 1.0)
            assert (stream.mark, stream.lost, stream.is_lossy) == ("ok", 5, False)
        ts = ist("2026-06-02 09:20") + dt.timedelta(minutes=number)
        Gap.objects.create(ts=ts, reason="too slow", found_at=now)
    Gap.objects.create(ts=ts + dt.timedelta(minutes=1), reason="x", found_at=now, filled_at=now)
    stream = freshness.judge("Options", source(now), now, 1.0)
    assert (stream.mark, stream.note) == ("warn", "6 of 46 minutes of the day are lost")
    tomorrow = ist("2026-06-03 10:00")
    assert freshness.judge("Options", source(tomorrow), tomorrow, 1.0).lost == 0


@databases
def test_the_owners_trades_are_as_fresh_as_the_last_reading_of_the_book() -> None:
    seed_days("nifty")
    _, source = freshness.registered()["Owner trades"]
    now = ist("2026-06-02 10:00")
    assert source(now) is None
    minute = ist("2026-06-02 09:58")
    JobRun.objects.create(job="trade-fetcher", scheduled_for=minute, state="done")
    # A minute that could not be read makes nothing fresher.
    JobRun.objects.create(job="trade-fetcher", scheduled_for=now, state="skipped")
    found = source(now)
    assert found == Datum(minute, ist("2026-06-02 09:59"))
    assert state(found, ist("2026-06-02 10:05")) == "late"


@databases
def test_a_registered_stream_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_days("nifty")
    monkeypatch.setattr(freshness, "_sources", {})
    now = ist("2026-06-02 10:00")
    freshness.register("Headlines", "default", lambda at: Datum(at, at))
    freshness.register("Nothing yet", "default", lambda at: None)
    freshness.register("Elsewhere", "no_such_database", lambda at: Datum(at, at))
    found = [(stream.title, stream.state) for stream in shown.streams([], now, 1.0)]
    assert found == [("Headlines", "fresh"), ("Nothing yet", "empty")]


def test_the_next_list_is_due_on_the_next_trading_day() -> None:
    friday = dt.date(2026, 6, 5)
    assert daily_instruments.next_due("nifty", friday, NSE) == ist("2026-06-08 09:10")
    assert daily_instruments.next_due("btc", friday, CRYPTO) == ist("2026-06-06 09:10")
    last = clock.trading_date(ist("2026-12-31 10:00"))
    assert daily_instruments.next_due("nifty", last, NSE) is None
