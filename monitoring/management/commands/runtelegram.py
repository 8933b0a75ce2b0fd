"""Run the service that speaks to the owner by Telegram."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.serving import serve

LOOP_SECONDS = 0.5


class Command(BaseCommand):
    """Send what the desk has to say, until told to stop."""

    help = "Send notices and reports by Telegram, in order and each once."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT; two of these at once take turns."""
        from monitoring.delivery.service import Service

        beat = Beat("telegram")
        service = Service(beat, settings.TELEGRAM_ROOT)
        try:
            serve(beat, service.step, LOOP_SECONDS)
        finally:
            service.close()
