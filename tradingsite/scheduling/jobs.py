"""Job runs: PostgreSQL remembers what fired and what came of it; Celery only wakes things up.

A message carries the job's name and the firing it is for, and gives no right by itself: a firing is
an instant of the job's own schedule that is not ahead of the clock, and its unique row (job,
scheduled_for) is claimed by a lease, so a second delivery meets a finished row or a live lease and
returns. Two firings of one job never run at the same time.
"""

import datetime as dt
import logging
import traceback
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from celery import current_app
from celery.schedules import crontab
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.module_loading import import_string

from tradingsite import clock, notices
from tradingsite.errors import Degraded, cause
from tradingsite.models import JobRun
from tradingsite.scheduling import leases
from tradingsite.scheduling.schedules import ALL, Job

MAX_ATTEMPTS = 3
UNFINISHED = (JobRun.State.PENDING, JobRun.State.RUNNING)
# How far two machines' clocks, or two readings of the market's, may be apart.
CLOCKS_APART_SECONDS = 60.0
CLOCKS_APART_REAL_SECONDS = 5.0
ASK_AGAIN_AFTER = dt.timedelta(seconds=60)
"""Real time that a message is given to find a worker before it is sent once more."""
LATEST_SECONDS = 86_400.0
"""Market time after which a firing that was never asked for again is not asked for any more."""
# The space of the advisory locks that let one firing of a job be claimed at a time.
CLAIMING = 7_307

log = logging.getLogger(__name__)
Wanted = Callable[[dt.datetime], None]


class Skipped(Exception):
    """The job had nothing to do at this firing; the reason is the message."""


class NotWanted(Exception):
    """The firing is outside the job's window, so not even a record of it is kept."""


class Fulfilled(NotWanted):
    """What the job is for is there already, so what it failed at before is over."""


class NoFiring(Degraded):
    """The instant is none of the job's schedule, or has not come yet."""


def perform(
    name: str,
    scheduled_for: str,
    body: Callable[[JobRun], str] | None,
    wanted: Wanted | None = None,
) -> JobRun | None:
    """Run one firing of a job once, whatever is delivered twice or killed half-way.

    1. ask `wanted`, else the schedule's own, about the firing's time: NotWanted ends it without a
    trace, Skipped is recorded; 2. find or create the firing's row; 3. claim it, or return None;
    4. run the body, which returns a sentence about what it did; 5. record the outcome under the
    lease. A body of None records the honest "not built yet" of the schedule's table. A failure is
    recorded, noticed and raised; what is no firing of the job raises NoFiring and leaves no record.
    """
    at = firing(name, scheduled_for)
    try:
        (wanted or asks(ALL[name]))(at)
    except NotWanted as reason:
        _leave(name, at, reason)
        return None
    except Skipped as reason:
        body = partial(_skip, reason)
    run = find_or_create(name, at)
    if run.state not in UNFINISHED:
        return None
    claimed = _claim(run)
    if claimed is None:
        return None
    with leases.kept(claimed):
        state, detail = _outcome(name, claimed, body)
    leases.release(claimed, state=state, detail=detail, finished_at=clock.real())
    if state == JobRun.State.DONE:
        notices.resolve(notice_key(name))
    return claimed


def firing(name: str, scheduled_for: str) -> dt.datetime:
    """Return the instant a message is for; raise NoFiring where the job's schedule has it not."""
    at, job = dt.datetime.fromisoformat(scheduled_for), known(name)
    if at.tzinfo is None or not is_scheduled(job, at):
        raise NoFiring(f"{job.title} does not fire at {scheduled_for}; nothing was done")
    ahead = (at - clock.market()).total_seconds()
    if ahead > clocks_apart():
        local = at.astimezone(clock.IST)
        raise NoFiring(
            f"{job.title} of {local:%d %b %H:%M} IST lies {ahead:.0f} s ahead: a clock is wrong; "
            f"nothing was done, and it runs when its time has come"
        )
    return at


def known(name: str) -> Job:
    """Return a job of the tables; raise ValueError where there is none of the name."""
    if name not in ALL:
        raise ValueError(f"there is no job {name!r}")
    return ALL[name]


def is_scheduled(job: Job, at: dt.datetime) -> bool:
    """Return whether an instant is one of a job's schedule."""
    fires, local = _crontab(job), at.astimezone(clock.IST)
    return (
        local.second == local.microsecond == 0
        and local.minute in fires.minute
        and local.hour in fires.hour
        and local.day in fires.day_of_month
    )


def asks(job: Job) -> Wanted:
    """Return what a job's schedule names to say whether a firing is wanted."""
    return import_string(job.wanted) if job.wanted else lambda at: None


def clocks_apart() -> float:
    """Return the market seconds by which two readings of its clock may differ."""
    return max(CLOCKS_APART_SECONDS, CLOCKS_APART_REAL_SECONDS * clock.speed())


def recover_lapsed() -> int:
    """Ask again for firings that lost their worker or that none has heard of; return how many.

    One that keeps killing its worker is failed; one that no worker took within its time is missed.
    """
    heard_of = clock.market() - dt.timedelta(seconds=clocks_apart())
    waiting = JobRun.objects.filter(
        Q(state=JobRun.State.RUNNING, lease_until__lt=Now())
        | Q(state=JobRun.State.PENDING, lease_until=None, scheduled_for__lt=heard_of)
    )
    asked_before = clock.real() - ASK_AGAIN_AFTER
    return sum(
        _recover(run)
        for run in waiting
        if run.asked_again_at is None or run.asked_again_at < asked_before
    )


