"""Job runs: PostgreSQL remembers what fired and what came of it; Celery only wakes things up.

A message carries the job's name and the firing it is for, and gives no right by itself: the unique
row (job, scheduled_for) is claimed by a lease, so a second delivery meets a finished row or a live
lease and returns.
"""

import datetime as dt
import traceback
from collections.abc import Callable
from functools import partial

from celery import current_app
from django.db.models.functions import Now

from tradingsite import clock, leases, notices
from tradingsite.models import JobRun
from tradingsite.schedules import ALL

MAX_ATTEMPTS = 3
UNFINISHED = (JobRun.State.PENDING, JobRun.State.RUNNING)


class Skipped(Exception):
    """The job had nothing to do at this firing; the reason is the message."""


class NotWanted(Exception):
    """The firing is outside the job's window, so not even a record of it is kept."""


def perform(
    name: str,
    scheduled_for: str,
    body: Callable[[JobRun], str] | None,
    wanted: Callable[[dt.datetime], None] = lambda scheduled_for: None,
) -> JobRun | None:
    """Run one firing of a job once, whatever is delivered twice or killed half-way.

    1. ask `wanted` about the firing's time: NotWanted ends it without a trace, Skipped is recorded;
    2. find or create the firing's row; 3. claim it, or return None; 4. run the body, which returns
    a sentence about what it did; 5. record the outcome under the lease. A body of None records the
    honest "not built yet" of the schedule's table. A failure is recorded, noticed and raised.
    """
    at = dt.datetime.fromisoformat(scheduled_for)
    try:
        wanted(at)
    except NotWanted:
        return None
    except Skipped as reason:
        body = partial(_skip, reason)
    run = find_or_create(name, at)
    if run.state not in UNFINISHED:
        return None
    claimed = leases.claim(run, state__in=UNFINISHED)
    if claimed is None:
        return None
    leases.write(claimed, state=JobRun.State.RUNNING, started_at=clock.real())
    with leases.kept(claimed):
        state, detail = _outcome(name, claimed, body)
    leases.release(claimed, state=state, detail=detail, finished_at=clock.real())
    if state == JobRun.State.DONE:
        notices.resolve(f"job:{name}")
    return claimed


def recover_lapsed() -> int:
    """Ask again for firings whose worker died; return how many. One that keeps dying is failed."""
    lapsed = JobRun.objects.filter(state=JobRun.State.RUNNING, lease_until__lt=Now())
    for run in lapsed:
        job = ALL.get(run.job)
        if job and run.fence < MAX_ATTEMPTS:
            at = run.scheduled_for.isoformat()
            current_app.send_task(job.task, kwargs={"scheduled_for": at}, queue=job.queue)
        elif claimed := leases.claim(run, state=JobRun.State.RUNNING):
            _fail(claimed, f"its worker died {run.fence} times")
    return len(lapsed)


def _skip(reason: Skipped, run: JobRun) -> str:
    raise reason


def _outcome(name: str, run: JobRun, body: Callable[[JobRun], str] | None) -> tuple[str, str]:
    if body is None:
        return JobRun.State.NOT_BUILT, f"not built yet: {ALL[name].not_built}"
    try:
        return JobRun.State.DONE, body(run)
    except Skipped as reason:
        return JobRun.State.SKIPPED, str(reason)
    except Exception as error:
        _fail(run, str(error) or type(error).__name__, traceback.format_exc(limit=-3))
        raise


def _fail(run: JobRun, reason: str, detail: str = "") -> None:
    leases.release(
        run, state=JobRun.State.FAILED, detail=detail or reason, finished_at=clock.real()
    )
    title = ALL[run.job].title if run.job in ALL else run.job
    notices.notify(
        "infrastructure",
        "critical",
        f"job:{run.job}",
        f"{title} failed: {reason}. It runs again at its next time; the job run's record has what "
        f"is known.",
    )


def find_or_create(name: str, scheduled_for: dt.datetime) -> JobRun:
    """Return the row of one firing; two callers at once get the same one."""
    if name not in ALL:
        raise ValueError(f"there is no job {name!r}")
    run, _ = JobRun.objects.get_or_create(job=name, scheduled_for=scheduled_for)
    return run
