"""The admin over what the server monitor measures."""

from __future__ import annotations

from django.contrib import admin

from monitoring.models import HostSample
from tradingsite.admin import ReadOnlyAdmin


@admin.register(HostSample)
class HostSampleAdmin(ReadOnlyAdmin):
    """Show samples of the machines."""

    list_display = ("at", "machine", "cpu_pct", "memory_pct", "disk_pct", "load_1m")
    list_filter = ("machine",)
