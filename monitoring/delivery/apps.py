"""The delivery app."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    """Name the app; its tables are in the control database."""

    name = "monitoring.delivery"
    label = "delivery"
    default_auto_field = "django.db.models.BigAutoField"
