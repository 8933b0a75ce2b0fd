"""The admin over the straddles: what was followed and how the tracker stands, only to look at."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from unfold.decorators import display

from markets.straddle.models import Gap, Series, TrackerState, Wanted
from tradingsite.admin import ReadOnlyAdmin


class SeriesAdmin(ReadOnlyAdmin):
    """Show the series: which strikes were followed, from when to when."""

    list_display = (
        *("underlying", "kind", "expiry", "money", "put", "call", "since", "until", "end"),
    )
    list_filter = ("underlying", "kind", "end")
    date_hierarchy = "since"

    @display(description="money", ordering="strike")
    def money(self, row: Any) -> str:
        """Return the strike at the money, in rupees."""
        return f"{row.strike / 100:g}"

    @display(description="put")
    def put(self, row: Any) -> str:
        """Return the put's strike, in rupees."""
        return f"{row.put_strike / 100:g}"

    @display(description="call")
    def call(self, row: Any) -> str:
        """Return the call's strike, in rupees."""
        return f"{row.call_strike / 100:g}"


class GapAdmin(ReadOnlyAdmin):
    """Show when ticks are missing, and why."""

    list_display = ("began_at", "ended_at", "rows", "reason")
    date_hierarchy = "began_at"


class TrackerStateAdmin(ReadOnlyAdmin):
    """Show how the tracker stands."""

    list_display = (
        *("state", "sentence", "child_pid", "started_at", "message_at", "written_at"),
        *("stored", "waiting", "lost", "empty", "absurd", "stale"),
    )


class WantedAdmin(ReadOnlyAdmin):
    """Show what the jobs want."""

    list_display = ("is_wanted", "since", "job", "job_run")


if "straddle" in settings.DATABASES:
    admin.site.register(Series, SeriesAdmin)
    admin.site.register(Gap, GapAdmin)
    admin.site.register(TrackerState, TrackerStateAdmin)
    admin.site.register(Wanted, WantedAdmin)
