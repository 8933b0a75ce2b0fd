"""Job runs: once each, whatever is delivered."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from tradingsite import clock, jobs, leases
from tradingsite.models import JobRun, Notice

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
    jobs.perform("pnl-chart", AT, count(calls))
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

    assert jobs.perform("options-collector", AT, count(calls), closed) is None
    assert jobs.perform("options-collector", AT, None, closed) is None
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


def test_firings_whose_worker_died_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(
        jobs.current_app, "send_task", lambda name, **options: sent.append((name, options))
    )
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
    assert sent == [
        (
            "markets.tasks.collect_options",
            {"kwargs": {"scheduled_for": AT}, "queue": "collect"},
        )
    ]
    dead = JobRun.objects.get(job="pnl-chart")
    assert dead.state == JobRun.State.FAILED and "died 3 times" in dead.detail
