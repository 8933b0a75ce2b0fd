"""The admin over what was sent."""

from __future__ import annotations

from django.contrib import admin

from monitoring.delivery.markup import plain
from monitoring.delivery.models import Delivery, Lane, Mute
from tradingsite.admin import ReadOnlyAdmin


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    """Show every message: what it says, how it stands, and under which id Telegram has it."""

    list_display = ("created_at", "channel", "kind", "state", "reason", "message_id", "says")
    list_filter = ("state", "channel", "kind")
    search_fields = ("html", "reason")

    @admin.display(description="text")
    def says(self, row: Delivery) -> str:
        """Return the beginning of what a reader sees."""
        return plain(row.html)[:120]


@admin.register(Lane)
class LaneAdmin(ReadOnlyAdmin):
    """Show the chats, and why nothing goes out to one."""

    list_display = ("channel", "chat", "moved_to", "closed_until", "failures", "reason")


@admin.register(Mute)
class MuteAdmin(ReadOnlyAdmin):
    """Show who wanted to hear nothing, and until when."""

    list_display = ("at", "channel", "until", "by")
