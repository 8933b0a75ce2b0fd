"""The outbox: every alert is first a row, so that none is lost when a channel is down.

A notice says what happened, what was done about it and what to do. The same key within
`REPEAT_HOURS` counts up instead of filling the page.
"""

import datetime as dt
import logging

from django.db.models import F

from tradingsite import clock
from tradingsite.models import Notice

CHANNELS = ("trading", "infrastructure", "options", "brief")
REPEAT_HOURS = 6

log = logging.getLogger(__name__)


def notify(channel: str, severity: str, key: str, text: str) -> None:
    """Record a notice, or count it up when the same key is still unresolved and recent."""
    if channel not in CHANNELS:
        raise ValueError(f"there is no channel {channel!r}; the channels are {', '.join(CHANNELS)}")
    now = clock.real()
    recent = Notice.objects.filter(
        key=key, resolved_at__isnull=True, created_at__gt=now - dt.timedelta(hours=REPEAT_HOURS)
    )
    if not recent.update(
        count=F("count") + 1, last_at=now, market_at=clock.market(), severity=severity, text=text
    ):
        Notice.objects.create(
            channel=channel,
            severity=severity,
            key=key,
            text=text,
            created_at=now,
            last_at=now,
            market_at=clock.market(),
        )
    log.log(logging.INFO if severity == "info" else logging.WARNING, "%s: %s", channel, text)


def resolve(key: str) -> None:
    """Mark the open notices of a key as over."""
    Notice.objects.filter(key=key, resolved_at__isnull=True).update(resolved_at=clock.real())
