"""What PC wants told, left in a table of its own and taken over by PROD, which trusts none of it.

PC can neither change nor hide a notice of PROD's: what it leaves is shown under a key of its own,
marked as its word, at a bounded length and rate.
"""

import datetime as dt
import logging

from django.db import transaction

from tradingsite import clock
from tradingsite.models import Notice, PcNotice

MARK = "pc:"
TAKEN_AT_ONCE = 10
NEW_AN_HOUR = 30
FLOOD_KEY = "pc-notices:flood"

log = logging.getLogger(__name__)


def key_of(key: str) -> str:
    """Return the key by which PROD shows what PC says by a key."""
    return f"{MARK}{key}"


def leave(severity: str, key: str, text: str) -> None:
    """On PC: leave a notice for PROD; the same key replaces what is not taken yet."""
    _say(key, severity=severity, text=text[: PcNotice._meta.get_field("text").max_length])
    log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", text)


def take_back(key: str) -> None:
    """On PC: say that what was told by a key is over."""
    _say(key, severity=Notice.Severity.INFO, text="over", is_over=True)


def take_over() -> int:
    """On PROD: show what PC left and delete it there; return how many were taken.

    A row that PC keeps locked is left; more than PROD takes in an hour are dropped, and one notice
    says so.
    """
    from tradingsite import notices  # it uses this module

    with transaction.atomic():
        waiting = PcNotice.objects.select_for_update(skip_locked=True).order_by("pk")
        rows = list(waiting[:TAKEN_AT_ONCE])
        PcNotice.objects.filter(pk__in=[row.pk for row in rows]).delete()
    room = NEW_AN_HOUR - _new_this_hour()
    for row in rows:
        key = key_of(row.key)
        if row.is_over:
            notices.resolve(row.key if row.key.startswith(MARK) else key)
            continue
        is_new = not Notice.objects.filter(key=key, resolved_at__isnull=True).exists()
        if is_new and room <= 0:
            notices.notify(
                "infrastructure",
                "warning",
                FLOOD_KEY,
                f"PC leaves more than {NEW_AN_HOUR} new notices an hour: the rest is dropped. Look "
                f"at what runs there.",
            )
            continue
        room -= is_new
        severity = row.severity if row.severity in Notice.Severity.values else "warning"
        text = "".join(each if each.isprintable() else " " for each in row.text)
        notices.notify("infrastructure", severity, key, f"PC says: {text}")
    return len(rows)


def _new_this_hour() -> int:
    since = clock.real() - dt.timedelta(hours=1)
    return Notice.objects.filter(key__startswith=MARK, created_at__gt=since).count()


def _say(key: str, **said: object) -> None:
    row = PcNotice(key=key[: PcNotice._meta.get_field("key").max_length], at=clock.real(), **said)
    PcNotice.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["key"],
        update_fields=["severity", "text", "is_over", "at"],
    )
