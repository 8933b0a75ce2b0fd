"""One window a job: its crontab, its body and the page go by the same fact."""

import datetime as dt

import pytest

from markets.domain.calendar import NseCalendar, nse_days
from monitoring.dashboard.timeline import firing_minutes
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.scheduling.schedules import ALL, Job
from tradingsite.scheduling.windows import Part, Window, crontab_words

FOLLOW = {name: job for name, job in ALL.items() if job.window}
NSE = NseCalendar.from_days(nse_days())
SESSIONS = [
    session
    for day in range(3 * 365)
    if (session := NSE.session_on(dt.date(2024, 1, 1) + dt.timedelta(days=day)))
]


def minute_of(at: int) -> int:
    here = clock.from_seconds(at).astimezone(clock.IST)
    return here.hour * 60 + here.minute


@pytest.mark.parametrize("job", FOLLOW.values(), ids=FOLLOW)
def test_the_crontab_fires_through_every_session_there_was(job: Job) -> None:
    """Half days, Saturdays and the evening's hour of Diwali among them."""
    assert job.window is not None
    fired = set(firing_minutes(job))
    for session in SESSIONS:
        first, last = job.window.bounds(session.opens_at, session.closes_at)
        minutes = set(range(minute_of(first), minute_of(last) + 1))
        if job.window.part is Part.OPEN:
            assert any(first_ in fired for first_ in range(min(minutes), min(minutes) + 5))
        else:
            assert minutes <= fired, session.date


def test_an_evening_session_is_among_them() -> None:
    assert {minute_of(session.opens_at) // 60 for session in SESSIONS} > {9}


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window(), "each minute, 09:15 to the close"),
        (Window(before_open_minutes=5), "each minute, 09:10 to the close"),
        (Window(Part.OPEN), "at the open"),
        (Window(Part.CLOSE), "at the close"),
    ],
)
def test_a_window_says_itself(window: Window, words: str) -> None:
    assert str(window) == words


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        (Window(), (1_000, 5_000), (999, 5_001)),
        (Window(before_open_minutes=5), (700, 5_000), (699, 5_001)),
        (Window(Part.OPEN), (1_000, 4_999), (999, 5_000)),
        (Window(Part.CLOSE), (5_000,), (4_999, 5_001, 1_000)),
    ],
)
def test_its_bounds_belong_to_it(
    window: Window, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    assert all(window.covers(at, Epoch(1_000), Epoch(5_000)) for at in inside)
    assert not any(window.covers(at, Epoch(1_000), Epoch(5_000)) for at in outside)


@pytest.mark.parametrize(
    ("minute", "hour", "words"),
    [
        ("0", "7", "07:00"),
        ("5", "16", "16:05"),
        ("0", "*/2", "every 2 h"),
        ("*/15", "*", "every 15 min"),
        ("40", "*", "every hour at :40"),
        ("5-59/5", "9-15", "minute 5-59/5 of hour 9-15"),
    ],
)
def test_a_crontab_in_words(minute: str, hour: str, words: str) -> None:
    assert crontab_words(minute, hour) == words


def test_no_job_is_told_by_its_bare_fields() -> None:
    assert [job.name for job in ALL.values() if job.when.startswith("minute ")] == []
