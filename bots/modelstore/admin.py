"""The admin over model versions; activating one is a command, for it verifies the files first."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from bots.modelstore.models import Activation, ModelVersion
from tradingsite.admin import ReadOnlyAdmin, ReadOnlyInline


class ActivationInline(ReadOnlyInline):
    """Show when a version traded."""

    model = Activation
    fields = ("at", "market_at", "kind", "by", "reason")
    readonly_fields = fields


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    """Show model versions with their results on bars they were never trained on."""

    list_display = (
        *("slot", "number", "shown_state", "held_out", "buy_and_hold", "trained_until"),
        *("created_at", "run_id", "reason"),
    )
    list_filter = ("slot", "state")
    search_fields = ("manifest_sha256", "reason")
    ordering = ("-created_at",)
    inlines = (ActivationInline,)

    @display(description="held out, net")
    def held_out(self, version: ModelVersion) -> str:
        """Return the net result on held-out bars."""
        return _percent(version.metrics.get("holdout", {}))

    @display(description="buy and hold")
    def buy_and_hold(self, version: ModelVersion) -> str:
        """Return what buying and holding made on the same bars."""
        return _percent(version.metrics.get("baselines", {}).get("buy_and_hold", {}))


@admin.register(Activation)
class ActivationAdmin(ReadOnlyAdmin):
    """Show which version traded when."""

    list_display = ("at", "market_at", "slot", "model", "kind", "by", "reason")
    list_filter = ("slot", "kind")
    list_select_related = ("model",)


def _percent(figures: dict[str, float]) -> str:
    net = figures.get("net_return")
    return "" if net is None else f"{net:+.2%}"
