"""Create and migrate every database of this machine."""

from typing import Any

from django.core.management.base import BaseCommand

from tradingsite.postgresql.migrate import create_missing, migrate_all


class Command(BaseCommand):
    """Create what is missing, then migrate each database."""

    help = "Create the databases that are missing and migrate all of them."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it, naming each database as it is done."""
        for alias in create_missing():
            self.stdout.write(f"created {alias}")
        migrate_all(lambda alias: self.stdout.write(f"migrated {alias}"))
