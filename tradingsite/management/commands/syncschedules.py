"""Write the schedule tables to beat's rows."""

from typing import Any

from django.core.management.base import BaseCommand

from tradingsite.scheduling.beat import sync


class Command(BaseCommand):
    """Bring beat's rows in line with the code."""

    help = "Write the scheduled jobs to beat; delete rows that left the code; keep what is paused."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it and say what changed."""
        written, gone = sync()
        self.stdout.write(f"{written} jobs scheduled, {gone} old entries deleted")
