"""Firings that were due and of which no worker has heard: a message is lost with its queue.

Beat marks a firing as sent, a worker makes its record; what lies between is Valkey's memory. So the
schedule is held to the records: a firing without one, where it is wanted, gets one that waits, and
`jobs.recover_lapsed` sends its message again, or tells that it was missed. What fell due while
nobody watched (a machine asleep, a desk that was stopped) is beat's to send, the newest of each;
of these only what is still worth something is looked for.
"""

import datetime as dt
import logging

from django_celery_beat.models import PeriodicTask

from monitoring.dashboard.books import DOES_NOT_ANSWER
from monitoring.watch import stands_still
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling import beat, jobs
from tradingsite.scheduling.schedules import ALL, Job

# How long a message may wait for its worker: market seconds, or real ones in a fast market.
GRACE_MARKET_SECONDS = 120.0
GRACE_REAL_SECONDS = 20.0
# A pause between two looks, in real time, after which what fell due in it went by unwatched.
UNWATCHED = dt.timedelta(minutes=2)
# Real time in which beat, started beside this or awake again, sends the newest of what was missed.
CATCHING_UP = dt.timedelta(seconds=60)

log = logging.getLogger(__name__)


class DueWatch:
    """Give a record to every firing that was due, is wanted and has none."""

    def __init__(self) -> None:
        self._until: dt.datetime | None = None
        self._looked_at = self._began = clock.real()

    def look(self) -> int:
        """Look at what fell due since the last look; return how many firings were lost."""
        if stands_still():
            return 0
        grace = max(GRACE_MARKET_SECONDS, GRACE_REAL_SECONDS * clock.speed())
        until, now = clock.market() - dt.timedelta(seconds=grace), clock.real()
        went_on = now - self._looked_at < UNWATCHED
        since, self._looked_at = self._until, now
        if not went_on or (since is not None and since > until):
            since = self._until = None
            self._began = now
        if since is None and now - self._began < CATCHING_UP:
            return 0
        try:
            lost = [name for job in _watched() for name in self._look_at(job, since, until)]
        except DOES_NOT_ANSWER as error:  # a market's calendar: asked again at the next look
            log.warning("what was due cannot be told: %s", error)
            return 0
        self._until = until
        return len(lost)

    def _look_at(
        self, job: Job, since: dt.datetime | None, until: dt.datetime
    ) -> list[dt.datetime]:
        due = _due(job, since, until)
        runs = JobRun.objects.filter(job=job.name, scheduled_for__in=due)
        known = set(runs.values_list("scheduled_for", flat=True))
        lost = [at for at in due if at not in known and _is_wanted(job, at)]
        for at in lost:
            log.warning(
                "no worker has heard of %s of %s; it is asked for again",
                job.name,
                f"{at.astimezone(clock.IST):%d %b %H:%M} IST",
            )
            jobs.find_or_create(job.name, at)
        return lost


def _watched() -> list[Job]:
    """Return the jobs that are not paused; one of each minute is overtaken by its next firing."""
    paused = set(PeriodicTask.objects.filter(enabled=False).values_list("name", flat=True))
    return [job for job in ALL.values() if job.minute != "*" and job.name not in paused]


def _due(job: Job, since: dt.datetime | None, until: dt.datetime) -> list[dt.datetime]:
    fires = beat.crontab_of(job)
    if since is not None:
        return list(beat.firings(fires, since, until))
    newest = beat.newest_firing(fires, until)
    if newest is None or until - newest > dt.timedelta(seconds=job.expires_seconds):
        return []
    # A desk that has just been set up owes nothing to the days before it.
    return [newest] if JobRun.objects.filter(scheduled_for__lt=newest).exists() else []


def _is_wanted(job: Job, at: dt.datetime) -> bool:
    try:
        jobs.asks(job)(at)
    except jobs.NotWanted:
        return False
    except jobs.Skipped:
        return True  # with a record that says why
    return True
