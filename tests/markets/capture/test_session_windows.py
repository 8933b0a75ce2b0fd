"""When the jobs that follow the session are wanted, by the exchange's real calendar."""

import datetime as dt
from collections.abc import Callable

import pytest

from markets import tasks
from markets.capture import session_windows
from tests.histories import seed_days
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling import jobs

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "options", "straddle"])

SESSION = dt.date(2026, 6, 1)
HOLIDAY = dt.date(2026, 1, 26)


@pytest.fixture(autouse=True)
def days(db: None) -> None:
    """Have the calendar there."""
    seed_days("nifty")


def ist(day: dt.date, time: str) -> dt.datetime:
    """Return a time of a day."""
    return dt.datetime.combine(day, dt.time.fromisoformat(time), clock.IST)


def wanted(window: Callable[[dt.datetime], None], day: dt.date, step: int = 1) -> list[str]:
    """Return the minutes of a day, 09:00 to 16:00, that a window wants."""
    found = []
    at = ist(day, "09:00")
    while at <= ist(day, "16:00"):
        try:
            window(at)
            found.append(f"{at:%H:%M}")
        except jobs.NotWanted:
            pass
        at += dt.timedelta(minutes=step)
    return found


def test_the_collector_wants_each_minute_from_before_the_open_to_the_close() -> None:
    minutes = wanted(session_windows.collecting, SESSION)
    assert (minutes[0], minutes[-1], len(minutes)) == ("09:10", "15:30", 381)


def test_the_fetcher_wants_each_minute_of_the_session() -> None:
    minutes = wanted(session_windows.trading, SESSION)
    assert (minutes[0], minutes[-1], len(minutes)) == ("09:15", "15:30", 376)


def test_the_straddle_stops_at_the_close_of_that_very_day() -> None:
    assert wanted(session_windows.closing, SESSION, 5) == ["15:30"]
    after_the_change = dt.date(2026, 9, 1)  # the F&O session closes at 15:40 by then
    assert wanted(session_windows.closing, after_the_change, 5) == ["15:40"]


@pytest.mark.parametrize(
    "window", [session_windows.collecting, session_windows.trading, session_windows.closing]
)
def test_a_holiday_is_said_once(window: Callable[[dt.datetime], None]) -> None:
    with pytest.raises(jobs.Skipped, match="no session on 26 Jan 2026"):
        window(ist(HOLIDAY, "09:15"))
    for time in ("09:10", "09:16", "15:30"):
        with pytest.raises(jobs.NotWanted):
            window(ist(HOLIDAY, time))


def test_the_straddle_starts_with_the_session_whenever_that_opens() -> None:
    assert wanted(session_windows.opening, SESSION, 5)[0] == "09:15"
    # A desk that was down at the open starts late; one that has started is not started again.
    tasks.start_straddle.delay(scheduled_for=ist(SESSION, "10:35").isoformat())
    assert wanted(session_windows.opening, SESSION, 5)[-1] == "10:35"
    with pytest.raises(jobs.Skipped, match="no session"):
        session_windows.opening(ist(HOLIDAY, "09:15"))
    # Diwali's muhurat sessions and a Saturday's test: 09:15 says when, and then it starts.
    for day, opens in (
        (dt.date(2025, 10, 21), "13:45"),
        (dt.date(2024, 11, 1), "18:00"),
        (dt.date(2012, 4, 28), "11:15"),
    ):
        with pytest.raises(jobs.Skipped, match=f"the session of {day:%d %b %Y} opens at {opens}"):
            session_windows.opening(ist(day, "09:15"))
        session_windows.opening(ist(day, opens))
        with pytest.raises(jobs.NotWanted):
            session_windows.opening(ist(day, opens) - dt.timedelta(minutes=5))


def test_the_tasks_record_what_their_windows_say() -> None:
    for time in ("09:00", "09:10", "15:30", "15:31"):
        tasks.collect_options.delay(scheduled_for=ist(SESSION, time).isoformat())
    for time in ("09:10", "09:15"):
        tasks.fetch_trades.delay(scheduled_for=ist(HOLIDAY, time).isoformat())
    tasks.stop_straddle.delay(scheduled_for=ist(SESSION, "15:30").isoformat())
    runs = [
        (run.job, f"{run.scheduled_for.astimezone(clock.IST):%H:%M}", run.state)
        for run in JobRun.objects.order_by("job", "scheduled_for")
    ]
    assert runs == [
        ("options-collector", "09:10", "done"),
        ("options-collector", "15:30", "skipped"),
        ("straddle-stop", "15:30", "done"),
        ("trade-fetcher", "09:15", "skipped"),
    ]
