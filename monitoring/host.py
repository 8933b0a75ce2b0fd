"""The machine's own figures, in real time."""

import psutil
from django.conf import settings

from monitoring import checks
from monitoring.models import HostSample
from tradingsite import clock, notices
from tradingsite.models import Notice

DISK_KEY = "disk"


def sample() -> HostSample:
    """Measure the machine once and store it; the CPU figure is the mean since the call before."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    return HostSample.objects.create(
        machine=settings.MACHINE,
        at=clock.real(),
        cpu_pct=psutil.cpu_percent(),
        memory_pct=psutil.virtual_memory().percent,
        disk_pct=psutil.disk_usage(str(settings.DATA_DIR)).percent,
        load_1m=psutil.getloadavg()[0],
    )


class DiskWatch:
    """Notice a disk that fills, once for each level it reaches, and say when that is over."""

    def __init__(self) -> None:
        told = Notice.objects.filter(key=DISK_KEY, resolved_at__isnull=True).first()
        self._level: str = told.severity if told else ""

    def look(self, used_pct: float) -> None:
        """Take one measurement."""
        level = checks.disk_level(used_pct)
        if level == self._level:
            return
        self._level = level
        if not level:
            notices.resolve(DISK_KEY)
            return
        notices.notify(
            "infrastructure",
            level,
            DISK_KEY,
            f"The disk of {settings.DATA_DIR} is {used_pct:.0f} % full. Nothing was deleted. "
            f"Make room: {settings.DATA_DIR / 'logs'}, archives, other programs' files.",
        )
