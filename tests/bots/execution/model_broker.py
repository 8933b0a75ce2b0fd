"""A broker in memory that does with orders and positions whatever brokers have been seen to do.

It refuses, loses and delays orders, forgets its book each night, fills in part and calls that
filled, is reconciled with the exchange after the close, squares off, lets the owner trade, modify
and convert in the same account, and liquidates. `research/brokers.md` has the sources.
"""

import datetime as dt
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from markets.venues.base import (
    BookOrder,
    Holding,
    Margins,
    OrderRefused,
    OrderUncertain,
    VenueTrade,
    net,
)
from tradingsite.errors import Retry

START = dt.datetime(2026, 6, 1, 4, tzinfo=dt.UTC)
"""Half past nine in India; a day of the model begins at it, in a session."""
INSTRUMENT, LOT = "BTC-PERP", Decimal("0.01")
PRICE = Decimal(60_000)
DAY_SECONDS, SESSION_SECONDS = 86_400, 21_600
SQUARES_OFF_SECONDS = SESSION_SECONDS - 240
RECONCILED_SECONDS = 24_300
"""Into a day: a quarter past four."""
MIDNIGHT_SECONDS, MORNING_SECONDS = 52_200, 84_600
"""Into a day: midnight, and nine o'clock of the date after."""
NRML, MIS = "NRML", "MIS"
ZERO = Decimal(0)


class Violation(BaseException):
    """An invariant does not hold; no handler of errors may take it for one of the venue's."""


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
    reduces: bool
    product: str
    has_arrived: bool = False
    state: str = "open"
    filled: Decimal = ZERO
    shown_after: int = 0
    plan: str = "at once"


