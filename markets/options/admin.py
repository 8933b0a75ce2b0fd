"""The admin over the options' database: only looked at. Quotes are seen through exports and charts.

Django's admin knows no composite keys, so the quotes' own table is not among these.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.contrib import admin
from unfold.decorators import display

from markets.options.models import ArchivedDay, CollectedMinute, Gap, Instrument
from tradingsite.admin import ReadOnlyAdmin


class GapAdmin(ReadOnlyAdmin):
    """Show what is missing of the option quotes, and why."""

    list_display = ("ts", "what", "reason", "found_at", "filled_at")
    list_filter = (("filled_at", admin.EmptyFieldListFilter), "instrument__underlying")
    list_select_related = ("instrument",)
    search_fields = ("reason", "instrument__name")
    date_hierarchy = "ts"

    @display(description="instrument")
    def what(self, gap: Gap) -> str:
        """Return what is missing."""
        return gap.instrument.name if gap.instrument else "the whole minute"


class ArchivedDayAdmin(ReadOnlyAdmin):
    """Show where closed days are, and which were dropped here."""

    list_display = ("date", "rows", "megabytes", "verified_at", "dropped_at", "path")
    date_hierarchy = "date"

    @display(description="MB", ordering="bytes")
    def megabytes(self, day: ArchivedDay) -> str:
        """Return the size of the day's file."""
        return f"{day.bytes / 1e6:.2f}"


class CollectedMinuteAdmin(ReadOnlyAdmin):
    """Show the minutes that were stored."""

    list_display = ("ts", "asked", "stored", "quarantined", "fetch_ms", "committed")
    date_hierarchy = "ts"

    @display(description="committed (real time)", ordering="first_at")
    def committed(self, minute: CollectedMinute) -> dt.datetime:
        """Return when it was first committed."""
        return minute.first_at


class InstrumentAdmin(ReadOnlyAdmin):
    """Show the instruments whose quotes are stored."""

    list_display = ("name", "symbol", "underlying", "kind", "expiry", "strike", "lot_size")
    list_filter = ("underlying", "kind", "expiry")
    search_fields = ("name", "symbol")


if "options" in settings.DATABASES:
    admin.site.register(Gap, GapAdmin)
    admin.site.register(ArchivedDay, ArchivedDayAdmin)
    admin.site.register(CollectedMinute, CollectedMinuteAdmin)
    admin.site.register(Instrument, InstrumentAdmin)
