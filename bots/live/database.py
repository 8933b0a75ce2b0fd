"""PostgreSQL's side of the order protocol: the ledger whose rows money depends on.

Orders of one account begin one after another, under a lock on all its bots' risk rows, so that
what is counted cannot change before the order that was allowed by it is committed.
"""

import datetime as dt
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from django.db import transaction
from django.db.models import Q, Sum

from bots.live import discrepancies, fills, halting, ledger, limits
from bots.live.limits import Limits, Refusal, Standing
from bots.live.netting import EXITS
from bots.live.states import DOUBTFUL, IN_FLIGHT, State
from bots.models import Fill, Order, OrderEvent, Position, RiskState
from markets.venues.base import Venue, VenueTrade
from markets.venues.instruments import Instruments
from tradingsite import clock
from tradingsite.errors import Degraded, Retry
from tradingsite.registry import MARKETS, Bot

MINUTE = dt.timedelta(minutes=1)
SECOND = dt.timedelta(seconds=1)
BOOK_CLOSES_AFTER_SECONDS = 600
"""After a session's end, until whatever was on its way has been refused."""

log = logging.getLogger(__name__)


class DatabaseLedger:
    """The orders of one bot, in its account's own database."""

    def __init__(self, bot: Bot, venue: Venue, instruments: Instruments) -> None:
        self._bot = bot
        self._venue = venue
        self._instruments = instruments
        self._orders = Order.on(bot.market).objects

    def begin(self, order: Order) -> bool:
        """Move an intent to SUBMITTING, or to DENIED where a limit says no."""
        # What must be asked of the venue is asked before the rows are locked.
        price = self._price(order.instrument)
        margin = None if order.leg in EXITS else self._margin(order)
        with transaction.atomic(using=self._bot.market, durable=True):
            risk = locked_risk(self._bot)
            standing = replace(self.standing(order, risk, price), margin=margin)
            lot_size = self._instruments.parse(order.instrument).lot_size
            refused = limits.refusal(order, standing, limits_of(self._bot, lot_size))
            if refused is not None:
                ledger.move(order, State.DENIED, refused.reason)
            else:
                risk.orders_today += 1
                risk.updated_at = clock.market()
                risk.save(update_fields=["orders_today", "updated_at"])
                ledger.move(order, State.SUBMITTING, arrival_price=price, sent_at=clock.real())
        if refused is not None and refused.is_loop:
            self._stop_loop(refused)
        return refused is None

    def only_reduces(self, order: Order) -> bool:
        """Return whether an order can but make the account's position smaller.

        Where the owner trades there too, or has taken something over, the account's position is
        not the bot's alone, and an exit of ours may make it larger.
        """
        if order.leg not in EXITS or self._venue.is_shared_with_owner:
            return False
        return not discrepancies.has_adopted(self._bot.market, self._venue, order.instrument)

    def move(self, order: Order, state: State, detail: str) -> None:
        """Change an order's state, with its event."""
        with transaction.atomic(using=self._bot.market, durable=True):
            ledger.move(order, state, detail)

    def intents(self) -> Sequence[Order]:
        """Return the orders that were never begun."""
        return list(self._orders.filter(bot=self._bot.slug, state=State.INTENT).order_by("pk"))

    def in_flight(self) -> Sequence[Order]:
        """Return the orders that may still change what is held, oldest first."""
        return ledger.in_flight(self._bot)

    def rows(self, tags: Collection[str]) -> Mapping[str, Order]:
        """Return this bot's and other bots' orders of some tags."""
        return {order.tag: order for order in self._orders.filter(tag__in=tags)}

    def unseen(self, trades: Sequence[VenueTrade]) -> Sequence[VenueTrade]:
        """Return those of the executions that are not booked yet."""
        rows = Fill.on(self._bot.market).objects.filter(
            trade_id__in=[trade.trade_id for trade in trades]
        )
        known = set(rows.values_list("trade_id", flat=True))
        return [trade for trade in trades if trade.trade_id not in known]

    def take(self, order: Order, trade: VenueTrade) -> bool:
        """Book one execution, once."""
        return fills.take_trade(self._bot, order.pk, trade, self._instruments)

    def cannot_arrive(self, order: Order) -> bool:
        """Return whether the session it was sent in is over: no order outlives an exchange's day.

        Only on that day: the next day's book does not hold what came of it.
        """
        if MARKETS[self._bot.market].calendar != "NSE":
            return False
        now = clock.market_seconds()
        over = self._instruments.calendar.previous_session(int(now))
        sent_on = clock.trading_date(order.created_at)
        return (
            over is not None
            and over.date == sent_on == clock.trading_date(clock.market())
            and order.created_at.timestamp() < over.closes_at
            and now >= over.closes_at + BOOK_CLOSES_AFTER_SECONDS
        )

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Return whether the account holds of an instrument just what is booked."""
        booked = discrepancies.explained(self._bot.market, self._venue)
        return positions.get(instrument, Decimal(0)) == booked.get(instrument, Decimal(0))

    def standing(self, order: Order, risk: RiskState, price: Decimal | None) -> Standing:
        """Return what the limits need to know of the account; its risk rows must be locked."""
        market = self._bot.market
        positions = Position.on(market).objects.filter(bot=self._bot.slug)
        now = clock.market()  # which is real time wherever money is
        sent = OrderEvent.on(market).objects.filter(state=State.SUBMITTING)
        return Standing(
            halted=risk.halt_reason or "by a person" if risk.halted else "",
            flattens=risk.halted and risk.flatten,
            reduces_only=risk.loss_latched,
            stopped=discrepancies.stopped(market, self._venue.name),
            in_flight=list(
                self._orders.filter(
                    Q(bot=self._bot.slug, state__in=IN_FLIGHT)
                    | Q(instrument=order.instrument, state__in=DOUBTFUL)
                ).order_by("pk")
            ),
            lots={row.slot: row.lots for row in positions},
            held=positions.aggregate(held=Sum("quantity"))["held"] or Decimal(0),
            sent_this_second=sent.filter(market_at__gt=now - SECOND).count(),
            sent_this_minute=sent.filter(
                order__bot=self._bot.slug, market_at__gt=now - MINUTE
            ).count(),
            sent_today=risk.orders_today,
            price=price,
            owners=discrepancies.owners_share(market, self._venue, order.instrument),
        )

    def _price(self, instrument: str) -> Decimal | None:
        try:
            return self._venue.quote(instrument)
        except (Retry, Degraded) as error:
            # The venue itself has the last word on the price; an exit must not wait for a quote.
            log.warning("%s: no price of %s: %s", self._bot.slug, instrument, error)
            return None

    def _margin(self, order: Order) -> tuple[Decimal, Decimal] | None:
        """Return what an order would bind and what is free, None where the venue does not say."""
        try:
            needed = self._venue.margin_needed(order.instrument, order.quantity)
            return needed, self._venue.margins().available
        except (Retry, Degraded) as error:
            # Its refusal for want of margin is one we know, and costs nothing.
            log.warning("%s: no margin of %s: %s", self._bot.slug, order.tag, error)
            return None

    def _stop_loop(self, refused: Refusal) -> None:
        halting.halt(self._bot, f"{refused.reason}: that looks like a loop", "the bot")


def limits_of(bot: Bot, lot_size: Decimal) -> Limits:
    """Return a bot's limits as the registry has them, in an instrument of a lot's size."""
    return Limits(
        lots=bot.limit_lots,
        notional=bot.notional_limit,
        quantity=bot.limit_lots * len(bot.slots) * lot_size,
        orders_a_day=limits.ORDERS_A_DAY,
    )


def locked_risk(bot: Bot) -> RiskState:
    """Return a bot's risk row, with those of its whole account locked."""
    rows = RiskState.on(bot.market).objects.select_for_update().order_by("bot")
    return next(row for row in rows if row.bot == bot.slug)
