"""The market data app."""

from django.apps import AppConfig


class MarketsConfig(AppConfig):
    """Name the app."""

    name = "markets"
    default_auto_field = "django.db.models.BigAutoField"
