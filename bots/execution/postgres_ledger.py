"""PostgreSQL's side of the order protocol: the ledger whose rows money depends on.

Orders of one account begin one after another, under a lock on all its bots' risk rows, so that
what is counted cannot change before the order that was allowed by it is committed.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import Count, Q

from bots.execution import (
    breaks,
    clearance,
    exit_sizing,
    fills,
    kill_switch,
    ledger,
    pretrade_checks,
)
from bots.execution.account import STALE_SECONDS, AccountView
from bots.execution.netting import EXITS, FLATTEN
from bots.execution.pretrade_checks import AccountSnapshot, Limits, Refusal
from bots.execution.states import DOUBTFUL, IN_FLIGHT, State
from bots.models import Order, OrderEvent, Position, RiskState
from markets.domain.instruments import Instruments
from markets.venues.base import Venue, VenueTrade
from tradingsite import clock, owner_limits
from tradingsite.registry import Bot
from tradingsite.supervision.serving import persist

MINUTE = dt.timedelta(minutes=1)
SECOND = dt.timedelta(seconds=1)
BOOK_CLOSES_AFTER_SECONDS = 600
"""After a session's end, until whatever was on its way has been refused."""
RECONCILED_AT = dt.time(16, 15)
"""Indian time from which a broker's book of the day is final: research/brokers.md 2.3."""
BOOK_BEGINS_AT = dt.time(9, 0)
"""Indian time before which a book without an order may only be one without its day."""
RESTS_SECONDS = 60.0
"""In an open market: our orders are to fill at once, and one that does not stands in the way."""

BEGIN_PATIENCE_SECONDS = 5.0
"""With locks that keep an order from its start: longer, and the look at the account is too old."""
MOVE_PATIENCE_SECONDS = 20.0
"""With locks that keep out what became of an order: it is out, and what follows waits for it."""


