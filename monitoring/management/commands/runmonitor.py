"""Run the server monitor."""

from typing import Any

import psutil
from django.core.management.base import BaseCommand

from monitoring.monitor import LOOP_SECONDS, Monitor
from tradingsite.locks import ProcessLock
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve


class Command(BaseCommand):
    """Watch the machine, the services and lapsed leases until told to stop."""

    help = "Watch the machine, the services and the work that lost its worker."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; wait while another process is the monitor."""
        psutil.cpu_percent()  # the first figure is the mean since this call
        beat = Beat("server-monitor")
        lock = ProcessLock("server monitor", "default")
        monitor = Monitor(beat)

        def step() -> None:
            lock.ensure()
            monitor.step()

        serve(beat, step, LOOP_SECONDS)
