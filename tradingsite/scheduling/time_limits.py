"""Time limits of tasks in a pool of threads, for which Celery has none.

A task that is over its limit gets Celery's own SoftTimeLimitExceeded in its thread. One that does
not end by it hangs in a call that nothing interrupts, and would keep one of the worker's few
threads for ever: then the worker ends itself. Whoever supervises it starts a fresh one, its other
tasks' leases lapse, and they are asked for again.
"""

import ctypes
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_postrun, task_prerun
from django.conf import settings

LOOK_SECONDS = 1.0
GRACE_SECONDS = 30.0
"""How long a task may take to clean up after itself."""
EXIT_STATUS = 70

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    name: str
    thread: int
    limit_seconds: float
    started: float
    is_told: bool = False


_running: dict[str, _Running] = {}
_lock = threading.Lock()


def keep() -> None:
    """Keep the limits of this worker's tasks, those that run in threads beside the main one."""
    task_prerun.connect(_begun, weak=False)
    task_postrun.connect(_ended, weak=False)
    threading.Thread(target=_watch, name="time limits", daemon=True).start()


def limit_of(task: str) -> float:
    """Return a task's limit in real seconds: its own, else the one for all."""
    return float(settings.TASK_LIMITS.get(task, settings.CELERY_TASK_SOFT_TIME_LIMIT))


def look(now: float) -> list[str]:
    """Tell tasks that are over their limit, and return those that did not end by it."""
    hanging = []
    with _lock:
        for each in _running.values():
            over = now - each.started - each.limit_seconds
            if over > 0 and not each.is_told:
                each.is_told = True
                log.error("%s takes longer than %.0f s: it is ended", each.name, each.limit_seconds)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(each.thread), ctypes.py_object(SoftTimeLimitExceeded)
                )
            elif over > GRACE_SECONDS:
                hanging.append(each.name)
    return hanging


def _begun(task_id: str, task: Any, **kwargs: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        return  # of a pool of processes, whose limits Celery keeps
    with _lock:
        _running[task_id] = _Running(
            task.name, threading.get_ident(), limit_of(task.name), time.monotonic()
        )


def _ended(task_id: str, **kwargs: Any) -> None:
    with _lock:
        _running.pop(task_id, None)


def _watch() -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        if hanging := look(time.monotonic()):
            log.critical("%s does not end: the worker does, and is started anew", hanging[0])
            logging.shutdown()
            os._exit(EXIT_STATUS)
