"""The server monitor's loop: it is no Celery task, so that it outlives the queue it watches."""

import time

from monitoring import deciding, host, watch
from monitoring.models import HostSample
from tradingsite import clock
from tradingsite.heartbeat import Beat

LOOP_SECONDS = 2.0
SAMPLE_SECONDS = 15.0


class Monitor:
    """Sample the machine and look at everything every 15 real seconds."""

    def __init__(self, beat: Beat) -> None:
        self._beat = beat
        self._disk = host.DiskWatch()
        self._services = watch.ServiceWatch(clock.real())
        self._jobs = watch.BeatWatch(clock.real())
        self._decisions = deciding.DecisionWatch()
        self._code = deciding.CodeWatch()
        self._looked_at = -SAMPLE_SECONDS
        self._says = ""

    def step(self) -> None:
        """Report, and look when it is time."""
        now = time.monotonic()
        if now - self._looked_at >= SAMPLE_SECONDS:
            self._looked_at = now
            self._says = self._look()
        self._beat.beat("running", self._says)

    def _look(self) -> str:
        sample = host.sample()
        self._disk.look(sample.disk_pct)
        silent = self._services.look()
        self._jobs.look()
        self._decisions.look()
        self._code.look()
        recovered = watch.recover()
        extra = f"; silent: {', '.join(sorted(silent))}" if silent else ""
        extra += f"; asked again for {recovered} lost runs" if recovered else ""
        return f"{_figures(sample)}{extra}"


def _figures(sample: HostSample) -> str:
    parts = {"CPU": sample.cpu_pct, "memory": sample.memory_pct, "disk": sample.disk_pct}
    return ", ".join(f"{name} {used_pct:.0f} %" for name, used_pct in parts.items())
