"""The Celery app: JSON only, three kinds of queue, and messages that expire.

`prod` and `collect` are consumed on PROD, `gpu` (training) and `pc` (archives, backups) on PC.
"""

import os
from importlib import import_module
from typing import Any

from celery import Celery
from celery.signals import worker_init

from tradingsite.services import SERVICE_VARIABLE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")

QUEUES = ("prod", "collect", "gpu", "pc")

app = Celery("tradingsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
if os.environ.get(SERVICE_VARIABLE) != "beat":  # beat sends by name; what tasks do is 35 MB
    app.autodiscover_tasks()


@worker_init.connect
def report_as_service(**kwargs: Any) -> None:
    """Let a worker write heartbeats; imported here, when Django's models are ready."""
    import_module("tradingsite.reporting").report_celery()
