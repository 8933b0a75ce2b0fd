"""A ledger in memory that does what PostgreSQL's does, through the same pure functions."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bots.execution import cover, netting, pretrade_checks, protocol, states
from bots.execution.netting import EXITS, FLATTEN, Leg
from bots.execution.orders import tag_of
from bots.execution.pretrade_checks import AccountSnapshot, Limits
from bots.execution.states import IN_FLIGHT, State
from markets.venues.base import VenueTrade
from tests.bots.execution.model_broker import (
    INSTRUMENT,
    LOT,
    MIDNIGHT_SECONDS,
    MIS,
    MORNING_SECONDS,
    PRICE,
    RECONCILED_SECONDS,
    SESSION_SECONDS,
    START,
    ZERO,
    Clock,
    ModelBroker,
)
from tradingsite.errors import Retry

SLOT = "btc-1h"
LIMIT_LOTS = 4
RESTS_SECONDS = 60
SETTLES_SECONDS = 60


@dataclass
class ModelRow:
    """One order of the ledger's."""

    tag: str
    bot: str
    instrument: str
    quantity: Decimal
    leg: str
    shares: Mapping[str, int]
    bar_closes_at: dt.datetime
    reference_price: Decimal
    created_at: dt.datetime
    product: str = ""
    sent_at: dt.datetime | None = None
    state: str = State.INTENT
    filled_quantity: Decimal = ZERO
    story: list[str] = field(default_factory=lambda: [str(State.INTENT)])


