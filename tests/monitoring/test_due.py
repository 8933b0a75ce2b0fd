"""Messages that are lost between beat and the worker are noticed and sent again."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django_celery_beat.models import PeriodicTask

from markets import tasks
from monitoring import due
from monitoring.due import DueWatch
from monitoring.monitor import Monitor
from tests.desk import ist
from tests.histories import seed_days
from tests.monitoring.desks import ALIASES
from tradingsite import clock
from tradingsite.celery import app
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling import beat, jobs
from tradingsite.supervision.heartbeat import Beat

pytestmark = pytest.mark.django_db(databases=ALIASES)


class Day:
    """A market day that the watch looks at, a second of real time a look."""

    def __init__(self, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
        self._set_market = set_market
        self._real = clock.real()
        monkeypatch.setattr(clock, "real", lambda: self._real)
        monkeypatch.setattr(due, "stands_still", lambda: False)
        seed_days("nifty")
        beat.sync()
        self.watch: DueWatch

    def begin(self, at: str) -> None:
        """Have a watch that has looked up to an instant."""
        self._set_market(ist(at))
        self.watch = DueWatch()
        self.later(61)
        self.watch.look()

    def later(self, seconds: float) -> None:
        """Let real time pass."""
        self._real += dt.timedelta(seconds=seconds)

    def look(self, at: str, seconds: float = 15.0) -> int:
        """Look again at a market time."""
        self.later(seconds)
        self._set_market(ist(at))
        return self.watch.look()


@pytest.fixture
def day(set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Day:
    made = Day(set_market, monkeypatch)
    made.begin("2026-06-01 09:10")
    JobRun.objects.all().delete()
    return made


def waiting() -> list[tuple[str, str]]:
    """Return the firings that wait for a worker."""
    rows = JobRun.objects.filter(state="pending").order_by("scheduled_for", "job")
    return [(row.job, f"{row.scheduled_for.astimezone(clock.IST):%H:%M}") for row in rows]


def test_a_firing_that_nobody_heard_of_gets_a_record_that_waits(day: Day) -> None:
    JobRun.objects.create(job="security-check", scheduled_for=ist("2026-06-01 09:00"))
    JobRun.objects.update(state="done")
    assert day.look("2026-06-01 09:15") == 0  # not within its grace: 16 minutes at 48 times
    assert day.look("2026-06-01 09:18") == 1
    assert waiting() == [("token-refresh", "09:00")]
    assert day.look("2026-06-01 09:19") == 0


def test_it_is_sent_again_by_the_monitor_and_done_by_a_worker(
    day: Day, queue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("markets.capture.token_refresh.ensure_token", lambda run: "signed in")
    day.look("2026-06-01 09:18")
    monitor = Monitor(Beat("server-monitor"))
    monitor.step()
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("prod").get(timeout=5)
        message.ack()
    assert message.headers["task"] in {
        "markets.tasks.refresh_token",
        "monitoring.tasks.security_check",
    }
    tasks.refresh_token(ist("2026-06-01 09:00").isoformat())
    run = JobRun.objects.get(job="token-refresh")
    assert (run.state, run.detail) == ("done", "signed in")
    assert not Notice.objects.filter(key="job:token-refresh", resolved_at=None).exists()


@pytest.mark.parametrize(
    ("at", "job"),
    [
        ("2026-06-07 15:55", "straddle-stop"),  # a Sunday
        ("2026-06-01 15:50", "straddle-start"),  # not wanted any more once it has begun
    ],
)
def test_what_is_not_wanted_is_not_missed(
    at: str, job: str, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Day(set_market, monkeypatch)
    JobRun.objects.create(job="straddle-start", scheduled_for=ist("2026-06-01 09:15"), state="done")
    made.begin(f"{at[:10]} 15:30")
    JobRun.objects.filter(state="pending").delete()
    made.look(at)
    assert job not in [name for name, _ in waiting()]


def test_the_straddles_stop_is_missed_at_the_very_close(day: Day) -> None:
    day.begin("2026-06-01 15:40")
    JobRun.objects.all().delete()
    day.look("2026-06-01 15:55")
    assert ("straddle-stop", "15:30") in waiting()
    assert [each for each in waiting() if each[0] == "straddle-stop"] == [
        ("straddle-stop", "15:30")
    ]


def test_of_what_fell_due_while_nobody_watched_only_what_is_worth_something_is_asked_for(
    day: Day,
) -> None:
    JobRun.objects.create(job="backups", scheduled_for=ist("2026-05-20 20:30"), state="done")
    assert day.look("2026-06-02 10:00", seconds=3600) == 0  # asleep: beat catches up first
    assert day.look("2026-06-02 10:01") == 0
    day.look("2026-06-02 10:02", seconds=50)
    found = dict(waiting())
    assert found["security-check"] == "09:45"
    assert "morning-brief" not in found  # an hour old is worth nothing
    assert [name for name, _ in waiting()].count("security-check") == 1
    assert "demotion" not in found  # no slot takes part
    assert "nifty-training" not in found  # 15 hours, of yesterday 16:15: over


def test_a_desk_that_was_just_set_up_owes_nothing(
    set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Day(set_market, monkeypatch)
    made.begin("2026-06-01 10:00")
    assert waiting() == []


def test_a_paused_job_is_not_missed(day: Day) -> None:
    PeriodicTask.objects.filter(name="token-refresh").update(enabled=False)
    day.look("2026-06-01 09:18")
    assert waiting() == [("security-check", "09:00")]


def test_a_clock_set_back_asks_for_nothing_twice(day: Day) -> None:
    day.look("2026-06-01 09:18")
    before = waiting()
    assert day.look("2026-06-01 08:00") == 0
    assert waiting() == before


def test_a_calendar_that_does_not_answer_is_asked_again(
    day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = jobs.asks

    def away(*arguments: Any) -> Any:
        raise OperationalError("no answer")

    monkeypatch.setattr(jobs, "asks", away)
    assert day.look("2026-06-01 09:18") == 0
    monkeypatch.setattr(jobs, "asks", true)
    assert day.look("2026-06-01 09:18") == 2
