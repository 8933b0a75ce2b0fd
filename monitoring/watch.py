"""What the server monitor watches besides the machine: services, beat, work left lying."""

import datetime as dt
import os

from django.conf import settings
from django.db.models import Max

from monitoring import checks
from monitoring.alarms import Alarms
from tradingsite import clock, notices
from tradingsite.machines import pc_notices
from tradingsite.models import JobRun, Notice, Said
from tradingsite.scheduling import jobs
from tradingsite.supervision import heartbeat
from tradingsite.supervision.services import ONLY_VARIABLE, Service, wanted
from training.pc_access import role as pc_role
from training.pipeline import runs as pipeline_runs
from training.selection import evaluations

# How long services may take to come up before their silence means anything.
STARTING_SECONDS = 60.0
SILENT = "silent"


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
        self._alarms = Alarms("service")

    def look(self) -> set[str]:
        """Compare every heartbeat with the clock and return the names of the silent services."""
        now = clock.real()
        beats = heartbeat.last_words()
        settled = (now - self._started_at).total_seconds() > STARTING_SECONDS
        silent: dict[str, tuple[Service, float, Said | None]] = {}
        for service in watched():
            beat = beats.get(service.name)
            last = beat.beat_at if beat else self._started_at
            seconds = (now - last).total_seconds()
            is_silent = checks.is_silent(seconds)
            if not settled:  # it is this monitor that has only begun
                is_silent = (is_silent or beat is None) and service.name in self._alarms
            if is_silent:
                silent[service.name] = (service, seconds, beat)
            elif beat and (now - beat.started_at).total_seconds() > STARTING_SECONDS:
                notices.resolve(restart_key(service.name))
                notices.resolve(refused_key(service.name))
        self._alarms.update(silent, lambda name, key: self._tell(key, *silent[name]))
        return set(silent)

    def _tell(self, key: str, service: Service, seconds: float, beat: Said | None) -> None:
        last = f"its last word was “{beat.state}”" if beat else "it never has"
        since = (
            f"has not reported for {seconds:.0f} s"
            if seconds >= 0
            else f"has a heartbeat {-seconds:.0f} s ahead of the clock, which no living one leaves"
        )
        done = "The supervisor restarts what ends; what hangs it leaves alone"
        refused = Notice.objects.filter(key=refused_key(service.name), resolved_at__isnull=True)
        if refused.exists():
            done = "Its settings are wrong, so the supervisor does not start it again"
        notices.notify(
            "infrastructure",
            "critical",
            key,
            f"{service.title} {since} ({last}). {done}; "
            f"{settings.DATA_DIR / 'logs' / service.name}.log has its last "
            f"lines.",
        )


class BeatWatch:
    """Notice that no job has run for a while, whatever beat says of itself."""

    def __init__(self, started_at: dt.datetime) -> None:
        self._started_at = started_at
        self._alarms = Alarms("beat")

    def look(self) -> bool:
        """Say whether jobs are missing; a market that stands still has none to run."""
        is_missing = not stands_still() and self._is_missing()
        self._alarms.update({SILENT} if is_missing else (), self._tell)
        return is_missing

    def _is_missing(self) -> bool:
        recent = JobRun.objects.filter(scheduled_for__gt=clock.market() - dt.timedelta(days=5))
        newest = recent.aggregate(newest=Max("started_at"))["newest"]
        if newest is None or newest < self._started_at:
            if SILENT in self._alarms:  # told before this monitor began, and none has run since
                return True
            newest = self._started_at
        return checks.jobs_missing((clock.real() - newest).total_seconds(), clock.speed())

    def _tell(self, name: str, key: str) -> None:
        notices.notify(
            "infrastructure",
            "critical",
            key,
            "No scheduled job has run for a while: beat does not send them or no worker takes "
            "them. The supervisor restarts what dies; look at beat and worker on the overview.",
        )


def hear_pc() -> None:
    """Take over what PC leaves for PROD, go on where it is done, and end what it keeps open."""
    if settings.MACHINE != "prod":
        return
    pc_notices.take_over()
    pipeline_runs.send_stages_after_pc()
    pc_role.end_overlong()


def recover() -> int:
    """Ask again for work whose worker died; return how many pieces there were."""
    return pipeline_runs.recover_lapsed() + evaluations.recover_lapsed() + jobs.recover_lapsed()


def restart_key(service: str) -> str:
    """Return the key of the notice that a service was started again."""
    return f"restart:{service}"


def refused_key(service: str) -> str:
    """Return the key of the notice that a service's settings keep it from starting."""
    return f"refused:{service}"


def stands_still() -> bool:
    """Return whether the simulated market's clock has stopped, or has not begun."""
    simulated = clock.simulated()
    if simulated is None:
        return False
    anchor = simulated.anchor()
    if anchor is None:
        return True
    return clock.real().timestamp() - anchor.real > clock.FROZEN_AFTER_SECONDS