class DatabaseLedger:
    """The orders of one bot, in its account's own database."""

    def __init__(
        self, bot: Bot, venue: Venue, instruments: Instruments, view: AccountView | None = None
    ) -> None:
        """Take the account as it was seen for these orders; without, it is looked at for each."""
        self._bot = bot
        self._venue = venue
        self._instruments = instruments
        self._view = view
        self._orders = Order.on(bot.market).objects

    def begin(self, order: Order) -> bool:
        """Move an intent to SUBMITTING, or to DENIED where a limit says no."""
        lot_size = self._instruments.parse(order.instrument).lot_size
        # What must be asked of the venue is asked before the rows are locked.
        view = self._view or AccountView(self._venue, [order.instrument], lot_size)
        price = view.price(order.instrument)
        is_exit = order.leg in EXITS
        margin = None if is_exit else view.margin(order.instrument, order.quantity)
        legs = view.legs(order.instrument)
        asked = order.quantity

        def submit() -> Refusal | None:
            return self._submit(order, lot_size, view, price, margin, legs)

        refused = persist(submit, BEGIN_PATIENCE_SECONDS)
        if refused is not None:
            if refused.is_loop:
                self._stop_loop(refused)
            elif refused.is_told:
                exit_sizing.tell_refused(self._bot, order, refused)
            return False
        view.sent(order.instrument, order.product, order.quantity)
        if order.quantity != asked:
            exit_sizing.tell_cut(self._bot, order, asked, legs)
        return True

    def _submit(
        self,
        order: Order,
        lot_size: Decimal,
        view: AccountView,
        price: Decimal | None,
        margin: tuple[Decimal, Decimal] | None,
        legs: Mapping[str, Decimal] | None,
    ) -> Refusal | None:
        """Commit SUBMITTING, or DENIED with the refusal that is returned."""
        is_exit = order.leg in EXITS
        with transaction.atomic(using=self._bot.market, durable=True):
            risk = locked_risk(self._bot)
            rows = exit_sizing.rows_beside(order, self._venue)
            refused = None
            if is_exit:
                refused = exit_sizing.fit_exit(order, self._venue, rows, legs, lot_size)
            elif error := owner_limits.in_force.error:
                refused = Refusal(f"the owner's limits cannot be read: {error}", is_told=True)
            elif clearance.refusals:
                refused = Refusal(f"not fit to trade live: {'; '.join(clearance.refusals)}")
            elif (age := view.age_seconds()) > STALE_SECONDS:
                refused = Refusal(f"{self._venue.name} took {age:.0f} s to say what the account is")
            if refused is None:
                standing = self.account_snapshot(order, risk, price, rows, view, margin)
                refused = pretrade_checks.check(order, standing, limits_of(self._bot, lot_size))
            if refused is not None:
                ledger.move(order, State.DENIED, refused.reason)
            else:
                risk.orders_today += 1
                risk.updated_at = clock.market()
                risk.save(update_fields=["orders_today", "updated_at"])
                ledger.move(
                    order,
                    State.SUBMITTING,
                    arrival_price=price,
                    sent_at=clock.real(),
                    **{name: getattr(order, name) for name in exit_sizing.FIELDS},
                )
        return refused

    def only_reduces(self, order: Order) -> bool:
        """Return whether an order can but make the account's position smaller.

        Every exit can: it was held against the account's position, and fitted to it, before.
        """
        return order.leg in EXITS

    def move(self, order: Order, state: State, detail: str) -> None:
        """Change an order's state, with its event."""

        def move() -> None:
            with transaction.atomic(using=self._bot.market, durable=True):
                ledger.move(order, state, detail)

        persist(move, MOVE_PATIENCE_SECONDS)

    def intents(self) -> Sequence[Order]:
        """Return the orders that were never begun."""
        return list(self._orders.filter(bot=self._bot.slug, state=State.INTENT).order_by("pk"))

    def in_flight(self) -> Sequence[Order]:
        """Return the orders that may still change what is held, oldest first."""
        return ledger.in_flight(self._bot)

    def rows(self, tags: Collection[str]) -> Mapping[str, Order]:
        """Return this bot's and other bots' orders of some tags."""
        return {order.tag: order for order in self._orders.filter(tag__in=tags)}

    def own(self, tags: Collection[str]) -> Mapping[str, Order]:
        """Return this bot's orders of some tags."""
        rows = self._orders.filter(tag__in=tags, bot=self._bot.slug) if tags else []
        return {order.tag: order for order in rows}

    def unseen(self, trades: Sequence[VenueTrade]) -> Sequence[VenueTrade]:
        """Return those of the executions that are not booked yet."""
        return fills.unseen(self._bot.market, trades)

    def take(self, order: Order, trade: VenueTrade) -> bool:
        """Book one execution, once."""
        return fills.take_trade(self._bot, order.pk, trade, self._instruments)

    def was_accepted(self, order: Order) -> bool:
        """Return whether the venue ever said that it has the order."""
        events = OrderEvent.on(self._bot.market).objects.filter(order_id=order.pk)
        return events.filter(state=State.ACKED).exists()

    def has_ended(self, order: Order) -> bool:
        """Return whether whatever came of an order has come and would show by now.

        Only where no order outlives a session: on its own day once the broker has reconciled that
        with the exchange, and on a later trading day once that day's book has begun.
        """
        if not self._venue.keeps_day_book:
            return False
        now = clock.market().astimezone(clock.IST)
        sent_on, today = clock.trading_date(order.created_at), now.date()
        calendar = self._instruments.calendar
        if sent_on < today:
            return calendar.session_on(today) is not None and now.time() >= BOOK_BEGINS_AT
        session = calendar.session_on(sent_on)
        return (
            session is not None
            and order.created_at.timestamp() < session.closes_at
            and now.timestamp() >= session.closes_at + BOOK_CLOSES_AFTER_SECONDS
            and now.time() >= RECONCILED_AT
        )

    def rests_too_long(self, order: Order) -> bool:
        """Return whether an accepted order has been waiting in an open market for too long."""
        if order.state not in (State.ACKED, State.PARTIAL) or order.sent_at is None:
            return False
        now = clock.market()
        session = self._instruments.calendar.session_at(clock.epoch(now))
        if session is None or not self._instruments.calendar.is_open(clock.epoch(now)):
            return False
        # What was given before the session waits since its opening only.
        since_open = now.timestamp() - session.opens_at
        # Sent in the future: the clock was set back, and nobody knows for how long it has waited.
        waited = abs((clock.real() - order.sent_at).total_seconds())
        return min(waited, since_open) >= RESTS_SECONDS

    def outlives_halt(self, order: Order) -> bool:
        """Return whether an order is a person's own closing of a halted bot's position."""
        return order.leg == FLATTEN

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Return whether the account holds of an instrument just what is booked."""
        expiry = self._instruments.parse(instrument).expiry
        if expiry is not None and expiry < clock.trading_date(clock.market()):
            return False  # what it traded was settled, and no position shows it any more
        booked = breaks.explained(self._bot.market, self._venue)
        return positions.get(instrument, Decimal(0)) == booked.get(instrument, Decimal(0))

    def account_snapshot(
        self,
        order: Order,
        risk: RiskState,
        price: Decimal | None,
        beside: Sequence[Position],
        view: AccountView | None = None,
        margin: tuple[Decimal, Decimal] | None = None,
    ) -> AccountSnapshot:
        """Return what the limits need to know of the account; its risk rows must be locked.

        `beside` are the rows that `fitting.rows_beside` gives.
        """
        market = self._bot.market
        rows = [row for row in beside if row.bot == self._bot.slug]
        of_account, of_bot = self._sent_lately()
        return AccountSnapshot(
            halted=risk.halt_reason or "by a person" if risk.halted else "",
            flattens=risk.halted and risk.flatten,
            reduces_only=risk.loss_latched,
            stopped=breaks.stopped(market, self._venue.name),
            in_flight=list(
                self._orders.filter(
                    Q(bot=self._bot.slug, state__in=IN_FLIGHT)
                    | Q(instrument=order.instrument, state__in=DOUBTFUL)
                ).order_by("pk")
            ),
            lots={row.slot: row.lots for row in rows},
            held=sum((row.quantity for row in rows), Decimal(0)),
            sent_this_second=of_account,
            sent_this_minute=of_bot,
            sent_today=risk.orders_today,
            price=price,
            owners=exit_sizing.owners_share(market, self._venue, order.instrument, beside, view),
            margin=margin,
        )

    def _sent_lately(self) -> tuple[int, int]:
        """Return how many orders the account sent in a second, and this bot in a minute."""
        now = clock.market()  # which is real time wherever money is
        sent = OrderEvent.on(self._bot.market).objects.filter(
            state=State.SUBMITTING, market_at__gt=now - MINUTE
        )
        counts = sent.aggregate(
            second=Count("pk", filter=Q(market_at__gt=now - SECOND)),
            minute=Count("pk", filter=Q(order__bot=self._bot.slug)),
        )
        return counts["second"], counts["minute"]

    def _stop_loop(self, refused: Refusal) -> None:
        kill_switch.halt(self._bot, f"{refused.reason}: that looks like a loop", "the bot")


def limits_of(bot: Bot, lot_size: Decimal) -> Limits:
    """Return a bot's limits as the registry has them, in an instrument of a lot's size."""
    return Limits(
        lots=bot.limit_lots,
        notional=bot.notional_limit,
        quantity=bot.limit_lots * len(bot.slots) * lot_size,
        orders_a_day=pretrade_checks.ORDERS_A_DAY,
    )


def locked_risk(bot: Bot) -> RiskState:
    """Return a bot's risk row, with those of its whole account locked."""
    rows = RiskState.on(bot.market).objects.select_for_update().order_by("bot")
    return next(row for row in rows if row.bot == bot.slug)
