"""Run the straddle tracker."""

from typing import Any

from django.core.management.base import BaseCommand

from tradingsite.heartbeat import Beat
from tradingsite.serving import serve

WAITS_FOR = "waits for its WebSocket ticker (not built yet)"


class Command(BaseCommand):
    """Keep the straddle tracker's place: it lives, beats and says what it waits for."""

    help = "Run the straddle tracker, which so far only says what it waits for."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGTERM or SIGINT."""
        beat = Beat("straddle-tracker")
        serve(beat, lambda: beat.beat("idle", WAITS_FOR), every_seconds=1.0)
