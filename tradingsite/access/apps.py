"""Who may act: sign-in, second factor, permissions per act, and what was tried."""

from importlib import import_module

from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Name the app, and listen to what django-axes says once Django is ready."""

    name = "tradingsite.access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the receivers."""
        import_module("tradingsite.access.attempts")
