"""The outbox: every alert is first a row, so that none is lost when a channel is down.

A notice says what happened, what was done about it and what to do. A key has one open notice at
most, in whatever process and however many at once it is told: telling it again counts it up, and
after `REPEAT_HOURS` it ends and begins anew, so that it is said again. PC's go into a table of its
own, from which PROD takes them over within bounds (`tradingsite.machines.pc_notices`).
"""

import datetime as dt
import logging

from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from tradingsite import clock
from tradingsite.machines import pc_notices
from tradingsite.models import Notice

CHANNELS = ("trading", "infrastructure", "options", "brief")
REPEAT_HOURS = 6

# The partial index `one_open_notice` decides between two writers.
_TELL = f"""
INSERT INTO {Notice._meta.db_table}
    (channel, severity, key, text, count, created_at, last_at, market_at)
VALUES (%(channel)s, %(severity)s, %(key)s, %(text)s, 1, %(now)s, %(now)s, %(market)s)
ON CONFLICT (key) WHERE resolved_at IS NULL DO UPDATE SET
    count = {Notice._meta.db_table}.count + 1, last_at = excluded.last_at,
    market_at = excluded.market_at, severity = excluded.severity, text = excluded.text
"""  # noqa: S608 - the table's name is the model's

log = logging.getLogger(__name__)


def notify(channel: str, severity: str, key: str, text: str) -> None:
    """Record a notice, or count it up when the same key is still unresolved and recent."""
    if channel not in CHANNELS:
        raise ValueError(f"there is no channel {channel!r}; the channels are {', '.join(CHANNELS)}")
    if settings.MACHINE == "pc":
        pc_notices.leave(severity, key, text)
        return
    now = clock.real()
    said = {"channel": channel, "severity": severity, "key": key, "text": text}
    with transaction.atomic():
        said_before = now - dt.timedelta(hours=REPEAT_HOURS)
        _open(key).filter(created_at__lte=said_before).update(resolved_at=now)
        with connection.cursor() as cursor:
            cursor.execute(_TELL, {**said, "now": now, "market": clock.market()})
    log.log(logging.INFO if severity == "info" else logging.WARNING, "%s: %s", channel, text)


def resolve(key: str) -> int:
    """Mark the open notice of a key as over, and what PC said by it; return how many there were."""
    if settings.MACHINE == "pc":
        pc_notices.take_back(key)
        return 0
    over = Notice.objects.filter(key__in=(key, pc_notices.key_of(key)), resolved_at__isnull=True)
    return over.update(resolved_at=clock.real())


def open_keys(prefix: str) -> set[str]:
    """Return the keys of the open notices that begin with a prefix: what is still to be ended."""
    rows = Notice.objects.filter(key__startswith=prefix, resolved_at__isnull=True)
    return set(rows.values_list("key", flat=True))


def _open(key: str) -> QuerySet[Notice]:
    return Notice.objects.filter(key=key, resolved_at__isnull=True)
