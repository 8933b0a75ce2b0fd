"""Option quotes, in their own database; collected by a later release."""

from django.apps import AppConfig


class OptionsConfig(AppConfig):
    """Name the app."""

    name = "markets.options"
    default_auto_field = "django.db.models.BigAutoField"
