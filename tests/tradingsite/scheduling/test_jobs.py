"""Job runs: once each, whatever is delivered."""

import datetime as dt
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils.module_loading import import_string

from tradingsite import clock, notices
from tradingsite.errors import Degraded
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling import jobs, leases

pytestmark = pytest.mark.django_db

AT = "2026-06-01T15:00:00+00:00"


def count(calls: list[int]) -> Callable[[JobRun], str]:
    """Return a body that counts its calls."""

    def body(run: JobRun) -> str:
        calls.append(run.pk)
        return "did it"

    return body


def test_a_firing_runs_once_however_often_it_is_delivered() -> None:
    calls: list[int] = []
    first = jobs.perform("backups", AT, count(calls))
    assert first is not None
    assert jobs.perform("backups", AT, count(calls)) is None
    assert jobs.perform("backups", "2026-06-01T20:30:00+05:30", count(calls)) is None
    assert len(calls) == 1
    run = JobRun.objects.get()
    assert (run.state, run.detail, run.lease_until) == ("done", "did it", None)
    assert run.started_at and run.finished_at and run.started_at <= run.finished_at


def test_another_firing_is_another_run() -> None:
    calls: list[int] = []
    jobs.perform("backups", AT, count(calls))
    jobs.perform("backups", "2026-06-02T15:00:00+00:00", count(calls))
    jobs.perform("pnl-chart", "2026-06-01T16:05:00+05:30", count(calls))
    assert len(calls) == 3


def test_a_run_in_progress_elsewhere_is_left_alone() -> None:
    calls: list[int] = []
    run = jobs.find_or_create("backups", dt.datetime.fromisoformat(AT))
    assert leases.claim(run)
    assert jobs.perform("backups", AT, count(calls)) is None
    assert calls == []


def test_a_run_whose_worker_died_is_taken_over() -> None:
    calls: list[int] = []
    run = jobs.find_or_create("backups", dt.datetime.fromisoformat(AT))
    lapsed = clock.real() - dt.timedelta(seconds=1)
    JobRun.objects.update(state="running", lease_until=lapsed, fence=1)
    done = jobs.perform("backups", AT, count(calls))
    assert done is not None and done.pk == run.pk
    assert done.fence == 2


def test_without_a_body_it_says_honestly_that_it_is_not_built() -> None:
    jobs.perform("backups", AT, None)
    run = JobRun.objects.get()
    assert run.state == JobRun.State.NOT_BUILT
    assert run.detail.startswith("not built yet: ")
    assert Notice.objects.count() == 0


def test_a_failure_is_recorded_noticed_and_raised() -> None:
    def body(run: JobRun) -> str:
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError):
        jobs.perform("backups", AT, body)
    run = JobRun.objects.get()
    assert run.state == JobRun.State.FAILED and run.lease_until is None
    assert "disk on fire" in run.detail and "Traceback" in run.detail
    notice = Notice.objects.get()
    assert notice.severity == "critical" and "Backups failed: disk on fire" in notice.text
    jobs.perform("backups", "2026-06-02T15:00:00+00:00", count([]))
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_outside_its_window_a_firing_leaves_no_trace() -> None:
    calls: list[int] = []

    def closed(at: dt.datetime) -> None:
        raise jobs.NotWanted

    assert jobs.perform("straddle-start", AT, count(calls), closed) is None
    assert jobs.perform("straddle-start", AT, None, closed) is None
    assert JobRun.objects.count() == 0 and calls == []


def test_a_skipped_firing_says_why() -> None:
    def holiday(at: dt.datetime) -> None:
        raise jobs.Skipped(f"no session on {at:%d %b}")

    jobs.perform("straddle-start", AT, None, holiday)
    run = JobRun.objects.get()
    assert (run.state, run.detail) == ("skipped", "no session on 01 Jun")

    def nothing(run: JobRun) -> str:
        raise jobs.Skipped("nothing to do")

    jobs.perform("backups", AT, nothing)
    assert JobRun.objects.get(job="backups").detail == "nothing to do"


def test_an_unknown_job_is_refused() -> None:
    with pytest.raises(ValueError, match="no job 'nonsense'"):
        jobs.perform("nonsense", AT, None)


