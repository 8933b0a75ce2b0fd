"""One bar's close for the slots it concerns: observe, ask the policy, decide, write it all down.

The observing, deciding and bounding are the replay's own functions; here they meet rows. Whatever
keeps a slot from deciding becomes a HOLD with its reason, never a gap.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from django.conf import settings
from django.db import transaction

from bots.decision.actions import HOLD, NAMES
from bots.decision.engine import decide, probabilities
from bots.decision.observation import WINDOW, Float32Array
from bots.decision.risk import RiskGate
from bots.execution import ledger, orders
from bots.execution.breaks import stopped
from bots.execution.netting import FLATTEN, LEAVE, Leg, Target, flatten, plan
from bots.live import marks
from bots.live.bar_schedule import DueBars
from bots.live.marks import MarkedSlot
from bots.live.policies import Loaded, Policies
from bots.models import Decision, Order, Position, RiskState
from markets import store
from markets.capture.instruments import daily as daily_instruments
from markets.domain.instruments import Instruments
from markets.venues.base import Venue
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry, StopTrading
from tradingsite.registry import Bot, Slot

REASON_CHARACTERS = 200
CAUSE = Decision.Cause
LAST_CALL_SECONDS = 11 * 60
"""Before the venue squares off and takes no exit any more: a quarter-hour's bar closes then."""
# Reaches over weekends and holidays from a window's last row to its first.
WINDOW_DAYS = {"15m": 14, "1h": 30, "4h": 14, "1d": 90}


@dataclass(frozen=True, slots=True)
class ClosedBar:
    """Hold what the store has of a slot's bar: its close in the underlying, and its window."""

    opens_at: Epoch
    underlying: float
    window: Float32Array | None
    """Feature rows (1, WINDOW, F) that end with this bar's; None where it has none (yet)."""
    underlying_open: float = 0.0
    """Where the bar began."""


class SlotDecision(NamedTuple):
    """What a slot does next: an action, the lots to hold, and why it held where it could not."""

    action: int
    lots_after: int
    cause: str
    reason: str = ""
    probabilities: tuple[float, ...] = ()
    """Of the seven actions by the policy; empty where it was not asked."""
    latency_ms: float | None = None


def load_closed_bar(slot: Slot, closes_at: Epoch) -> ClosedBar | None:
    """Return the bar of a slot that closed at an instant, or None while it is not stored."""
    bars = store.load_bars(slot.market, slot.timeframe, closes_at - 1, closes_at)
    if not len(bars):
        return None
    start = closes_at - WINDOW_DAYS[slot.timeframe] * 86_400
    rows = store.load_features(slot.market, slot.timeframe, start, closes_at, last=WINDOW)
    is_here = len(rows) == WINDOW and int(rows.closes_at[-1]) == closes_at
    window = np.ascontiguousarray(rows.values[None]) if is_here else None
    opened = float(bars.open[-1])
    return ClosedBar(Epoch(bars.opens_at[-1]), float(bars.close[-1]), window, opened)


