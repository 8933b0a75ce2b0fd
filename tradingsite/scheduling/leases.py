"""Leases: at most one worker owns a row at a time, and one that lost it can no longer write.

A claim takes the row when nobody holds it or its lease lapsed, and raises the fencing number.
Whoever writes a result says the number it was given; after a takeover that write matches no row.
Lease times are PostgreSQL's own: workers on several machines need not agree on the time, and a
worker's life has nothing to do with the market's clock.
"""

import datetime as dt
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from tradingsite.errors import Degraded

LEASE_SECONDS = 30.0
PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 2.0
AnyLeased = TypeVar("AnyLeased", bound="Leased")

log = logging.getLogger(__name__)


class Leased(models.Model):
    """A row that workers claim before they act on it."""

    lease_owner = models.CharField(max_length=80, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    fence = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


class LeaseLost(Degraded):
    """The row was taken over by another worker; what was done under the old lease is void."""


def claim(row: AnyLeased, **where: Any) -> AnyLeased | None:
    """Take the row's lease and return it fresh, or None when another holds it or `where` fails."""
    rows = type(row)._default_manager
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=Now())
    with transaction.atomic(using=rows.db):
        # Whoever keeps the row locked may be PC, and for ever: it counts as held.
        found = rows.select_for_update(skip_locked=True).filter(free, pk=row.pk, **where)
        if not list(found.values_list("pk")):
            return None
        rows.filter(pk=row.pk).update(
            lease_owner=owner(),
            lease_until=Now() + dt.timedelta(seconds=LEASE_SECONDS),
            fence=F("fence") + 1,
        )
    return rows.get(pk=row.pk)


def write(row: Leased, **fields: Any) -> None:
    """Write fields of a row under its lease; raise LeaseLost when the fencing number moved on."""
    matched = type(row)._default_manager.filter(pk=row.pk, fence=row.fence).update(**fields)
    if not matched:
        raise LeaseLost(f"{row} was taken over (fence {row.fence} is no longer the newest)")
    for name, value in fields.items():
        setattr(row, name, value)


def release(row: Leased, **fields: Any) -> None:
    """Write the last fields and give the lease back."""
    write(row, lease_until=None, **fields)


def patiently(act: Callable[[], None], seconds: float | None = None) -> None:
    """Do what writes to PostgreSQL, again and again while it does not answer; raise after a while.

    For what a worker must say after long work: a cut link must not cost an hour of training. The
    act must be one transaction, so that doing it again is doing it once.
    """
    until = time.monotonic() + (PATIENCE_SECONDS if seconds is None else seconds)
    while True:
        try:
            return act()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > until:
                raise
            log.warning("PostgreSQL does not answer, trying again: %s", error)
            connections.close_all()
            time.sleep(PAUSE_SECONDS)


@contextmanager
def kept(row: Leased) -> Iterator[None]:
    """Renew a claimed lease from a thread while the block runs, through a restart of PostgreSQL."""
    stop = threading.Event()

    def renew() -> None:
        try:
            while not stop.wait(LEASE_SECONDS / 3):
                try:
                    if not _renew(row):
                        return
                except (OperationalError, InterfaceError) as error:
                    log.warning("the lease of %s was not renewed, trying again: %s", row, error)
                    connections.close_all()
        finally:
            connections.close_all()

    thread = threading.Thread(target=renew, name=f"lease {row.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew(row: Leased) -> int:
    until = Now() + dt.timedelta(seconds=LEASE_SECONDS)
    held = type(row)._default_manager.filter(pk=row.pk, fence=row.fence)
    return held.update(lease_until=until)


def owner() -> str:
    """Return this process's name on a lease."""
    return f"{socket.gethostname()}:{os.getpid()}"
