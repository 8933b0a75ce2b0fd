"""The Celery app: JSON only, three kinds of queue, and messages that expire.

`prod` and `collect` are consumed on PROD, `gpu` (training) and `pc` (archives, backups) on PC.
"""

import os
from importlib import import_module
from typing import Any

from celery import Celery, Task
from celery.signals import worker_init

from tradingsite.errors import Degraded, Retry
from tradingsite.postgresql import timeouts
from tradingsite.supervision.services import SERVICE_VARIABLE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")
# Django's checks import every page: 20 MB and half a second of each worker's start, for nothing.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

QUEUES = ("prod", "collect", "gpu", "pc")
PC_QUEUES = ("gpu", "pc")


class WrongMachine(Exception):
    """A message asked this machine for what belongs to another one; nothing was done."""


class DeskTask(Task):
    """A task that knows where it belongs: a message gives no right, whatever queue it is on."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Raise WrongMachine where this machine is not the task's."""
        from django.conf import settings

        route = settings.CELERY_TASK_ROUTES.get(self.name, {})
        home = "pc" if route.get("queue") in PC_QUEUES else "prod"
        if settings.MACHINE not in ("single", home):
            raise WrongMachine(f"{self.name} is a task of {home}, and this is {settings.MACHINE}")


app = Celery("tradingsite", task_cls=DeskTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
# What names its reaction is told by the job's record and its notice; a traceback adds nothing.
app.Task.throws = (Degraded, Retry)
if os.environ.get(SERVICE_VARIABLE) != "beat":  # beat sends by name; what tasks do is 35 MB
    app.autodiscover_tasks()


@worker_init.connect
def report_as_service(**kwargs: Any) -> None:
    """Let a worker report and keep time limits; imported here, when Django's models are ready."""
    timeouts.choose(timeouts.LONG)  # tasks have time limits of their own
    import_module("tradingsite.supervision.worker_heartbeats").report_celery(app)
    import_module("tradingsite.scheduling.time_limits").keep()