class Decider:
    """Decide for one bot's slots and write decisions, marks and intents in one transaction."""

    def __init__(
        self, bot: Bot, venue: Venue, instruments: Instruments, policies: Policies
    ) -> None:
        self._bot = bot
        self._venue = venue
        self._instruments = instruments
        self._policies = policies

    def decide(self, due: DueBars, inputs: Mapping[str, ClosedBar | None]) -> list[Order]:
        """Decide the slots whose bars have closed; return the orders to send, intended.

        `inputs` has an entry for each of the slots, None where its bar did not come in time.
        """
        now = clock.market_epoch()
        risk = RiskState.on(self._bot.market).objects.get(bot=self._bot.slug)
        gate = marks.gate_of(self._bot, risk)
        rows = ledger.positions(self._bot)
        obstacle = self._obstacle(risk, now)
        leaves = self.is_last_call(now, rows.values())
        made, marked = self._decide_slots(due, inputs, rows, gate, obstacle, leaves=leaves)
        here = [each for each in inputs.values() if each]
        underlying = max(here, key=lambda each: each.opens_at).underlying if here else None
        wanted = {each.slot: each.lots_after for each in made}
        if leaves:
            wanted = dict.fromkeys(rows, 0)
        with transaction.atomic(using=self._bot.market, durable=True):
            marks.save_gate(self._bot, gate)
            marks.save_marks(self._bot, marked)
            intended = []
            if not obstacle[1] and underlying is not None:
                intended = self._intend(rows, wanted, underlying, Epoch(due.newest), now)
            for each in made:
                each.order = next((order for order in intended if each.slot in order.shares), None)
            Decision.on(self._bot.market).objects.bulk_create(made)
        if gate.is_latched and not risk.loss_latched:
            marks.notify_loss_limit(self._bot)
        return intended

    def _decide_slots(
        self,
        due: DueBars,
        inputs: Mapping[str, ClosedBar | None],
        rows: Mapping[str, Position],
        gate: RiskGate,
        obstacle: tuple[str, str],
        *,
        leaves: bool,
    ) -> tuple[list[Decision], list[tuple[marks.MarkedSlot, int]]]:
        """Return a decision for each slot that is due, and the marks that they were made at."""
        made, marked = [], []
        for slot, closes_at in due.closes.items():
            row, found = rows[slot.slug], inputs[slot.slug]
            if found is None:
                late = SlotDecision(
                    HOLD, row.lots, CAUSE.STALE, "bar late: it was not stored in time"
                )
                made.append(self._row(slot, Epoch(closes_at), row, self._last_price(row), late))
                continue
            mark = marks.mark(self._bot, row, self._instruments, found.underlying, found.opens_at)
            gate.observe(Epoch(closes_at), sum((each.equity for each in rows.values()), Decimal(0)))
            loaded = self._policies.current(slot)
            row.model = loaded.name if loaded else ""
            choice = self._choose(found, mark, loaded, gate, obstacle, leaves=leaves)
            made.append(self._row(slot, Epoch(closes_at), row, mark.price, choice, loaded))
            marked.append((mark, closes_at))
        return made, marked

    def roll(self, closes_at: Epoch, underlying: float) -> list[Order]:
        """Intend the roll of what is held of an old contract, outside any decision."""
        now = clock.market_epoch()
        rows = ledger.positions(self._bot)
        with transaction.atomic(using=self._bot.market, durable=True):
            return self._intend(rows, {}, underlying, closes_at, now)

    def flatten(self, minute: Epoch) -> list[Order]:
        """Intend the closing of all that is held, named after the minute; an exit needs no model.

        What is less than a lot too. A minute that was tried before, by a process that died, is not
        tried again.
        """
        return self._close_all(minute, FLATTEN)

    def leave(self, minute: Epoch) -> list[Order]:
        """Intend the closing of what the venue is about to square off, where no bar has done so."""
        return self._close_all(minute, LEAVE)

    def _close_all(self, minute: Epoch, leg: str) -> list[Order]:
        at = clock.from_seconds(minute)
        rows = ledger.positions(self._bot)
        held = [row for row in rows.values() if row.quantity]
        prices = {
            row.instrument: self._quote(row.instrument) or row.average_price or Decimal(0)
            for row in held
        }
        with transaction.atomic(using=self._bot.market, durable=True):
            earlier = Order.on(self._bot.market).objects.filter(
                bot=self._bot.slug, bar_closes_at=at, leg=leg
            )
            if earlier.exists():
                return []
            legs = flatten([(row.slot, row.instrument, row.lots) for row in held], leg)
            return orders.intend(self._bot, legs, at, prices, self._instruments, rows)

    def _quote(self, instrument: str) -> Decimal | None:
        try:
            return self._venue.quote(instrument)
        except (Retry, Degraded):
            return None  # an exit must not wait for a quote

    def obstacle(self, risk: RiskState, now: Epoch) -> str:
        """Return what keeps the whole bot from new orders now, or nothing."""
        return self._obstacle(risk, now)[1]

    def _obstacle(self, risk: RiskState, now: Epoch) -> tuple[str, str]:
        if risk.halted:
            return CAUSE.HALTED, f"halted: {risk.halt_reason}"
        waiting = ledger.in_flight(self._bot)
        if waiting:
            words = f"order {waiting[0].tag} is {waiting[0].get_state_display()}, not yet settled"
            return CAUSE.IN_FLIGHT, words
        fills_at = self._instruments.tradable_at(now)
        if fills_at is None:
            return CAUSE.CLOSED, "the calendar knows no later session"
        date = clock.trading_date(fills_at)
        if not self._instruments.calendar.is_verified(date):
            return CAUSE.CLOSED, f"the calendar's entry for {date} is not verified"
        front = self._instruments.front(Epoch(fills_at)).name
        if why := stopped(self._bot.market, self._venue.name).get(front):
            return CAUSE.RISK, f"{front} is stopped: {why}"
        if settings.MODE == "simulated":
            return "", ""  # the simulated venue's contracts are the calendar's own
        words = daily_instruments.trading_allowed(self._bot.market, clock.from_seconds(now))
        return CAUSE.CLOSED, words

    def is_last_call(self, now: Epoch, rows: Iterable[Position]) -> bool:
        """Return whether the venue is about to square off what we hold, so that we leave first."""
        session = self._instruments.calendar.session_at(now)
        if session is None:
            return False
        product = orders.product_of(rows) or self._venue.product
        ends_at = self._venue.squares_off_at(product, session.date)
        return ends_at is not None and now >= ends_at.timestamp() - LAST_CALL_SECONDS

    def _choose(
        self,
        found: ClosedBar,
        mark: MarkedSlot,
        loaded: Loaded | None,
        gate: RiskGate,
        obstacle: tuple[str, str],
        *,
        leaves: bool,
    ) -> SlotDecision:
        held = mark.row.lots
        if obstacle[1]:
            return SlotDecision(HOLD, held, *obstacle)
        if leaves:
            words = f"{self._venue.name} squares off what is held at the session's end"
            return SlotDecision(HOLD, 0, CAUSE.CLOSED, words)
        if loaded is None:
            return SlotDecision(HOLD, held, CAUSE.NO_MODEL, "no model yet")
        if found.window is None:
            late = "bar late: its feature row did not come in time"
            return SlotDecision(HOLD, held, CAUSE.STALE, late)
        began = time.perf_counter()
        try:
            code = loaded.policy.encode(found.window)
            decision = decide(mark.sleeve, loaded.policy.act(code, mark.account), gate)
        except Degraded as error:
            return SlotDecision(HOLD, held, CAUSE.REFUSED, str(error))
        took_ms = (time.perf_counter() - began) * 1e3
        shares = tuple(probabilities(decision.logits))
        cause = self._cause(decision.action, held, decision.lots_after, gate)
        return SlotDecision(decision.action, decision.lots_after, cause, "", shares, took_ms)

    def _cause(self, action: int, held: int, lots_after: int, gate: RiskGate) -> str:
        """Return in one word why a policy's action did or did not become an order."""
        if lots_after != held:
            return CAUSE.TRADE
        if action == HOLD:
            return CAUSE.CHOICE
        if gate.is_latched:
            return CAUSE.RISK
        if abs(held) == self._bot.limit_lots:
            return CAUSE.BOUNDED
        return CAUSE.DEAD

    def _row(
        self,
        slot: Slot,
        closes_at: Epoch,
        row: Position,
        price: Decimal,
        choice: SlotDecision,
        loaded: Loaded | None = None,
    ) -> Decision:
        return Decision.on(slot.market)(
            slot=slot.slug,
            bar_closes_at=clock.from_seconds(closes_at),
            decided_at=clock.market(),
            action=NAMES[choice.action],
            probabilities=list(choice.probabilities),
            lots_before=row.lots,
            lots_after=choice.lots_after,
            price=price,
            model=row.model,
            model_sha256=loaded.sha256 if loaded else "",
            latency_ms=choice.latency_ms,
            cause=choice.cause,
            reason=choice.reason[:REASON_CHARACTERS],
        )

    def _intend(
        self,
        rows: Mapping[str, Position],
        wanted: Mapping[str, int],
        underlying: float,
        closes_at: Epoch,
        now: Epoch,
    ) -> list[Order]:
        """Write the intents that bring each slot to its wanted lots, else to those it holds."""
        fills_at = self._instruments.tradable_at(now)
        if fills_at is None:
            return []
        front = self._instruments.front(Epoch(fills_at)).name
        targets = [
            Target(slot, row.instrument, row.lots, wanted.get(slot, row.lots))
            for slot, row in rows.items()
        ]
        legs = plan(targets, front)
        prices = self._reference_prices(legs, underlying, Epoch(fills_at))
        bar_closes_at = clock.from_seconds(closes_at)
        return orders.intend(
            *(self._bot, legs, bar_closes_at, prices, self._instruments, rows),
            self._venue.product,
        )

    def _reference_prices(
        self, legs: Sequence[Leg], underlying: float, fills_at: Epoch
    ) -> dict[str, Decimal]:
        """Return what each leg's contract is worth where it fills, as the underlying stands."""
        prices = {}
        for name in {leg.instrument for leg in legs}:
            price = self._instruments.price(self._instruments.parse(name), underlying, fills_at)
            if price is None:
                raise StopTrading(f"{name} is neither the front contract nor an expired one")
            prices[name] = ledger.money(price)
        return prices

    def _last_price(self, row: Position) -> Decimal:
        return self._quote(row.instrument) or row.average_price or Decimal(0)
