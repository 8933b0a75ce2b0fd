"""The admin over the allocator's results: to be looked at."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from unfold.decorators import display

from markets.allocator.models import (
    AssetBar,
    AssetMetric,
    Correlation,
    ImportedAsset,
    MonthlyRun,
    Weight,
)
from tradingsite.admin import ReadOnlyAdmin, ReadOnlyInline


class WeightInline(ReadOnlyInline):
    """Show a run's weights."""

    model = Weight
    fields = ("asset", "current", "target", "method", "reason")


class AssetMetricInline(ReadOnlyInline):
    """Show a run's metrics."""

    model = AssetMetric
    fields = (
        *("asset", "return_1m", "return_3m", "return_6m", "return_12m", "volatility"),
        *("max_drawdown", "momentum", "last_on"),
    )


class CorrelationInline(ReadOnlyInline):
    """Show a run's correlations."""

    model = Correlation
    fields = ("first", "second", "value", "weeks")


class MonthlyRunAdmin(ReadOnlyAdmin):
    """Show the months with what came of them."""

    list_display = ("month", "made_at", "current_from", "notes")
    inlines = (WeightInline, AssetMetricInline, CorrelationInline)


class AssetBarAdmin(ReadOnlyAdmin):
    """Show imported closes."""

    list_display = ("asset", "date", "close")
    list_filter = ("asset",)
    date_hierarchy = "date"


class ImportedAssetAdmin(ReadOnlyAdmin):
    """Show the assets that come from files."""

    list_display = ("name", "asset_class", "currency", "closes")

    @display(description="closes")
    def closes(self, row: ImportedAsset) -> int:
        """Return how many closes there are."""
        return row.bars.count()


if "allocator" in settings.DATABASES:
    admin.site.register(MonthlyRun, MonthlyRunAdmin)
    admin.site.register(ImportedAsset, ImportedAssetAdmin)
    admin.site.register(AssetBar, AssetBarAdmin)
