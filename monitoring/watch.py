"""What the server monitor watches besides the machine: services, beat, work left lying."""

import datetime as dt
import os

from django.conf import settings
from django.db.models import Max

from monitoring import checks
from tradingsite import clock, jobs, notices
from tradingsite.models import Heartbeat, JobRun, Notice
from tradingsite.services import ONLY_VARIABLE, Service, wanted
from training import evaluations, pipeline

# How long services may take to come up before their silence means anything.
STARTING_SECONDS = 60.0
BEAT_KEY = "beat:silent"


def watched() -> tuple[Service, ...]:
    """Return the services that should be running on this machine."""
    only = os.environ.get(ONLY_VARIABLE, "")
    names = set(only.split(",")) if only else None
    return tuple(
        service
        for service in wanted(settings.MODE, settings.MACHINE)
        if names is None or service.name in names
    )


class ServiceWatch:
    """Notice services that fall silent, once, and say when they report again."""

    def __init__(self, started_at: dt.datetime) -> None:
        self._started_at = started_at
        open_keys = Notice.objects.filter(key__startswith="service:", resolved_at__isnull=True)
        self._silent = {key.partition(":")[2] for key in open_keys.values_list("key", flat=True)}

    def look(self) -> set[str]:
        """Compare every heartbeat with the clock and return the names of the silent services."""
        now = clock.real()
        beats = {row.service: row for row in Heartbeat.objects.all()}
        settled = (now - self._started_at).total_seconds() > STARTING_SECONDS
        silent = set()
        for service in watched():
            beat = beats.get(service.name)
            last = beat.beat_at if beat else self._started_at
            seconds = (now - last).total_seconds()
            if settled and checks.is_silent(seconds):
                silent.add(service.name)
                if service.name not in self._silent:
                    self._notice(service, seconds, beat)
            elif beat and (now - beat.started_at).total_seconds() > STARTING_SECONDS:
                notices.resolve(restart_key(service.name))
        for name in self._silent - silent:
            notices.resolve(f"service:{name}")
        self._silent = silent
        return silent

    def _notice(self, service: Service, seconds: float, beat: Heartbeat | None) -> None:
        last = f"its last word was “{beat.state}”" if beat else "it never has"
        notices.notify(
            "infrastructure",
            "critical",
            f"service:{service.name}",
            f"{service.title} has not reported for {seconds:.0f} s ({last}). The supervisor "
            f"restarts what dies; {settings.DATA_DIR / 'logs' / service.name}.log has its last "
            f"lines.",
        )


class BeatWatch:
    """Notice that no job has run for a while, whatever beat says of itself."""

    def __init__(self, started_at: dt.datetime) -> None:
        self._started_at = started_at
        self._missing = False

    def look(self) -> bool:
        """Say whether jobs are missing; a market that stands still has none to run."""
        missing = not _stands_still() and checks.jobs_missing(self._idle_seconds(), clock.speed())
        if missing and not self._missing:
            notices.notify(
                "infrastructure",
                "critical",
                BEAT_KEY,
                "No scheduled job has run for a while: beat does not send them or no worker takes "
                "them. The supervisor restarts what dies; look at beat and worker on the overview.",
            )
        elif self._missing and not missing:
            notices.resolve(BEAT_KEY)
        self._missing = missing
        return missing

    def _idle_seconds(self) -> float:
        recent = JobRun.objects.filter(scheduled_for__gt=clock.market() - dt.timedelta(days=5))
        newest = recent.aggregate(newest=Max("started_at"))["newest"] or self._started_at
        return (clock.real() - max(newest, self._started_at)).total_seconds()


def recover() -> int:
    """Ask again for work whose worker died; return how many pieces there were."""
    return pipeline.recover_lapsed() + evaluations.recover_lapsed() + jobs.recover_lapsed()


def restart_key(service: str) -> str:
    """Return the key of the notice that a service was started again."""
    return f"restart:{service}"


def _stands_still() -> bool:
    simulated = clock.simulated()
    if simulated is None:
        return False
    anchor = simulated.anchor()
    if anchor is None:
        return True
    return clock.real().timestamp() - anchor.real > clock.FROZEN_AFTER_SECONDS