Sent = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Return the messages that are sent again, in place of sending them."""
    found: Sent = []
    monkeypatch.setattr(
        jobs.current_app, "send_task", lambda name, **options: found.append((name, options))
    )
    return found


def test_firings_whose_worker_died_are_asked_for_again_and_not_every_time(sent: Sent) -> None:
    lapsed = clock.real() - dt.timedelta(seconds=1)
    at = dt.datetime.fromisoformat(AT)
    alive = clock.real() + dt.timedelta(seconds=30)
    JobRun.objects.create(job="backups", scheduled_for=at, state="running", lease_until=alive)
    JobRun.objects.create(
        job="options-collector", scheduled_for=at, state="running", lease_until=lapsed, fence=1
    )
    JobRun.objects.create(
        job="pnl-chart", scheduled_for=at, state="running", lease_until=lapsed, fence=3
    )
    assert jobs.recover_lapsed() == 2
    message = {"kwargs": {"scheduled_for": AT}, "queue": "collect", "expires": 120.0}
    assert sent == [("markets.tasks.collect_options", message)]
    dead = JobRun.objects.get(job="pnl-chart")
    assert dead.state == JobRun.State.FAILED and "died 3 times" in dead.detail
    assert jobs.recover_lapsed() == 0 and len(sent) == 1
    JobRun.objects.update(asked_again_at=clock.real() - 2 * jobs.ASK_AGAIN_AFTER)
    assert jobs.recover_lapsed() == 1 and len(sent) == 2


def test_a_firing_that_no_worker_heard_of_is_asked_for_again_then_missed(
    sent: Sent, set_market: Callable[..., None]
) -> None:
    at = dt.datetime.fromisoformat("2026-06-01T09:00:00+05:30")
    set_market(at + dt.timedelta(minutes=5))
    run = jobs.find_or_create("token-refresh", at)
    assert jobs.recover_lapsed() == 1 and jobs.recover_lapsed() == 0
    assert [name for name, _ in sent] == ["markets.tasks.refresh_token"]
    JobRun.objects.update(asked_again_at=clock.real() - 2 * jobs.ASK_AGAIN_AFTER)
    set_market(at + dt.timedelta(minutes=15))
    jobs.recover_lapsed()
    run.refresh_from_db()
    assert (run.state, len(sent)) == (JobRun.State.MISSED, 1)
    notice = Notice.objects.get(key="job:token-refresh")
    assert "Broker token refresh of 01 Jun 09:00 IST did not run" in notice.text


def test_what_waited_for_more_than_a_day_is_missed_unasked(
    sent: Sent, set_market: Callable[..., None]
) -> None:
    at = dt.datetime.fromisoformat("2026-06-01T16:15:00+05:30")
    set_market(at + dt.timedelta(days=2))
    jobs.find_or_create("nifty-training", at)
    assert jobs.recover_lapsed() == 1 and sent == []
    assert JobRun.objects.get().state == JobRun.State.MISSED


def test_a_row_of_this_moment_is_its_workers(sent: Sent, set_market: Callable[..., None]) -> None:
    at = dt.datetime.fromisoformat("2026-06-01T09:00:00+05:30")
    set_market(at + dt.timedelta(seconds=5))
    jobs.find_or_create("token-refresh", at)
    assert jobs.recover_lapsed() == 0 and sent == []


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("backups", "2026-06-01T20:31:00+05:30"),  # another minute
        ("backups", "2026-06-01T20:30:07+05:30"),
        ("backups", "2026-06-01T20:30:00"),  # of no zone
        ("allocator", "2026-06-01T20:30:00+05:30"),
    ],
)
def test_what_the_schedule_has_not_is_no_firing(name: str, at: str) -> None:
    with pytest.raises(jobs.NoFiring, match="does not fire at"):
        jobs.perform(name, at, count([]))
    assert JobRun.objects.count() == 0


def test_a_firing_ahead_of_the_clock_is_not_performed(set_market: Callable[..., None]) -> None:
    calls: list[int] = []
    at = dt.datetime.fromisoformat(AT)
    set_market(at - dt.timedelta(hours=2))
    with pytest.raises(jobs.NoFiring, match="lies 7200 s ahead: a clock is wrong"):
        jobs.perform("backups", AT, count(calls))
    assert calls == [] and JobRun.objects.count() == 0
    set_market(at)
    assert jobs.perform("backups", AT, count(calls)) is not None


def tomorrow(hour: int, minute: int = 0) -> dt.datetime:
    """Return a time of the day after the real one, in India."""
    day = clock.trading_date(clock.real()) + dt.timedelta(days=1)
    return dt.datetime.combine(day, dt.time(hour, minute), clock.IST)


def test_what_was_done_under_a_clock_that_ran_ahead_is_done_at_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    true = clock.real
    at = tomorrow(20, 30)
    for name in ("real", "market"):  # the machine's clock, a day and more ahead
        monkeypatch.setattr(clock, name, lambda: at + dt.timedelta(seconds=3))
    assert jobs.perform("backups", at.isoformat(), count(calls)) is not None
    for name in ("real", "market"):
        monkeypatch.setattr(clock, name, true)
    jobs.take_back(jobs.ahead_of_clock())
    assert jobs.ahead_of_clock() == []
    run = JobRun.objects.get()
    assert (run.state, run.started_at, run.finished_at) == (JobRun.State.PENDING, None, None)
    assert "the clock ran ahead" in run.detail
    assert jobs.recover_lapsed() == 0  # its time has not come
    for name in ("real", "market"):
        monkeypatch.setattr(clock, name, lambda: at + dt.timedelta(seconds=3))
    assert jobs.perform("backups", at.isoformat(), count(calls)) is not None
    assert len(calls) == 2


def test_a_market_set_back_forgets_nothing(set_market: Callable[..., None]) -> None:
    jobs.perform("backups", AT, count([]))
    set_market(dt.datetime.fromisoformat(AT) - dt.timedelta(days=30))
    assert jobs.ahead_of_clock() == []


@pytest.mark.django_db(transaction=True)
def test_two_firings_of_one_job_do_not_run_at_once() -> None:
    begun, go_on, running, most = threading.Event(), threading.Event(), [0], [0]

    def body(run: JobRun) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        begun.set()
        assert go_on.wait(10)
        running[0] -= 1
        return "did it"

    def fire(minute: int) -> None:
        try:
            jobs.perform("instruments", f"2026-06-01T09:{minute:02}:00+05:30", body, always)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fire, 5)
        assert begun.wait(10)
        pool.submit(fire, 10).result(10)
        go_on.set()
        first.result(10)
    assert most == [1]
    done, left = JobRun.objects.order_by("scheduled_for")
    assert (done.state, left.state) == ("done", "skipped")
    assert left.detail == "the run of 01 Jun 09:05 IST was still at it"


def always(at: dt.datetime) -> None:
    """Want every firing."""


def test_a_dead_run_of_before_keeps_no_other_from_running() -> None:
    lapsed = clock.real() - dt.timedelta(seconds=1)
    before = dt.datetime.fromisoformat(AT) - dt.timedelta(days=1)
    JobRun.objects.create(job="backups", scheduled_for=before, state="running", lease_until=lapsed)
    run = jobs.perform("backups", AT, count([]))
    assert run is not None and run.state == "done"


def test_what_is_there_already_ends_the_failure_of_before() -> None:
    def fails(run: JobRun) -> str:
        raise RuntimeError("duplicate key")

    def is_here(at: dt.datetime) -> None:
        raise jobs.Fulfilled

    with pytest.raises(RuntimeError):
        jobs.perform("backups", AT, fails)
    assert jobs.perform("backups", "2026-06-02T15:00:00+00:00", None, is_here) is None
    assert notices.open_keys("job:") == set()
    # Outside its window a job says nothing of what failed before.
    with pytest.raises(RuntimeError):
        jobs.perform("backups", "2026-06-03T15:00:00+00:00", fails)

    def closed(at: dt.datetime) -> None:
        raise jobs.NotWanted

    jobs.perform("backups", "2026-06-04T15:00:00+00:00", None, closed)
    assert notices.open_keys("job:") == {"job:backups"}


def test_a_failure_tells_the_cause_and_not_what_postgresql_says_below_it() -> None:
    def body(run: JobRun) -> str:
        raise OperationalError(
            "could not extend file: No space left on device\nHINT:  Check free disk space.\n"
            "CONTEXT:  COPY markets_bar, line 3010"
        )

    with pytest.raises(OperationalError):
        jobs.perform("backups", AT, body)
    text = Notice.objects.get().text
    assert "Backups failed: could not extend file: No space left on device. It runs" in text
    assert "CONTEXT" not in text


@pytest.mark.parametrize(("error", "has_traceback"), [(Degraded, False), (KeyError, True)])
def test_a_job_that_fails_as_it_may_logs_no_traceback(
    error: type[Exception],
    has_traceback: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> None:
        raise error("there is no token of the day")

    monkeypatch.setattr(jobs, "perform", fails)
    with caplog.at_level("INFO", "celery.app.trace"):
        import_string("markets.tasks.allocate").apply(["x"], throw=False)
    assert "there is no token of the day" in caplog.text
    assert ("Traceback" in caplog.text) is has_traceback
