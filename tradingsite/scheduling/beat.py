"""Beat on market time: django-celery-beat's scheduler with the overrides the market's clock needs.

At 480 times real speed the stock scheduler fires nothing: it reads the wall clock in several
places, and its heap counts real seconds, which mean nothing once the speed changes. Here each pass
compares every crontab with the market's time, so a clock that jumps, brakes or stands still needs
no special case, and each message says which firing it is for.

A firing is marked as done only once its message is with the queue; one sent twice does no harm,
because the job's row is unique. Firings missed by a busy machine are all sent; after a longer
absence only the newest one of each job is.
"""

import datetime as dt
import logging
from collections.abc import Iterator
from typing import Any

from celery.beat import SchedulingError
from django.db import transaction
from django.db.models import Q
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry
from django_celery_beat.tzcrontab import TzAwareCrontab

from tradingsite import clock
from tradingsite.scheduling.schedules import ALL, Job
from tradingsite.supervision.heartbeat import Beat

SIMULATED_LOOP_SECONDS = 0.2
# Real seconds: within them every missed firing is sent, beyond them only the newest.
CATCH_UP_SECONDS = 10.0
# Real seconds a message stays valid at least, or a fast market leaves it none.
EXPIRES_AFTER_SECONDS = 5.0
# A simulated day begins at 09:00 sharp, before beat is up, and 09:00 has jobs of its own.
FIRST_LOOK_BACK = dt.timedelta(minutes=30)
SAVED_EVERY_SECONDS = 15.0
LOOK_BACK = (dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=400))

log = logging.getLogger(__name__)


def sync() -> tuple[int, int]:
    """Write the schedule tables to beat's rows; return how many are there and how many left.

    What an operator paused stays paused; a changed time goes back to the code's; an entry that
    left the code is deleted, because beat would go on firing it.
    """
    with transaction.atomic():
        for job in ALL.values():
            crontab, _ = CrontabSchedule.objects.get_or_create(
                minute=job.minute,
                hour=job.hour,
                day_of_month=job.day_of_month,
                day_of_week="*",
                month_of_year="*",
                timezone="Asia/Kolkata",
            )
            PeriodicTask.objects.update_or_create(
                name=job.name,
                defaults={
                    "task": job.task,
                    "crontab": crontab,
                    "interval": None,
                    "queue": job.queue,
                    "expire_seconds": job.expires_seconds,
                    "description": job.title,
                },
            )
        left = PeriodicTask.objects.exclude(name__in=ALL)
        gone = left.count()
        left.delete()
        CrontabSchedule.objects.filter(periodictask__isnull=True).delete()
    PeriodicTasks.update_changed()
    return len(ALL), gone


def crontab_of(job: Job) -> TzAwareCrontab:
    """Return when a job of the tables fires."""
    return TzAwareCrontab(
        minute=job.minute, hour=job.hour, day_of_month=job.day_of_month, tz=clock.IST
    )


def firings(cron: TzAwareCrontab, after: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
    """Return the crontab's firings in (after, until], oldest first."""
    at = next_firing(cron, after)
    while at <= until:
        yield at
        at = next_firing(cron, at)


def next_firing(cron: TzAwareCrontab, after: dt.datetime) -> dt.datetime:
    """Return the crontab's first firing after an instant."""
    start, delta, _ = cron.remaining_delta(after.astimezone(cron.tz))
    found: dt.datetime = start + delta
    return found


def newest_firing(cron: TzAwareCrontab, until: dt.datetime) -> dt.datetime | None:
    """Return the crontab's last firing at or before an instant, None where it has none."""
    for back in LOOK_BACK:
        found = list(firings(cron, until - back, until))
        if found:
            return found[-1]
    return None


class MarketEntry(ModelEntry):
    """A schedule entry whose last run is the market time of the last firing it sent."""

    def __init__(self, model: PeriodicTask, app: Any = None) -> None:
        never_ran = model.last_run_at is None
        super().__init__(model, app=app)
        if never_ran:  # upstream takes the wall clock's time at which the row was written
            look_back = FIRST_LOOK_BACK if clock.simulated() else dt.timedelta(0)
            self.last_run_at = clock.market() - look_back

    def due(self, now: dt.datetime) -> list[dt.datetime]:
        """Return the firings to send now, oldest first."""
        # A market set back (another day, another mode) must not silence the job until then.
        last = self.last_run_at = min(self.last_run_at, now)
        if next_firing(self.schedule, last) > now:
            return []
        recent = now - dt.timedelta(seconds=CATCH_UP_SECONDS * clock.speed())
        found = list(firings(self.schedule, max(last, recent), now))
        newest = None if found else newest_firing(self.schedule, now)
        return [newest] if newest else found

    def mark(self, firing: dt.datetime) -> None:
        """Note that a firing is with the queue."""
        self.last_run_at = self.model.last_run_at = firing
        self.total_run_count = self.model.total_run_count = self.model.total_run_count + 1
        self.model.no_changes = True


class Scheduler(DatabaseScheduler):
    """The database scheduler on market time."""

    Entry = MarketEntry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heartbeat = Beat("beat")
        self._steadiness = clock.Steadiness()
        if clock.simulated():
            self.max_interval = SIMULATED_LOOP_SECONDS
            self.sync_every = SAVED_EVERY_SECONDS

    def setup_schedule(self) -> None:
        """Take the schedule from the code's tables."""
        sync()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due and return the real seconds until the next look."""
        simulated = clock.simulated()
        if simulated and simulated.anchor() is None:
            self._heartbeat.beat("waiting", "the simulated market has not begun")
            return float(self.max_interval)
        jump = 0.0 if simulated else self._steadiness.jump()
        if jump:  # a clock that is wrong for a moment would send tomorrow's firings
            self._heartbeat.beat("waiting", f"the clock jumped by {jump:+.0f} s; is it to stay?")
            return 1.0
        now = clock.market()
        entries = [
            entry
            for entry in self.schedule.values()
            if isinstance(entry.schedule, TzAwareCrontab) and entry.model.enabled
        ]
        for entry in entries:
            for firing in entry.due(now):
                if not self._send(entry, firing):
                    return 1.0
        return self._wait(entries, now)

    def _send(self, entry: MarketEntry, firing: dt.datetime) -> bool:
        entry.kwargs["scheduled_for"] = firing.astimezone(dt.UTC).isoformat()
        if entry.model.expire_seconds:
            expires = entry.model.expire_seconds / clock.speed()
            entry.options["expires"] = max(expires, EXPIRES_AFTER_SECONDS)
        try:
            self.apply_async(entry, producer=self.producer, advance=False)
        except SchedulingError as error:
            log.error("%s was not sent and is tried again: %s", entry.name, error)
            self._heartbeat.beat("failing", f"the queue does not take {entry.name}")
            return False
        entry.mark(firing)
        self._dirty.add(entry.name)
        return True

    def _wait(self, entries: list[MarketEntry], now: dt.datetime) -> float:
        coming = {entry.name: next_firing(entry.schedule, now) for entry in entries}
        if not coming:
            self._heartbeat.beat("running", "every job is paused")
            return float(self.max_interval)
        name = min(coming, key=lambda each: coming[each])
        at = coming[name]
        self._heartbeat.beat("running", f"next: {name}, {at:%a %H:%M} IST")
        return min((at - now).total_seconds() / clock.speed(), float(self.max_interval))

    def _get_crontab_exclude_query(self) -> Q:
        # Upstream hides crontabs more than two hours from the wall clock.
        return Q(pk__in=[])
