"""Straddle ticks, in their own database; tracked by a later release."""

from django.apps import AppConfig


class StraddleConfig(AppConfig):
    """Name the app."""

    name = "markets.straddle"
    default_auto_field = "django.db.models.BigAutoField"