class MemoryLedger:
    """The ledger as the protocol needs it; what it was told is committed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.orders: dict[str, ModelRow] = {}
        self.booked: dict[str, Decimal] = {}
        self.halted = False
        self.sent: list[dt.datetime] = []
        self.gives_up_after: float | None = None
        self.has_sessions = True
        self.broker: ModelBroker
        # What somebody else closed for the bot: of which execution, how much, by whose hand.
        self.closed: list[tuple[str, Decimal, bool]] = []
        self.owners: dict[str, Decimal] = {}
        self.adopted = ZERO
        self.stopped = ""
        self.product = ""
        self.told = 0

    # --- What the protocol asks ----------------------------------------------------------------

    def intend(self, legs: Sequence[Leg], bar: dt.datetime) -> list[ModelRow]:
        """Commit the intents of a decision."""
        protocol.fail_at("before_intent")
        made = []
        for leg in legs:
            tag = tag_of("simulated:btc", "btc", bar, f"{leg.name}:{leg.instrument}")
            assert tag not in self.orders
            row = ModelRow(
                *(tag, "btc", leg.instrument, leg.lots * LOT, leg.name, leg.shares, bar, PRICE),
                self._clock.now,
                self.product or self.broker.product,
            )
            self.orders[tag] = row
            made.append(row)
        return made

    def begin(self, order: ModelRow) -> bool:
        """Fit an exit to the account, check the limits and commit SUBMITTING."""
        try:
            legs = self.broker.legs() if self.broker.fails != "holdings" else None
            if self.broker.is_down:
                legs = None
        except Retry:
            legs = None
        refused = None
        if order.leg in EXITS:
            refused = self._fit(order, legs)
        if refused is None:
            refused = pretrade_checks.check(
                order, self._standing(legs), Limits(LIMIT_LOTS, Decimal(10**9))
            )
        if refused is not None:
            self.move(order, State.DENIED, refused.reason)
            return False
        self.sent.append(self._clock.now)
        order.sent_at = self._clock.now
        self.move(order, State.SUBMITTING, "")
        return True

    def only_reduces(self, order: ModelRow) -> bool:
        """Say what PostgreSQL's says."""
        return order.leg in EXITS

    def move(self, order: ModelRow, state: State, detail: str) -> None:
        """Commit a state."""
        states.check(order.state, state)
        order.state = state
        order.story.append(str(state))

    def intents(self) -> list[ModelRow]:
        """Return those never begun."""
        return [row for row in self.orders.values() if row.state == State.INTENT]

    def in_flight(self) -> list[ModelRow]:
        """Return those that may still fill."""
        return [row for row in self.orders.values() if row.state in IN_FLIGHT]

    def rows(self, tags: Collection[str]) -> dict[str, ModelRow]:
        """Return the orders of tags."""
        return {tag: self.orders[tag] for tag in tags if tag in self.orders}

    def own(self, tags: Collection[str]) -> dict[str, ModelRow]:
        """Return the same: there is one bot."""
        return self.rows(tags)

    def unseen(self, trades: Sequence[VenueTrade]) -> list[VenueTrade]:
        """Return what is not booked."""
        return [trade for trade in trades if trade.trade_id not in self.booked]

    def take(self, order: ModelRow, trade: VenueTrade) -> bool:
        """Book a trade."""
        if trade.trade_id in self.booked:
            return False
        if not self.held():
            self.product = order.product
        self.booked[trade.trade_id] = trade.quantity
        order.filled_quantity += trade.quantity
        whole = abs(order.filled_quantity) >= abs(order.quantity)
        state = State.FILLED if whole else State.PARTIAL
        if not whole and order.state == State.CANCELLED:
            state = State.CANCELLED
        self.move(order, state, "")
        return True

    def was_accepted(self, order: ModelRow) -> bool:
        """Look into its story."""
        return State.ACKED in order.story

    def has_ended(self, order: ModelRow) -> bool:
        """Say what PostgreSQL's says of an exchange with sessions."""
        if self.gives_up_after is not None:
            return (self._clock.now - order.created_at).total_seconds() > self.gives_up_after
        into = self._clock.into_day(self._clock.now)
        if not self.has_sessions or MIDNIGHT_SECONDS <= into < MORNING_SECONDS:
            return False
        days = self._clock.day(self._clock.now) - self._clock.day(order.created_at)
        days += into >= MORNING_SECONDS
        return days > 0 or RECONCILED_SECONDS <= into < MIDNIGHT_SECONDS

    def rests_too_long(self, order: ModelRow) -> bool:
        """Say what PostgreSQL's says."""
        if order.state not in (State.ACKED, State.PARTIAL) or order.sent_at is None:
            return False
        into = self._clock.into_day(self._clock.now)
        if self.has_sessions and not RESTS_SECONDS <= into < SESSION_SECONDS:
            return False
        return (self._clock.now - order.sent_at).total_seconds() >= RESTS_SECONDS

    def outlives_halt(self, order: ModelRow) -> bool:
        """Say what PostgreSQL's says."""
        return order.leg == FLATTEN

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Compare the position."""
        there = positions.get(instrument, ZERO)
        return self.gives_up_after is not None or there == self.explained()

    # --- What the account holds, and who closed what -------------------------------------------

    def reconcile(self, broker: ModelBroker, since: dt.datetime) -> Any:
        """Bring the orders up to the book, and the position up to the account."""
        done = protocol.reconcile(self, broker, since, self.halted)
        if not self.stopped and self.gives_up_after is None:
            self._close_missing(broker)
        self._compare(broker)
        if self.stopped and self.gives_up_after is None:
            self._close_missing(broker)
            self._compare(broker)
        for product, quantity in broker.legs().items():
            if self.held() and not cover.lacking(self.held(), quantity):
                own = broker.legs().get(self.product, ZERO)
                self.product = product if cover.lacking(self.held(), own) else self.product
        return done

    def held(self) -> Decimal:
        """Return the net of what is booked with the bot."""
        return sum(self.booked.values(), ZERO) + sum((part for _, part, _ in self.closed), ZERO)

    def explained(self) -> Decimal:
        """Return what the account should hold."""
        by_owner = sum((part for _, part, is_owner in self.closed if is_owner), ZERO)
        owners = sum(self.owners.values(), ZERO) - by_owner if self.has_sessions else ZERO
        return self.held() + owners + self.adopted

    def lots(self) -> int:
        """Return the whole lots of it."""
        return int(self.held() / LOT)

    def person(self, broker: ModelBroker, *, is_sure: bool = False) -> None:
        """Say what only a person can: what filled of a lost order, and who closed a position.

        One who is sure ends orders of which nothing more can come, whatever the calendar says.
        """
        for order in self.in_flight():
            if order.state == State.UNKNOWN and (is_sure or self.has_ended(order)):
                rest = broker.traded(order.tag) - order.filled_quantity
                if rest:
                    number = f"person-{order.tag}"
                    self.take(order, VenueTrade(number, order.tag, INSTRUMENT, rest, PRICE, START))
                    known = [each for each in broker.fills if each.tag == order.tag]
                    # Whatever the list shows of it again is booked by the person's word.
                    self.booked |= dict.fromkeys((each.trade_id for each in known), ZERO) | {
                        key: value
                        for key, value in self.booked.items()
                        if key in {each.trade_id for each in known}
                    }
                if order.state != State.FILLED:
                    was_there = order.filled_quantity or self.was_accepted(order)
                    ended = State.CANCELLED if was_there else State.NOT_PLACED
                    self.move(order, ended, "a person says so")
        if not self.stopped or self.in_flight():
            return  # first every order ends: what it traded is not anybody else's
        missing = cover.lacking(self.held(), broker.net())
        if missing:
            side = 1 if self.held() > 0 else -1
            self.closed.append((f"word-{len(self.closed)}", -side * missing, False))
        self.adopted += broker.net() - self.explained()
        self.stopped = ""

    def _fit(
        self, order: ModelRow, legs: Mapping[str, Decimal] | None
    ) -> pretrade_checks.Refusal | None:
        if legs is None:
            return None if self.broker.honours_reduce_only else pretrade_checks.Refusal("not read")
        product, allowed = cover.fit(order.quantity, order.product, legs, {}, LOT)
        order.product = product
        if not allowed:
            return pretrade_checks.Refusal("nothing to close")
        if allowed < abs(order.quantity):
            parts = netting.cut(netting.portions(order.shares, {}, LOT), allowed)
            order.shares, _ = netting.in_lots(parts, LOT)
            order.quantity = allowed if order.quantity > 0 else -allowed
        return None

    def _close_missing(self, broker: ModelBroker) -> None:
        if self.in_flight():
            return
        missing = cover.lacking(self.held(), broker.net())
        self._learn(broker)
        if not missing:
            return
        booked: dict[str, Decimal] = {}
        for number, part, _ in self.closed:
            booked[number] = booked.get(number, ZERO) + part
        side = -1 if self.held() > 0 else 1
        for trade in cover.closings(missing, side, broker.trades(START), booked):
            self.closed.append((trade.trade_id, trade.quantity, not trade.by_venue))
            self.halted |= not (trade.by_venue and trade.product == MIS)

    def _learn(self, broker: ModelBroker) -> None:
        for trade in broker.trades(START):
            if not trade.tag and not trade.by_venue:
                self.owners[trade.trade_id] = trade.quantity

    def _compare(self, broker: ModelBroker) -> None:
        if self._is_moving():
            return
        self._learn(broker)
        there = sum((each.quantity for each in broker.holdings()), ZERO)
        if there == self.explained():
            self.stopped = ""
        else:
            self.told += not self.stopped
            self.stopped = f"the ledger has {self.explained()}, the venue has {there}"

    def _is_moving(self) -> bool:
        ages = [self._clock.now - row.sent_at for row in self.in_flight() if row.sent_at]
        return any(age.total_seconds() < SETTLES_SECONDS for age in ages)

    def _standing(self, legs: Mapping[str, Decimal] | None) -> AccountSnapshot:
        now = self._clock.now
        ages = [(now - at).total_seconds() for at in self.sent]
        owners = self.adopted
        if legs is not None:
            # What PostgreSQL's sees before the decision's first order, and no part of it booked.
            owners = sum(legs.values(), ZERO) - self.held()
            for row in self.in_flight():
                owners -= self.broker.traded(row.tag) - row.filled_quantity
        return AccountSnapshot(
            halted="by a person" if self.halted else "",
            flattens=False,
            reduces_only=False,
            stopped={INSTRUMENT: self.stopped} if self.stopped else {},
            in_flight=self.in_flight(),
            lots={SLOT: self.lots()},
            held=self.held(),
            sent_this_second=sum(age < 1 for age in ages),
            sent_this_minute=sum(age < 60 for age in ages),
            sent_today=sum(self._clock.day(at) == self._clock.day(now) for at in self.sent),
            price=PRICE,
            owners=owners,
        )