class ModelBroker:
    """One account at a broker with sessions, or at an exchange without."""

    name = "model"
    takes_orders_when_closed = True
    is_remote = False

    def __init__(
        self, chance: random.Random, clock: Clock, may_send: Callable[[str], str], *, sessions: bool
    ) -> None:
        self._chance = chance
        self._clock = clock
        self._may_send = may_send
        self._sessions = sessions
        self.is_shared_with_owner = self.keeps_day_book = sessions
        self.honours_reduce_only = not sessions
        self.product = chance.choice((NRML, MIS)) if sessions else ""
        self.rules_out = not sessions and chance.random() < 0.5
        self._forgets_at = chance.choice((MIDNIGHT_SECONDS, 75_000, 84_000))
        self.posts: list[tuple[str, dt.datetime]] = []
        self.orders_placed: list[Placed] = []
        self.fills: list[VenueTrade] = []
        self.converted: list[tuple[str, str, Decimal]] = []
        self.is_down = False
        self.is_blind = False
        self.fails = ""
        """The kind of question that is not answered now, "" for none."""
        self.ruled_out: set[str] = set()
        self._squared_off_on = -1

    # --- What a bot calls --------------------------------------------------------------------

    def take_turn(self, instrument: str) -> None:
        """Refuse where nobody answers."""
        if self.is_down:
            raise OrderRefused("not sent: no turn")

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        *,
        reduces: bool = False,
        product: str = "",
        sent_at: dt.datetime | None = None,
    ) -> str:
        """Take an order, or lose it, or anything between."""
        if found := self._may_send(tag):
            raise Violation(found)
        held = self.legs().get(product, ZERO)
        if reduces and self._sessions and (held * quantity >= 0 or abs(quantity) > abs(held)):
            raise Violation(f"I11: an exit of {quantity} goes out where {held} is held")
        self.posts.append((tag, self._clock.now))
        fate = self._chance.choices(
            ("ok", "refused", "lost", "deaf", "late", "odd refusal", "dead on arrival"),
            (48, 7, 10, 12, 13, 5, 5),
        )[0]
        into = self._clock.into_day(self._clock.now)
        if self._sessions and (
            into > SESSION_SECONDS or (product == MIS and into > SQUARES_OFF_SECONDS)
        ):
            fate = "refused"
        if fate == "refused" or tag in self.ruled_out:
            raise OrderRefused("margin")
        if fate != "lost":
            delay = self._chance.choice((1, 8, 83, 200, 1800)) if fate == "late" else 0
            arrives_at = self._clock.now + dt.timedelta(seconds=delay)
            placed = Placed(tag, quantity, arrives_at, reduces, product)
            plans = ["at once", "at once", "parts", "rests", "part told as all", "part, then no"]
            placed.plan = self._chance.choice([*plans, "settled late"] if self._sessions else plans)
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

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
        """Take a tag back, where this broker can."""
        if self.rules_out and not any(each.tag == tag for each in self.orders_placed):
            self.ruled_out.add(tag)
            return True
        return False

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Show the executions, of the day only where the book is."""
        self._answer("trades")
        return [
            trade
            for trade in self.fills
            if trade.at >= since and not self.is_blind and self._is_of_book(trade.at)
        ]

    def positions(self) -> dict[str, Decimal]:
        """Return the net; unlike the book it is never empty for nothing."""
        return net(self.holdings())

    def holdings(self) -> list[Holding]:
        """Return the legs."""
        self._answer("holdings")
        return [
            Holding(INSTRUMENT, quantity, product)
            for product, quantity in self.legs().items()
            if quantity
        ]

    def squares_off_at(self, product: str, date: dt.date) -> dt.datetime | None:
        """Return nothing: the model's bot does not leave by itself."""
        return None

    def quote(self, instrument: str) -> Decimal | None:
        """Return the price."""
        return PRICE

    def margins(self) -> Margins:
        """Return plenty."""
        return Margins("USDC", Decimal(10**6), ZERO)

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return nothing: margins are the real venues' tests."""
        return ZERO

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return nothing."""
        return [ZERO] * len(trades)

    # --- What happens to it ------------------------------------------------------------------

    def pass_time(self) -> None:
        """Let orders arrive, fill and end, and positions be squared off."""
        for each in self.orders_placed:
            if not each.has_arrived and each.arrives_at <= self._clock.now:
                each.has_arrived = True
                if self._sessions and self._is_over(each.arrives_at, each):
                    each.state = "rejected"
                self._fill(each, first=True)
            elif each.has_arrived:
                self._fill(each, first=False)
            if each.has_arrived and each.state == "open" and self._is_over(self._clock.now, each):
                self._end_of_day(each)
        self._square_off()

    def hand(self, quantity: Decimal, product: str, *, by_venue: bool = False) -> None:
        """Let the owner trade, or the broker by itself."""
        number = f"m{len(self.fills)}"
        self.fills.append(
            VenueTrade(
                *(number, "", INSTRUMENT, quantity, PRICE, self._clock.now),
                by_venue=by_venue,
                product=product,
            )
        )

    def convert(self) -> None:
        """Let the owner turn a leg into the other product."""
        for product, quantity in self.legs().items():
            if self._sessions and quantity:
                into = MIS if product == NRML else NRML
                self.converted.append((product, into, quantity))
                return

    def modify(self) -> None:
        """Let the owner make an open order smaller, down to what has filled of it."""
        for each in self.orders_placed:
            if each.has_arrived and each.state == "open" and abs(each.quantity) > LOT:
                side = 1 if each.quantity > 0 else -1
                each.quantity = max(abs(each.filled), LOT) * side
                if each.filled == each.quantity:
                    each.state = "filled"
                return

    def legs(self) -> dict[str, Decimal]:
        """Return what the account holds by product."""
        held: dict[str, Decimal] = {}
        for trade in self.fills:
            held[trade.product] = held.get(trade.product, ZERO) + trade.quantity
        for product, into, quantity in self.converted:
            held[product] = held.get(product, ZERO) - quantity
            held[into] = held.get(into, ZERO) + quantity
        return held

    def net(self) -> Decimal:
        """Return what the account holds."""
        return sum((trade.quantity for trade in self.fills), ZERO)

    def traded(self, tag: str) -> Decimal:
        """Return what an order has filled, from the broker's own records."""
        return sum((trade.quantity for trade in self.fills if trade.tag == tag), ZERO)

    def forgot(self, tag: str) -> bool:
        """Return whether no book shows what an order has filled any more."""
        return not any(self._is_of_book(trade.at) for trade in self.fills if trade.tag == tag)

    def on_their_way(self) -> tuple[Decimal, Decimal]:
        """Return the least and the most that open orders and those still to arrive may add."""
        low = high = ZERO
        for each in self.orders_placed:
            if each.state == "open":
                rest = each.quantity - each.filled
                low, high = low + min(rest, ZERO), high + max(rest, ZERO)
        return low, high

    def _end_of_day(self, each: Placed) -> None:
        into = self._clock.into_day(self._clock.now)
        is_same_day = self._clock.day(self._clock.now) == self._clock.day(each.arrives_at)
        if each.plan == "settled late" and is_same_day and into < RECONCILED_SECONDS - 300:
            return  # the exchange's line broke; who knows what became of it
        if each.plan == "settled late":
            self._trade(each, each.quantity - each.filled, each.arrives_at)
            each.state = "filled"
            return
        each.state = "cancelled"

    def _square_off(self) -> None:
        day, into = self._clock.day(self._clock.now), self._clock.into_day(self._clock.now)
        if not self._sessions or into < SQUARES_OFF_SECONDS or day == self._squared_off_on:
            return
        self._squared_off_on = day
        held = self.legs().get(MIS, ZERO)
        if not held:
            return
        if self._chance.random() < 0.8:
            self.hand(-held, MIS, by_venue=True)
        else:
            self.converted.append((MIS, NRML, held))  # it failed: overnight, then

    def _is_over(self, at: dt.datetime, order: Placed) -> bool:
        sent = next(sent for tag, sent in self.posts if tag == order.tag)
        same = self._clock.day(sent) == self._clock.day(at)
        return self._sessions and not (same and self._clock.into_day(at) <= SESSION_SECONDS)

    def _fill(self, each: Placed, first: bool) -> None:
        if each.state != "open" or each.plan == "settled late":
            return
        if each.plan == "rests" and self._chance.random() < 0.8:
            return
        if self._sessions and self._is_over(self._clock.now, each):
            return
        rest = each.quantity - each.filled
        if each.reduces and self.honours_reduce_only:
            held = self.net()
            most = min(abs(rest), abs(held)) if held * rest < 0 else ZERO
            rest = most if rest > 0 else -most
            if not rest:
                each.state = "cancelled"
                return
        part = rest
        if each.plan.startswith("part") and abs(rest) > LOT:
            part = LOT if rest > 0 else -LOT
        self._trade(each, part, self._clock.now)
        if each.filled == each.quantity or each.plan == "part told as all":
            each.state = "filled"
        elif each.plan == "part, then no":
            each.state = "rejected"

    def _trade(self, each: Placed, part: Decimal, at: dt.datetime) -> None:
        if not part:
            return
        each.filled += part
        trade = VenueTrade(f"m{len(self.fills)}", each.tag, INSTRUMENT, part, PRICE, at)
        self.fills.append(replace(trade, product=each.product))

    def _answer(self, kind: str) -> None:
        if self.is_down or self.fails == kind:
            raise Retry("503")

    def _is_of_book(self, at: dt.datetime) -> bool:
        """Return whether something of an instant is in the book of now."""
        if not self._sessions:
            return True
        ends = dt.timedelta(seconds=DAY_SECONDS - self._forgets_at)
        return self._clock.day(at + ends) == self._clock.day(self._clock.now + ends)

    def _book(self) -> list[BookOrder]:
        self._answer("orders")
        if self.is_blind:
            return []
        shown = []
        for each in self.orders_placed:
            if not each.has_arrived or not self._is_of_book(each.arrives_at):
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
