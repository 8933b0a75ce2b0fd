"""The admin over market data: the calendar can be edited, everything else only looked at."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib.admin import EmptyFieldListFilter
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from markets.domain.calendar import SESSION_KINDS, BadCalendar, NseCalendar
from markets.models import (
    Bar,
    BarGap,
    InstrumentList,
    ListedInstrument,
    OwnerOrder,
    OwnerTrade,
    Quote,
    Reading,
    TradingDay,
    VenueOrder,
)
from tradingsite import clock
from tradingsite.admin import ReadOnlyAdmin, register_bound

KINDS = [(kind, kind) for kind in (*SESSION_KINDS, "holiday")]


class TradingDayForm(forms.ModelForm):  # type: ignore[type-arg]  # not one at run time
    """Check a day as the calendar will read it."""

    kind = forms.ChoiceField(choices=KINDS)

    def clean_date(self) -> dt.date:
        """Return the date, which no other day may have."""
        date: dt.date = self.cleaned_data["date"]
        others = self._meta.model.objects.filter(date=date).exclude(pk=self.instance.pk)
        if others.exists():
            raise forms.ValidationError("This date is in the calendar already: edit that row.")
        return date

    def clean(self) -> dict[str, Any]:
        """Return the fields, with times on session days and none on holidays."""
        found = super().clean() or self.cleaned_data
        opens_at, closes_at = found.get("opens_at"), found.get("closes_at")
        if found.get("kind") == "holiday":
            if opens_at or closes_at:
                raise forms.ValidationError("A holiday has no opening or closing time.")
        elif not opens_at or not closes_at:
            raise forms.ValidationError("A session needs its opening and closing time.")
        elif opens_at >= closes_at:
            raise forms.ValidationError("A session closes after it opens.")
        else:
            self._check(found, opens_at, closes_at)
        return found

    def _check(self, found: dict[str, Any], opens_at: dt.datetime, closes_at: dt.datetime) -> None:
        """Raise where the calendar would not take the session beside the others."""
        date = found.get("date") or self.instance.date
        if date is None or "kind" not in found:
            return  # what is wrong with them is said already
        if clock.trading_date(opens_at) != date or clock.trading_date(closes_at) != date:
            raise forms.ValidationError(f"A session opens and closes on its own day, {date}, IST.")
        day = TradingDay(date=date, kind=found["kind"], opens_at=opens_at, closes_at=closes_at)
        near = self._meta.model.objects.filter(
            date__range=(date - dt.timedelta(days=7), date + dt.timedelta(days=7))
        ).exclude(pk=self.instance.pk)
        try:
            NseCalendar.from_days([*(row.as_day() for row in near), day.as_day()])
        except BadCalendar as error:
            raise forms.ValidationError(f"The calendar does not take it: {error}.") from error

    def validate_unique(self) -> None:
        """Leave it to clean_date: Django would ask the model that is bound to no database."""


class TradingDayAdmin(ModelAdmin):
    """Edit the exchange's days; orders go out only on verified ones."""

    form = TradingDayForm
    list_display = ("date", "kind", "opens_at", "closes_at", "name", "verified", "source")
    list_filter = ("kind", "verified")
    search_fields = ("name", "source")
    date_hierarchy = "date"
    list_per_page = 50

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the date of a day that exists: another date is another day."""
        return ("date",) if obj else ()


class BarAdmin(ReadOnlyAdmin):
    """Show bars."""

    list_display = (
        *("timeframe", "opens_at", "closes_at", "open", "high", "low", "close", "volume"),
        "source",
    )
    list_filter = ("timeframe", "source")
    ordering = ("-opens_at",)


class BarGapAdmin(ReadOnlyAdmin):
    """Show the bars that are missing, or were."""

    list_display = ("timeframe", "opens_at", "found_at", "filled_at", "reason")
    list_filter = ("timeframe", ("filled_at", EmptyFieldListFilter))
    search_fields = ("reason",)


class ReadingAdmin(ReadOnlyAdmin):
    """Show what stands beside the bars: India VIX, funding."""

    list_display = ("series", "at", "value", "source")
    list_filter = ("series", "source")


class InstrumentListAdmin(ReadOnlyAdmin):
    """Show which lists of instruments there are."""

    list_display = ("date", "venue", "rows", "fetched_at", "sha256")
    list_filter = ("venue",)


class ListedInstrumentAdmin(ReadOnlyAdmin):
    """Show what the lists said of an instrument, and from when to when."""

    list_display = (
        *("name", "symbol", "kind", "expiry", "strike", "lot_size", "tick_size"),
        *("first_on", "last_on"),
    )
    list_filter = ("kind", "underlying")
    search_fields = ("name", "symbol")


class QuoteAdmin(ReadOnlyAdmin):
    """Show last prices."""

    list_display = ("instrument", "price", "at")


class VenueOrderAdmin(ReadOnlyAdmin):
    """Show the simulated venue's own book, which a broker would hold."""

    list_display = (
        "tag",
        "instrument",
        "quantity",
        "shown_state",
        "price",
        "accepted_at",
        "message",
    )
    list_filter = ("state",)
    search_fields = ("tag", "instrument")


class OwnerOrderAdmin(ReadOnlyAdmin):
    """Show the orders that are no bot's: given by hand, or by the broker for the owner."""

    list_display = (
        *("placed_at", "given_by", "symbol", "quantity", "filled_quantity", "order_type"),
        *("product", "price", "state", "message", "order_id"),
    )
    list_filter = ("given_by", "state", "product")
    search_fields = ("order_id", "symbol", "instrument")
    date_hierarchy = "placed_at"


class OwnerTradeAdmin(ReadOnlyAdmin):
    """Show the executions that are no bot's, and how each came here."""

    list_display = (
        *("at", "given_by", "symbol", "instrument", "quantity", "price", "product"),
        *("exchange", "trade_id", "came_by"),
    )
    list_filter = ("given_by", "came_by", "exchange")
    search_fields = ("trade_id", "order_id", "symbol", "instrument")
    date_hierarchy = "at"


register_bound(TradingDay, TradingDayAdmin)
register_bound(Bar, BarAdmin)
register_bound(BarGap, BarGapAdmin)
register_bound(Reading, ReadingAdmin)
register_bound(InstrumentList, InstrumentListAdmin)
register_bound(ListedInstrument, ListedInstrumentAdmin)
register_bound(Quote, QuoteAdmin)
register_bound(VenueOrder, VenueOrderAdmin)
register_bound(OwnerOrder, OwnerOrderAdmin)
register_bound(OwnerTrade, OwnerTradeAdmin)
