"""The plumbing app."""

from importlib import import_module

from django.apps import AppConfig


class TradingsiteConfig(AppConfig):
    """Load the Celery app once Django is ready, so that `shared_task` finds it."""

    name = "tradingsite"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import the Celery app."""
        import_module("tradingsite.celery")
