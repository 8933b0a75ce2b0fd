"""The server monitor's loop: it is no Celery task, so that it outlives the queue it watches."""

import datetime as dt
import time

from monitoring import deciding, endings, host, watch
from monitoring.alarms import Alarms
from monitoring.due import DueWatch
from monitoring.losses import OptionsWatch
from monitoring.models import HostSample
from monitoring.queue import QueueWatch
from tradingsite import clock, notices
from tradingsite import format as fmt
from tradingsite.models import Heartbeat, Notice
from tradingsite.scheduling import jobs
from tradingsite.scheduling.schedules import ALL
from tradingsite.supervision.heartbeat import Beat

LOOP_SECONDS = 2.0
SAMPLE_SECONDS = 15.0
JUMPED_KEY = "clock:jumped"
BEHIND = "behind"


class Monitor:
    """Sample the machine and look at everything every 15 real seconds."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        unwatched_since = say_restarted(beat.service)
        self._clock = clock.Steadiness()
        self._alarms = Alarms("time")
        self._disk = host.DiskWatch()
        self._services = watch.ServiceWatch(clock.real())
        self._jobs = watch.BeatWatch(clock.real())
        self._due = DueWatch()
        self._queue = QueueWatch(unwatched_since)
        self._decisions = deciding.DecisionWatch()
        self._code = deciding.CodeWatch()
        self._options = OptionsWatch()
        self._looked_at = -SAMPLE_SECONDS
        self._says = ""

    def step(self) -> None:
        """Report, and look when it is time."""
        now = time.monotonic()
        if now - self._looked_at >= SAMPLE_SECONDS:
            self._looked_at = now
            self._says = self._look()
        watch.hear_pc()
        self._beat.beat("running", self._says)

    def _look(self) -> str:
        if jump := self._clock.jump():
            # By such a clock everything is silent, late or due, and none of it is true.
            _tell_jump(jump)
            return f"the clock jumped by {jump:+.0f} s; nothing is judged by it yet"
        self._take_back()
        sample = host.sample()
        self._disk.look(sample.disk_pct)
        silent = self._services.look()
        self._queue.look()
        self._jobs.look()
        self._due.look()
        self._decisions.look()
        self._code.look()
        self._options.look()
        endings.end_what_is_over()
        recovered = watch.recover()
        extra = f"; silent: {', '.join(sorted(silent))}" if silent else ""
        extra += f"; asked again for {recovered} lost runs" if recovered else ""
        return f"{_figures(sample)}{extra}"

    def _take_back(self) -> None:
        """Have what a clock that ran ahead did before its time done again when it has come.

        Many such runs may as well mean that the clock is behind now: then a person must look,
        unless this process has seen the jump and its end.
        """
        early = jobs.ahead_of_clock()
        if early and (self._clock.came_back or len(early) <= len(ALL)):
            jobs.take_back(early)
            _tell_early(len(early))
            early = []
        self._alarms.update({BEHIND} if len(early) > len(ALL) else (), _tell_behind)
        self._clock.came_back = False


def say_restarted(service: str) -> dt.datetime | None:
    """Tell that nothing was watched, where the monitor before this one ended without a word.

    Returns since when, in real time; None where nothing went by unwatched.
    """
    before = Heartbeat.objects.filter(service=service).first()
    if before is None or before.state == "stopped":
        return None
    key = watch.restart_key(service)
    seconds = (clock.real() - before.beat_at).total_seconds()
    alarms = Notice.objects.filter(resolved_at__isnull=True).exclude(severity="info")
    still_open = alarms.exclude(key=key).count()
    notices.notify(
        "infrastructure",
        "warning",
        key,
        f"The server monitor had ended without a word; for {fmt.duration(seconds)} nobody watched. "
        f"It runs again and has taken up what was open: {fmt.plural(still_open, 'alarm')}.",
    )
    return before.beat_at - dt.timedelta(seconds=SAMPLE_SECONDS)


def _tell_jump(seconds: float) -> None:
    notices.notify(
        "infrastructure",
        "warning",
        JUMPED_KEY,
        f"The machine's clock jumped by {seconds:+,.0f} s. Scheduled jobs wait until it has stood "
        f"for {clock.Steadiness.SETTLES_SECONDS:.0f} s or is back; look at its time service "
        f"(chrony, systemd-timesyncd).",
    )


def _tell_behind(name: str, key: str) -> None:
    notices.notify(
        "infrastructure",
        "critical",
        key,
        "Many records of scheduled jobs lie ahead of this machine's clock: it is behind, or it was "
        "ahead for long. Nothing was changed. Look at its time service (chrony, "
        "systemd-timesyncd); until the clock is right, jobs run at wrong times.",
    )


def _tell_early(count: int) -> None:
    notices.notify(
        "infrastructure",
        "warning",
        "clock:ahead",
        f"The machine's clock had run ahead, and {fmt.plural(count, 'scheduled run')} had been "
        f"done before the time. They run again when it has come.",
    )


def _figures(sample: HostSample) -> str:
    parts = {"CPU": sample.cpu_pct, "memory": sample.memory_pct, "disk": sample.disk_pct}
    return ", ".join(f"{name} {used_pct:.0f} %" for name, used_pct in parts.items())
