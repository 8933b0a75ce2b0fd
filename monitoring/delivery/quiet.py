"""When the owner wants to hear nothing: quiet hours of each night, and what a person has muted."""

import datetime as dt

from django.conf import settings

from monitoring.delivery.models import Mute
from tradingsite import clock


def quiet_until(now: dt.datetime) -> dt.datetime | None:
    """Return when the quiet hours end that an instant lies in, None where it lies in none."""
    if settings.QUIET_HOURS is None:
        return None
    begins, ends = settings.QUIET_HOURS
    here = now.astimezone(clock.IST)
    for days in (-1, 0):  # those of last night may still last
        start = dt.datetime.combine(here.date() + dt.timedelta(days), begins, clock.IST)
        end = dt.datetime.combine(start.date(), ends, clock.IST)
        if end <= start:
            end += dt.timedelta(days=1)
        if start <= here < end:
            return end.astimezone(dt.UTC)
    return None


def muted_until(channel: str, now: dt.datetime) -> dt.datetime | None:
    """Return until when a channel is muted, None where it is not."""
    mute = Mute.objects.filter(channel__in=(channel, ""), until__gt=now).order_by("-until").first()
    return mute.until if mute else None


def mute(channel: str, until: dt.datetime, by: str) -> Mute:
    """Mute a channel, or all of them with ""; what is critical is told all the same."""
    return Mute.objects.create(channel=channel, until=until, by=by, at=clock.real())


def unmute(channel: str, by: str) -> int:
    """End what is muted of a channel, or of all with ""; return how many mutes that ended."""
    now = clock.real()
    rows = Mute.objects.filter(until__gt=now)
    if channel:
        rows = rows.filter(channel__in=(channel, ""))
    return rows.update(until=now, by=by)
