"""A model of a broker and a ledger in memory, to run the real protocol through random schedules.

The broker refuses, loses, delays and forgets as the documented ones do; the bot dies at every
failpoint. After every act the invariants of the research's list (I1 to I10) are checked.
"""

import datetime as dt
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bots.live import limits, netting, protocol, states
from bots.live.limits import Limits, Standing
from bots.live.netting import Leg, Target
from bots.live.orders import tag_of
from bots.live.states import DOUBTFUL, IN_FLIGHT, State
from markets.venues.base import BookOrder, Margins, OrderRefused, OrderUncertain, VenueTrade
from tradingsite.errors import Retry

START = dt.datetime(2026, 6, 1, 4, tzinfo=dt.UTC)
INSTRUMENT, SLOT, LOT = "BTC-PERP", "btc-1h", Decimal("0.01")
LIMIT_LOTS = 4
PRICE = Decimal(60_000)
DAY_SECONDS, SESSION_SECONDS = 86_400, 21_600
Send = Callable[..., None]


class Violation(BaseException):
    """An invariant does not hold; no handler of errors may take it for one of the venue's."""


class Crash(BaseException):
    """The process is killed here."""


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
    state: str = State.INTENT
    filled_quantity: Decimal = Decimal(0)
    story: list[str] = field(default_factory=lambda: [str(State.INTENT)])


class MemoryLedger:
    """The ledger as the protocol needs it; what it was told is committed."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self.orders: dict[str, ModelRow] = {}
        self.booked: dict[str, Decimal] = {}
        self.halted = False
        self.sent: list[dt.datetime] = []
        self.gives_up_after: float | None = None
        self.has_sessions = True

    def intend(self, legs: Sequence[Leg], bar: dt.datetime) -> list[ModelRow]:
        """Commit the intents of a decision."""
        protocol.fail_at("before_intent")
        made = []
        for leg in legs:
            tag = tag_of("simulated:btc", "btc", bar, f"{leg.name}:{leg.instrument}")
            assert tag not in self.orders
            quantity = leg.lots * LOT
            row = ModelRow(
                *(tag, "btc", leg.instrument, quantity, leg.name, leg.shares, bar, PRICE),
                self._clock.now,
            )
            self.orders[tag] = row
            made.append(row)
        return made

    def begin(self, order: ModelRow) -> bool:
        """Check the limits and commit SUBMITTING."""
        refused = limits.refusal(order, self._standing(), Limits(LIMIT_LOTS, Decimal(10**9)))
        if refused is not None:
            self.move(order, State.DENIED, refused.reason)
            return False
        self.sent.append(self._clock.now)
        self.move(order, State.SUBMITTING, "")
        return True

    def only_reduces(self, order: ModelRow) -> bool:
        """Return False: the model's broker knows no such orders."""
        return False

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

    def unseen(self, trades: Sequence[VenueTrade]) -> list[VenueTrade]:
        """Return what is not booked."""
        return [trade for trade in trades if trade.trade_id not in self.booked]

    def take(self, order: ModelRow, trade: VenueTrade) -> bool:
        """Book a trade."""
        if trade.trade_id in self.booked:
            return False
        self.booked[trade.trade_id] = trade.quantity
        order.filled_quantity += trade.quantity
        whole = abs(order.filled_quantity) >= abs(order.quantity)
        self.move(order, State.FILLED if whole else State.PARTIAL, "")
        return True

    def cannot_arrive(self, order: ModelRow) -> bool:
        """Say what PostgreSQL's says of an exchange with sessions."""
        if self.gives_up_after is not None:
            return (self._clock.now - order.created_at).total_seconds() > self.gives_up_after
        if not self.has_sessions:
            return False
        return (
            self._clock.day(order.created_at) == self._clock.day(self._clock.now)
            and self._clock.into_day(self._clock.now) > SESSION_SECONDS + 600
        )

    def explains(self, positions: Mapping[str, Decimal], instrument: str) -> bool:
        """Compare the position."""
        return self.gives_up_after is not None or positions.get(instrument, 0) == self.held()

    def held(self) -> Decimal:
        """Return the net of what is booked."""
        return sum(self.booked.values(), Decimal(0))

    def lots(self) -> int:
        """Return the whole lots of it."""
        return int(self.held() / LOT)

    def _standing(self) -> Standing:
        now = self._clock.now
        ages = [(now - at).total_seconds() for at in self.sent]
        return Standing(
            halted="by a person" if self.halted else "",
            flattens=False,
            reduces_only=False,
            stopped={},
            in_flight=self.in_flight(),
            lots={SLOT: self.lots()},
            held=self.held(),
            sent_this_second=sum(age < 1 for age in ages),
            sent_this_minute=sum(age < 60 for age in ages),
            sent_today=sum(self._clock.day(at) == self._clock.day(now) for at in self.sent),
            price=PRICE,
        )


