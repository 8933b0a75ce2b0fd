"""Straddles and strangles followed tick by tick, in their own database."""

from django.apps import AppConfig


class StraddleConfig(AppConfig):
    """Name the app."""

    name = "markets.straddle"
    default_auto_field = "django.db.models.BigAutoField"
