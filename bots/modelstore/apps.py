"""The record of model versions and of what traded when."""

from django.apps import AppConfig


class ModelstoreConfig(AppConfig):
    """Name the app."""

    name = "bots.modelstore"
    default_auto_field = "django.db.models.BigAutoField"