def _recover(run: JobRun) -> bool:
    job = ALL.get(run.job)
    if job is None or run.fence >= MAX_ATTEMPTS:
        claimed = leases.claim(run, state__in=UNFINISHED)
        if claimed:
            died = f"its worker died {run.fence} times"
            _fail(claimed, died if job else "the job has left the schedule")
        return claimed is not None
    age = (clock.market() - run.scheduled_for).total_seconds()
    never_asked = run.asked_again_at is None and age <= LATEST_SECONDS
    is_worth_it = age <= job.expires_seconds or never_asked
    if run.state == JobRun.State.PENDING and not is_worth_it:
        return _miss(job, run)
    JobRun.objects.filter(pk=run.pk).update(asked_again_at=clock.real())
    current_app.send_task(
        job.task,
        kwargs={"scheduled_for": run.scheduled_for.isoformat()},
        queue=job.queue,
        expires=2 * ASK_AGAIN_AFTER.total_seconds(),
    )
    return True


def _miss(job: Job, run: JobRun) -> bool:
    """Record and tell that no worker took a firing within its time."""
    claimed = leases.claim(run, state=JobRun.State.PENDING)
    if claimed is None:
        return False
    at = run.scheduled_for.astimezone(clock.IST)
    again = ", though it was asked for again" if run.asked_again_at else ""
    reason = f"no worker took it within {job.expires_seconds // 60} min of market time"
    leases.release(claimed, state=JobRun.State.MISSED, detail=reason, finished_at=clock.real())
    notices.notify(
        "infrastructure",
        "critical",
        notice_key(job.name),
        f"{job.title} of {at:%d %b %H:%M} IST did not run: {reason}{again}. It runs at its "
        f"next time; look at beat and the worker.",
    )
    return True


def ahead_of_clock() -> list[JobRun]:
    """Return the runs that were done before their time by the clock of now.

    None in a simulated market, which may be set back on purpose.
    """
    if clock.simulated() is not None:
        return []
    ahead = clock.real() + dt.timedelta(seconds=clocks_apart())
    # What began in the future is due still where its hour has only just passed.
    still_due = Q(started_at__gt=ahead, scheduled_for__gt=clock.real() - dt.timedelta(hours=1))
    rows = JobRun.objects.filter(Q(scheduled_for__gt=ahead) | still_due)
    return list(rows.exclude(state=JobRun.State.PENDING))


def take_back(runs: Iterable[JobRun]) -> None:
    """Have runs wait for their time again: a clock that ran ahead had done them too early."""
    for run in runs:
        JobRun.objects.filter(pk=run.pk, fence=run.fence).update(
            state=JobRun.State.PENDING,
            detail=f"the clock ran ahead ({run.state} then); it runs when its time has come",
            fence=0 if run.lease_until is None else run.fence + 1,
            lease_until=None,
            started_at=None,
            finished_at=None,
            asked_again_at=None,
        )


def notice_key(name: str) -> str:
    """Return the key of the notice that a job failed."""
    return f"job:{name}"


def find_or_create(name: str, scheduled_for: dt.datetime) -> JobRun:
    """Return the row of one firing; two callers at once get the same one."""
    known(name)
    run, _ = JobRun.objects.get_or_create(job=name, scheduled_for=scheduled_for)
    return run


@lru_cache
def _crontab(job: Job) -> crontab:
    return crontab(minute=job.minute, hour=job.hour, day_of_month=job.day_of_month)


def _leave(name: str, at: dt.datetime, reason: NotWanted) -> None:
    """End what stands open of a firing that is not wanted."""
    if isinstance(reason, Fulfilled):
        notices.resolve(notice_key(name))
    asked = JobRun.objects.filter(job=name, scheduled_for=at, state=JobRun.State.PENDING)
    asked.filter(lease_until=None).update(
        state=JobRun.State.SKIPPED, detail="not wanted any more", finished_at=clock.real()
    )


def _claim(run: JobRun) -> JobRun | None:
    """Claim a firing's row; where another firing of the job is at work, record this as skipped."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [CLAIMING, run.job])
        others = JobRun.objects.filter(
            job=run.job, state=JobRun.State.RUNNING, lease_until__gte=Now()
        )
        busy = others.exclude(pk=run.pk).first()
        claimed = leases.claim(run, state__in=UNFINISHED)
        if claimed is None:
            return None
        if busy is None:
            leases.write(claimed, state=JobRun.State.RUNNING, started_at=clock.real())
            return claimed
        fired = busy.scheduled_for.astimezone(clock.IST)
        leases.release(
            claimed,
            state=JobRun.State.SKIPPED,
            detail=f"the run of {fired:%d %b %H:%M} IST was still at it",
            started_at=clock.real(),
            finished_at=clock.real(),
        )
    return None


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
        _fail(run, cause(error), traceback.format_exc(limit=-3))
        raise


def _fail(run: JobRun, reason: str, detail: str = "") -> None:
    leases.release(
        run, state=JobRun.State.FAILED, detail=detail or reason, finished_at=clock.real()
    )
    title = ALL[run.job].title if run.job in ALL else run.job
    notices.notify(
        "infrastructure",
        "critical",
        notice_key(run.job),
        f"{title} failed: {reason.removesuffix('.')}. It runs again at its next time; the job "
        f"run's record has what is known.",
    )
