"""A world in memory around the real protocol: a bot, its ledger, its broker, its owner, and chance.

The bot dies at every failpoint, the owner trades, modifies and converts in the same account, and a
person ends what nobody knows. After every act the invariants of the research's list (I1 to I10) are
checked, and I11: no exit takes an account through zero.
"""

import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from bots.execution import netting, pretrade_checks, protocol
from bots.execution.netting import Target
from bots.execution.states import DOUBTFUL, State
from tests.bots.execution.model_broker import (
    DAY_SECONDS,
    INSTRUMENT,
    LOT,
    PRICE,
    SESSION_SECONDS,
    START,
    ZERO,
    Clock,
    ModelBroker,
    Violation,
)
from tests.bots.execution.model_ledger import LIMIT_LOTS, SLOT, MemoryLedger
from tradingsite.errors import Retry

ENDED_BY_POSITION = (State.CANCELLED, State.NOT_PLACED)
Send = Callable[..., None]
__all__ = ["PRICE", "START", "MemoryLedger", "Violation", "World"]


class Crash(BaseException):
    """The process is killed here."""


class World:
    """One schedule: a bot, its ledger, its broker, its owner, and chance."""

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
        self.ledger.broker = self.broker
        self._send = send
        self._sessions = sessions
        self._bars = 0
        self._dies_at: tuple[str, int] | None = None
        self._filled: dict[str, Decimal] = {}
        self.crashes = 0
        self.acts: dict[str, int] = {}

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
            (
                *("decide", "wait", "reconcile", "halt", "down", "blind", "doom", "restart"),
                *("owner", "force", "convert", "modify", "person"),
            ),
            (36, 24, 18, 4, 4, 4, 8, 2, 2, 1, 2, 2, 6),
        )[0]
        self.acts[act] = self.acts.get(act, 0) + 1
        kinds = ("", "orders", "trades", "holdings")
        self.broker.fails = self.chance.choices(kinds, (92, 3, 3, 2))[0]
        if act == "wait":
            self._wait(self.chance.choice((0.1, 1, 7, 30, 120, 900, 3600, 20_000, 50_000)))
        elif act == "halt":
            self.ledger.halted = not self.ledger.halted
        elif act == "down":
            self.broker.is_down = not self.broker.is_down
        elif act == "blind":
            self.broker.is_blind = not self.broker.is_blind
        elif act == "doom":
            point = self.chance.choice(protocol.FAILPOINTS)
            self._dies_at = (point, self.chance.choice((1, 1, 2)))
        elif act in ("owner", "force"):
            self._foreign(act == "force")
        elif act == "convert":
            self.broker.convert()
        elif act == "modify":
            self.broker.modify()
        elif act == "person":
            self.ledger.person(self.broker)
            self.ledger.halted = False
        else:
            self._guarded(self._decide if act == "decide" else self._reconcile)

    def _foreign(self, by_venue: bool) -> None:
        """Let the owner trade by hand, or the venue close a part of what is held."""
        held = self.broker.net()
        if by_venue:
            if held and not self._sessions:
                self.broker.hand(-held, "", by_venue=True)
        elif not self._sessions or self._clock_is_open():
            lots = self.chance.choice((-3, -1, 1, 2)) if not held else self.chance.randint(-5, 5)
            if lots:
                self.broker.hand(lots * LOT, self.broker.product)

    def _clock_is_open(self) -> bool:
        return self.clock.into_day(self.clock.now) < SESSION_SECONDS

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
        if self.chance.random() < 0.1:
            # Between the look at the account and the order, his own hand is as quick as ours.
            self._foreign(by_venue=self.chance.random() < 0.3)
        if self.chance.random() < 0.05:
            self.broker.convert()

        def send_one(order: Any) -> None:
            self._send(self.ledger, self.broker, order, 1.0)

        def drop(order: Any, reason: str) -> None:
            self.ledger.move(order, State.NOT_PLACED, reason)

        protocol.send_all(rows, send_one, drop)

    def _reconcile(self) -> None:
        done = self.ledger.reconcile(self.broker, self.clock.now - dt.timedelta(days=2))
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
        rows = self.ledger.rows(placed)
        # What the bot has, all that has traded of its orders and is not booked yet with it. Of an
        # earlier day nobody can know what traded and was closed again before the bot came back.
        unbooked = sum(
            (
                self.broker.traded(tag) - row.filled_quantity
                for tag, row in rows.items()
                if not (row.state in ENDED_BY_POSITION and self.broker.forgot(tag))
            ),
            ZERO,
        )
        low, high = self.broker.on_their_way()
        held = self.ledger.held() + unbooked
        if held + low < -most or held + high > most:
            raise Violation(f"I4: the bot may come to hold {held + low} to {held + high}")
        for tag, row in rows.items():
            if abs(row.filled_quantity) < abs(self._filled.get(tag, ZERO)):
                raise Violation(f"I6: {tag} has less filled than it had")
            self._filled[tag] = row.filled_quantity
        times = [at for _, at in self.broker.posts]
        for first, ninth in zip(times, times[pretrade_checks.ORDERS_A_SECOND :], strict=False):
            if (ninth - first).total_seconds() < 1:
                raise Violation("I10: nine orders within one second")

    def _end(self) -> None:
        """Let the broker be well and two sessions pass: both sides must agree, or it is told."""
        self._dies_at = None
        self.broker.is_down = self.broker.is_blind = False
        self.broker.fails = ""
        self._wait(4_000)
        for _ in range(40):
            self._wait(60)
            self._guarded(self._reconcile)
        self._check()
        if self._sessions:
            # To ten in the morning, two days later.
            into = self.clock.into_day(self.clock.now)
            self._wait(2 * DAY_SECONDS - into + 1_800)
            for _ in range(3):
                self._wait(90)
                self._guarded(self._reconcile)
        self._check_ends()
        for _ in range(2):
            self.ledger.person(self.broker, is_sure=True)
            self._wait(90)
            self._guarded(self._reconcile)
        self.ledger.person(self.broker, is_sure=True)
        if self.ledger.explained() != self.broker.net():
            found = f"{self.ledger.explained()} booked, {self.broker.net()} traded"
            raise Violation(f"I5: {found}, after a person has said all")
        before = self.stories()
        self._guarded(self._reconcile)
        if self.stories() != before:
            raise Violation("I8: reconciling once more changed something")

    def _check_ends(self) -> None:
        """No order is without an end, and nothing differs without a notice."""
        stopped = self.ledger.stopped
        for row in self.ledger.intents() or self.ledger.in_flight():
            if row.state in (State.INTENT, State.SUBMITTING, State.LATE):
                raise Violation(f"I9: {row.tag} is still {row.state}")
            if self._sessions and not (row.state == State.UNKNOWN and stopped):
                raise Violation(f"I9: {row.tag} is {row.state} two days later, and nobody is told")
            has_arrived = any(each.tag == row.tag for each in self.broker.orders_placed)
            if not self._sessions and row.state in DOUBTFUL and has_arrived:
                raise Violation(f"I9: {row.tag} is {row.state} and in the book")
        if self.ledger.explained() != self.broker.net() and not stopped:
            found = f"{self.ledger.explained()} booked, {self.broker.net()} traded"
            raise Violation(f"I5: {found}, and nothing is stopped")

    def stories(self) -> dict[str, tuple[str, ...]]:
        """Return the states that each order went through."""
        return {tag: tuple(row.story) for tag, row in self.ledger.orders.items()}