@dataclass
class Clock:
    """The one time of the model."""

    now: dt.datetime = START

    @staticmethod
    def day(at: dt.datetime) -> int:
        """Return the number of a day."""
        return int((at - START).total_seconds() // DAY_SECONDS)

    @staticmethod
    def into_day(at: dt.datetime) -> float:
        """Return the seconds since a day's opening."""
        return (at - START).total_seconds() % DAY_SECONDS


@dataclass
class Placed:
    """One order at the broker."""

    tag: str
    quantity: Decimal
    arrives_at: dt.datetime
    has_arrived: bool = False
    state: str = "open"
    filled: Decimal = Decimal(0)
    shown_after: int = 0
    plan: str = "at once"


class ModelBroker:
    """A broker that does with orders whatever brokers have been seen to do."""

    name = "model"
    is_shared_with_owner = False
    closes_positions_daily = False
    takes_orders_when_closed = True

    def __init__(
        self, chance: random.Random, clock: Clock, may_send: Callable[[str], str], *, sessions: bool
    ) -> None:
        self._chance = chance
        self._clock = clock
        self._may_send = may_send
        self._sessions = sessions
        self.rules_out = not sessions and chance.random() < 0.5
        self.posts: list[tuple[str, dt.datetime]] = []
        self.orders_placed: list[Placed] = []
        self.fills: list[VenueTrade] = []
        self.is_down = False
        self.is_blind = False
        self.hiccups = 0.05
        self.ruled_out: set[str] = set()

    # --- What a bot calls --------------------------------------------------------------------

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        *,
        reduces: bool = False,
    ) -> str:
        """Take an order, or lose it, or anything between."""
        if found := self._may_send(tag):
            raise Violation(found)
        self.posts.append((tag, self._clock.now))
        fate = self._chance.choices(
            ("ok", "refused", "lost", "deaf", "late", "odd refusal", "dead on arrival"),
            (48, 7, 10, 12, 13, 5, 5),
        )[0]
        if self._sessions and self._clock.into_day(self._clock.now) > SESSION_SECONDS:
            fate = "refused"
        if fate == "refused" or tag in self.ruled_out:
            raise OrderRefused("margin")
        if fate != "lost":
            delay = self._chance.choice((1, 8, 83, 200, 1800)) if fate == "late" else 0
            placed = Placed(tag, quantity, self._clock.now + dt.timedelta(seconds=delay))
            placed.plan = self._chance.choice(("at once", "at once", "parts", "rests"))
            placed.shown_after = self._chance.choice((0, 0, 0, 1, 3))
            if fate == "dead on arrival":
                placed.state = "rejected"
            self.orders_placed.append(placed)
            self.pass_time()
        if fate in ("ok", "dead on arrival"):
            return str(len(self.orders_placed))
        if fate == "odd refusal":
            raise OrderUncertain("400: order request timed out, check the order book")
        raise TimeoutError("no answer after 7 s")

    def cancel(self, order: BookOrder) -> None:
        """Cancel, perhaps without saying so."""
        if self._chance.random() < 0.3:
            raise Retry("503")
        for each in self.orders_placed:
            if each.tag == order.tag and each.has_arrived and each.state == "open":
                each.state = "cancelled"
        if self._chance.random() < 0.2:
            raise Retry("the answer was lost")

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Show those of some tags, or less."""
        return [each for each in self._book() if each.tag in tags]

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Show all there is, or less."""
        return self._book()

    def rule_out(self, tag: str) -> bool:
        """Take a tag back, where this broker can."""
        if self.rules_out and not any(each.tag == tag for each in self.orders_placed):
            self.ruled_out.add(tag)
            return True
        return False

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Show the executions."""
        self._answer()
        return [] if self.is_blind else [trade for trade in self.fills if trade.at >= since]

    def positions(self) -> dict[str, Decimal]:
        """Return the net; unlike the book it is never empty for nothing."""
        self._answer()
        net = self.net()
        return {INSTRUMENT: net} if net else {}

    def quote(self, instrument: str) -> Decimal | None:
        """Return the price."""
        return PRICE

    def margins(self) -> Margins:
        """Return plenty."""
        return Margins("USDC", Decimal(10**6), Decimal(0))

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return nothing: margins are the real venues' tests."""
        return Decimal(0)

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return nothing."""
        return [Decimal(0)] * len(trades)

    # --- What happens to it ------------------------------------------------------------------

    def pass_time(self) -> None:
        """Let orders arrive, fill and end."""
        for each in self.orders_placed:
            if not each.has_arrived and each.arrives_at <= self._clock.now:
                each.has_arrived = True
                if self._sessions and self._is_over(each.arrives_at, each):
                    each.state = "rejected"
                self._fill(each, first=True)
            elif each.has_arrived:
                self._fill(each, first=False)
            if each.has_arrived and each.state == "open" and self._is_over(self._clock.now, each):
                each.state = "cancelled"

    def net(self) -> Decimal:
        """Return what the account holds."""
        return sum((trade.quantity for trade in self.fills), Decimal(0))

    def extremes(self) -> tuple[Decimal, Decimal]:
        """Return the least and the most the account may come to hold, all on its way counted."""
        low = high = self.net()
        for each in self.orders_placed:
            if each.state == "open":
                rest = each.quantity - each.filled
                low, high = low + min(rest, Decimal(0)), high + max(rest, Decimal(0))
        return low, high

    def _is_over(self, at: dt.datetime, order: Placed) -> bool:
        sent = next(sent for tag, sent in self.posts if tag == order.tag)
        same = self._clock.day(sent) == self._clock.day(at)
        return self._sessions and not (same and self._clock.into_day(at) <= SESSION_SECONDS)

    def _fill(self, each: Placed, first: bool) -> None:
        if each.state != "open" or (each.plan == "rests" and self._chance.random() < 0.8):
            return
        rest = each.quantity - each.filled
        part = rest
        if each.plan == "parts" and abs(rest) > LOT:
            part = LOT if rest > 0 else -LOT
        each.filled += part
        self.fills.append(
            VenueTrade(f"m{len(self.fills)}", each.tag, INSTRUMENT, part, PRICE, self._clock.now)
        )
        if each.filled == each.quantity:
            each.state = "filled"

    def _answer(self) -> None:
        if self.is_down or self._chance.random() < self.hiccups:
            raise Retry("503")

    def _book(self) -> list[BookOrder]:
        self._answer()
        if self.is_blind:
            return []
        shown = []
        for each in self.orders_placed:
            if not each.has_arrived:
                continue
            if each.shown_after:
                each.shown_after -= 1
                continue
            shown.append(
                BookOrder(
                    *(each.tag, INSTRUMENT, each.quantity, each.state, each.arrives_at, ""),
                    each.filled,
                )
            )
        return shown


class World:
    """One schedule: a bot, its ledger, its broker, and chance."""

    def __init__(
        self,
        seed: int,
        send: Send = protocol.send,
        *,
        sessions: bool = True,
        ledger: Any = None,
        on_time: Callable[[dt.datetime], None] = lambda now: None,
    ) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self._on_time = on_time
        on_time(self.clock.now)
        self.ledger = ledger or MemoryLedger(self.clock)
        self.ledger.has_sessions = sessions
        self.broker = ModelBroker(self.chance, self.clock, self._may_send, sessions=sessions)
        self._send = send
        self._bars = 0
        self._dies_at: tuple[str, int] | None = None
        self._filled: dict[str, Decimal] = {}
        self.crashes = 0

    def run(self, acts: int = 30) -> None:
        """Run a schedule to its end, and check what must hold then."""
        before, protocol.on_failpoint = protocol.on_failpoint, self._failpoint
        try:
            for _ in range(acts):
                self._act()
                self._check()
            self._end()
        finally:
            protocol.on_failpoint = before

    def _act(self) -> None:
        act = self.chance.choices(
            ("decide", "wait", "reconcile", "halt", "down", "blind", "doom", "restart"),
            (34, 26, 18, 4, 4, 4, 8, 2),
        )[0]
        if act == "wait":
            self._wait(self.chance.choice((0.1, 1, 7, 30, 120, 900, 3600, 20_000)))
        elif act == "halt":
            self.ledger.halted = not self.ledger.halted
        elif act == "down":
            self.broker.is_down = not self.broker.is_down
        elif act == "blind":
            self.broker.is_blind = not self.broker.is_blind
        elif act == "doom":
            point = self.chance.choice(protocol.FAILPOINTS)
            self._dies_at = (point, self.chance.choice((1, 1, 2)))
        else:
            self._guarded(self._decide if act == "decide" else self._reconcile)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Crash:
            self.crashes += 1
            self._dies_at = None
            # The supervisor starts it again; it decides nothing before it has reconciled.
            while self.broker.is_down:
                self.broker.is_down = self.chance.random() < 0.5
                self._wait(30)
            self._guarded(self._reconcile)
        except Retry:
            pass

    def _decide(self) -> None:
        self._reconcile()
        # A decision that overlooks what is in flight must be stopped where it is sent.
        if self.ledger.in_flight() and self.chance.random() < 0.7:
            return
        self._bars += 1
        bar = self.clock.now.replace(microsecond=0) + dt.timedelta(microseconds=self._bars)
        wanted = self.chance.randint(-LIMIT_LOTS, LIMIT_LOTS)
        legs = netting.plan([Target(SLOT, INSTRUMENT, self.ledger.lots(), wanted)], INSTRUMENT)
        rows = self.ledger.intend(legs, bar)
        if self.chance.random() < 0.2:
            self.ledger.halted = True  # a person presses the switch just now

        def send_one(order: Any) -> None:
            self._send(self.ledger, self.broker, order, 1.0)

        def drop(order: Any, reason: str) -> None:
            self.ledger.move(order, State.NOT_PLACED, reason)

        protocol.send_all(rows, send_one, drop)

    def _reconcile(self) -> None:
        since = self.clock.now - dt.timedelta(days=2)
        done = protocol.reconcile(self.ledger, self.broker, since, self.ledger.halted)
        if done.strangers:
            raise Violation(f"I2: {done.strangers[0].tag} is at the broker and not in the ledger")

    def _wait(self, seconds: float) -> None:
        self.clock.now += dt.timedelta(seconds=seconds)
        self._on_time(self.clock.now)
        self.broker.pass_time()

    def _failpoint(self, point: str) -> None:
        if self._dies_at is None or self._dies_at[0] != point:
            return
        left = self._dies_at[1] - 1
        self._dies_at = (point, left) if left else None
        if not left:
            raise Crash(point)

    def _may_send(self, tag: str) -> str:
        row = self.ledger.rows([tag]).get(tag)
        if row is None or row.state != State.SUBMITTING:
            return f"I2: {tag} is sent as {row.state if row else 'nothing'}"
        if self.ledger.halted:
            return f"I7: {tag} is sent though halted"
        if any(sent == tag for sent, _ in self.broker.posts):
            return f"I3: {tag} is sent twice"
        return ""

    def _check(self) -> None:
        placed = [each.tag for each in self.broker.orders_placed]
        if len(placed) != len(set(placed)):
            raise Violation("I1: one tag is two orders")
        most = LIMIT_LOTS * LOT
        low, high = self.broker.extremes()
        if low < -most or high > most:
            raise Violation(f"I4: the account may come to hold {low} to {high}")
        for tag, row in self.ledger.rows(placed).items():
            if abs(row.filled_quantity) < abs(self._filled.get(tag, Decimal(0))):
                raise Violation(f"I6: {tag} has less filled than it had")
            self._filled[tag] = row.filled_quantity
        times = [at for _, at in self.broker.posts]
        for first, ninth in zip(times, times[limits.ORDERS_A_SECOND :], strict=False):
            if (ninth - first).total_seconds() < 1:
                raise Violation("I10: nine orders within one second")

    def _end(self) -> None:
        """Let the broker be well and everything arrive: both sides must agree."""
        self._dies_at = None
        self.broker.is_down = self.broker.is_blind = False
        self.broker.hiccups = 0.0
        self._wait(4_000)
        for _ in range(40):
            self._wait(60)
            self._guarded(self._reconcile)
        self._check()
        for row in self.ledger.intents() or self.ledger.in_flight():
            if row.state in (State.INTENT, State.SUBMITTING, State.LATE):
                raise Violation(f"I9: {row.tag} is still {row.state}")
            has_arrived = any(each.tag == row.tag for each in self.broker.orders_placed)
            if row.state in DOUBTFUL and has_arrived:
                raise Violation(f"I9: {row.tag} is {row.state} and in the book")
        if self.ledger.held() != self.broker.net():
            raise Violation(f"I5: {self.ledger.held()} booked, {self.broker.net()} traded")
        before = self.stories()
        self._guarded(self._reconcile)
        if self.stories() != before:
            raise Violation("I8: reconciling once more changed something")

    def stories(self) -> dict[str, tuple[str, ...]]:
        """Return the states that each order went through."""
        return {tag: tuple(row.story) for tag, row in self.ledger.orders.items()}
