"""Monthly allocation, in its own database."""

from django.apps import AppConfig


class AllocatorConfig(AppConfig):
    """Name the app."""

    name = "markets.allocator"
    default_auto_field = "django.db.models.BigAutoField"
