"""The backups app."""

from django.apps import AppConfig


class BackupsConfig(AppConfig):
    """Name the app."""

    name = "backups"
    default_auto_field = "django.db.models.BigAutoField"
