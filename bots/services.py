"""Services over the ledger of a market that are not part of a bot's loop."""

from django.db import transaction

from bots.decision.owner import OwnTrade
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
from bots.modelstore import services as modelstore
from bots.modelstore.models import Activation, ModelVersion
from markets.models import GivenBy, OwnerTrade
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import CONTEXTS, SLOTS


def forget_market(market: str) -> None:
    """Remove what was traded and learned on a generated market that gives way to real bars."""
    for model in (
        *(Signal, Decision, Fill, OrderEvent, Order, FundingPayment, Position, PnlSnapshot),
        *(Discrepancy, ShadowDecision, ShadowAccount),
    ):
        model.on(market).objects.all().delete()
    # Only a person who said halt may say resume.
    RiskState.on(market).objects.filter(halted=False).delete()
    RiskState.on(market).objects.update(
        trading_date=None, start_equity=0, last_equity=0, loss_latched=False, orders_today=0
    )
    slots = [slot.slug for slot in SLOTS.values() if slot.market == market]
    Activation.objects.filter(slot__in=slots).delete()
    ModelVersion.objects.filter(slot__in=slots).delete()
    # Files cannot be rolled back, so they go when the rows are gone for good.
    transaction.on_commit(lambda: [modelstore.prune(slot) for slot in slots])


def withdraw_models(market: str, timeframe: str, first: Epoch, last: Epoch) -> list[str]:
    """Let no model trade that learned from bars which open in [first, last]; say which.

    Its slot holds until another is trained.
    """
    slots = [
        slot.slug
        for slot in SLOTS.values()
        if slot.market == market
        and timeframe in (slot.timeframe, *CONTEXTS[market, slot.timeframe])
    ]
    learned = ModelVersion.objects.filter(
        slot__in=slots,
        trained_from__lte=clock.from_seconds(last),
        trained_until__gt=clock.from_seconds(first),
    ).exclude(state=ModelVersion.State.QUARANTINED)
    told = [
        f"{version} learned from them and is set aside"
        + (": its slot holds until another is trained" if version.state == "active" else "")
        for version in learned
    ]
    reason = f"{timeframe} bars that it learned from were removed"
    learned.update(state=ModelVersion.State.QUARANTINED, reason=reason)
    return told


def own_trades(alias: str) -> tuple[OwnTrade, ...]:
    """Return what the owner traded by hand, oldest first, as a database of NIFTY's has it."""
    rows = OwnerTrade.on(alias).objects.filter(given_by=GivenBy.OWNER).order_by("at", "id")
    return tuple(
        OwnTrade(instrument or symbol, float(quantity), clock.epoch(at))
        for instrument, symbol, quantity, at in rows.values_list(
            "instrument", "symbol", "quantity", "at"
        )
    )


def executions_of_bots(market: str, trade_ids: set[str]) -> set[str]:
    """Return those of a venue's executions that the ledger has as the bots' own."""
    found = Fill.on(market).objects.filter(trade_id__in=trade_ids)
    return set(found.values_list("trade_id", flat=True))
