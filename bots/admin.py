"""The admin over the ledgers: one set of tables per market, all of it only to look at."""

from __future__ import annotations

from django.contrib import admin
from unfold.decorators import display

from bots.models import (
    Decision,
    Discrepancy,
    Fill,
    FundingPayment,
    Order,
    OrderEvent,
    PnlSnapshot,
    Position,
    RiskState,
    ShadowAccount,
    ShadowDecision,
    Signal,
)
from tradingsite.admin import (
    STATE_LABELS,
    ReadOnlyAdmin,
    ReadOnlyInline,
    markets_here,
    register_bound,
)


class OrderAdmin(ReadOnlyAdmin):
    """Show orders with everything that happened to them."""

    list_display = (
        *("tag", "bot", "instrument", "quantity", "shown_state", "average_price", "charges"),
        *("created_at", "message"),
    )
    list_filter = ("bot", "state", "mode")
    search_fields = ("tag", "instrument")
    date_hierarchy = "created_at"


class PositionAdmin(ReadOnlyAdmin):
    """Show what each slot holds."""

    list_display = (
        *("slot", "instrument", "lots", "quantity", "average_price", "equity", "charges"),
        *("slippage", "funding", "model", "updated_at"),
    )


class FillAdmin(ReadOnlyAdmin):
    """Show trades."""

    list_display = (
        *("at", "bot", "instrument", "quantity", "price", "charges", "slippage", "mode"),
        "trade_id",
    )
    list_filter = ("bot", "mode")
    search_fields = ("trade_id", "instrument")
    date_hierarchy = "at"


class FundingPaymentAdmin(ReadOnlyAdmin):
    """Show what holding a perpetual has cost."""

    list_display = ("at", "slot", "quantity", "price", "rate", "amount")
    list_filter = ("slot",)
    date_hierarchy = "at"


class DecisionAdmin(ReadOnlyAdmin):
    """Show what the slots decided, and why one held."""

    list_display = (
        *("bar_closes_at", "slot", "action", "lots_before", "lots_after", "price", "model"),
        *("cause", "reason", "latency_ms"),
    )
    list_filter = ("slot", "cause", "action")
    search_fields = ("reason", "model")
    date_hierarchy = "bar_closes_at"


class PnlSnapshotAdmin(ReadOnlyAdmin):
    """Show what each slot was worth at each bar's close."""

    list_display = ("at", "slot", "equity", "unrealised", "charges", "lots", "mark")
    list_filter = ("slot",)
    date_hierarchy = "at"


class RiskStateAdmin(ReadOnlyAdmin):
    """Show halt flags and loss latches; `manage.py halt` and `resume` change them."""

    list_display = (
        *("bot", "halted", "halt_reason", "loss_latched", "trading_date", "start_equity"),
        *("orders_today", "updated_at"),
    )


class DiscrepancyAdmin(ReadOnlyAdmin):
    """Show what nobody's trades explain; `manage.py adopt` takes it over."""

    list_display = (
        *("venue", "instrument", "ledger_quantity", "venue_quantity", "detail", "seen_at"),
        *("closed_at", "adopted_by"),
    )
    list_filter = ("venue", "instrument")


class ShadowAccountAdmin(ReadOnlyAdmin):
    """Show how the models that wait would have done."""

    list_display = (
        *("slot", "model", "since", "bars", "trades", "net_return", "charges", "slippage"),
        "funding",
    )
    list_filter = ("slot",)


class ShadowDecisionAdmin(ReadOnlyAdmin):
    """Show what the models that wait would have done, bar by bar."""

    list_display = (
        *("bar_closes_at", "slot", "model", "action", "lots_before", "lots_after", "price"),
        "equity",
    )
    list_filter = ("slot", "action")
    search_fields = ("model",)
    date_hierarchy = "bar_closes_at"


class SignalAdmin(ReadOnlyAdmin):
    """Show the personal bot's signals."""

    list_display = ("for_date", "action", "lots", "change", "confidence", "model", "mode")
    date_hierarchy = "for_date"


def _order_admin(market: str) -> type[OrderAdmin]:
    class EventInline(ReadOnlyInline):
        model = OrderEvent.on(market)
        verbose_name_plural = "events"
        fields = ("shown_state", "at", "market_at", "detail")
        readonly_fields = fields

        @display(description="state", label=STATE_LABELS)
        def shown_state(self, event: OrderEvent) -> tuple[str, str]:
            """Return the state for the coloured label."""
            return event.state, event.state

    class FillInline(ReadOnlyInline):
        model = Fill.on(market)
        verbose_name_plural = "fills"
        fields = ("at", "quantity", "price", "charges", "slippage", "trade_id")
        readonly_fields = fields

    return type("OrderAdmin", (OrderAdmin,), {"inlines": (EventInline, FillInline)})


for _market in markets_here():
    admin.site.register(Order.on(_market), _order_admin(_market))
register_bound(Position, PositionAdmin)
register_bound(Fill, FillAdmin)
register_bound(FundingPayment, FundingPaymentAdmin)
register_bound(Decision, DecisionAdmin)
register_bound(PnlSnapshot, PnlSnapshotAdmin)
register_bound(RiskState, RiskStateAdmin)
register_bound(Discrepancy, DiscrepancyAdmin)
register_bound(ShadowAccount, ShadowAccountAdmin)
register_bound(ShadowDecision, ShadowDecisionAdmin)
register_bound(Signal, SignalAdmin)
