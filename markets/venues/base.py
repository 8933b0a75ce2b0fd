"""What the desk asks of a venue, whichever broker or exchange stands behind it.

Instruments go by the desk's own names, which say what they are: "NIFTY", "INDIA VIX",
"NIFTY 2026-06-30 FUT", "NIFTY 2026-06-30 25000 CE", "BTC-PERP". A venue looks its own symbols up in
its own list of the day and never puts one together.

Every error says what to do. Reading: Retry (ask again later), Degraded (go on with less), and of
those TokenRefused (nothing will work until someone signs in). Placing: only a refusal the venue is
known to make ends an order, OrderRefused; any other error leaves it unknown whether the order
arrived, and only the venue's book can tell.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from markets.domain.bars import Bars
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry


class OrderRefused(Degraded):
    """The venue said no, for good: the order is not in the market and never will be."""


class InsufficientFunds(OrderRefused):
    """The venue said no for want of margin."""


class OrderUncertain(Degraded):
    """The order may or may not have arrived: ask the book, and never send it again."""


class TokenRefused(Degraded):
    """The venue no longer takes our token: sign in again; until then nothing is read or sent."""


class RateLimited(Retry):
    """The venue wants us slower."""


class RefusedForToken(OrderRefused, TokenRefused):
    """The order was refused, or not sent, because the venue does not take our token."""


class RefusedForRate(OrderRefused, RateLimited):
    """The order was refused, or not sent, because we are too fast."""


class NotListed(Degraded):
    """The venue's list of the day has no such instrument."""


@dataclass(frozen=True, slots=True)
class VenueInstrument:
    """Describe one row of a venue's list."""

    name: str
    """The desk's name."""
    symbol: str
    """The venue's own, like "NFO:NIFTY26JUNFUT" or "BTC/USDC:USDC"."""
    token: int
    """The number ticks carry; 0 where the venue has none."""
    kind: str
    """INDEX, FUT, CE, PE or PERP."""
    underlying: str
    expiry: dt.date | None
    strike: Decimal
    lot_size: Decimal
    """Units per lot."""
    tick_size: Decimal


@dataclass(frozen=True, slots=True)
class MarketQuote:
    """Hold what a venue shows of an instrument; bid and ask are 0 where nobody stands there."""

    instrument: str
    last: Decimal
    bid: Decimal
    ask: Decimal
    volume: Decimal
    """Of the day, in units."""
    interest: Decimal
    """Open interest in units."""
    at: dt.datetime
    """The venue's own time of it, aware."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Hold one message of a venue's stream about one instrument."""

    instrument: str
    last: float
    bid: float
    ask: float
    volume: int
    interest: int
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Margins:
    """Say what an account can still use, and what it uses."""

    currency: str
    available: Decimal
    used: Decimal


@dataclass(frozen=True, slots=True)
class Holding:
    """Hold what an account has of an instrument in one product; the quantity is signed."""

    instrument: str
    quantity: Decimal
    product: str = ""
    """Legs of different products do not close each other; "" where the venue has none."""
    average_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BookOrder:
    """Describe an order as the venue's book has it; the quantity is signed, positive buys."""

    tag: str
    instrument: str
    quantity: Decimal
    state: str
    """open, filled, cancelled or rejected."""
    accepted_at: dt.datetime
    message: str = ""
    filled_quantity: Decimal = Decimal(0)
    """Signed, as the quantity is."""
    venue_id: str = ""


@dataclass(frozen=True, slots=True)
class VenueTrade:
    """Describe one execution; its id is the venue's own and never used twice."""

    trade_id: str
    tag: str
    """Ours, or nothing where the owner traded by hand."""
    instrument: str
    quantity: Decimal
    price: Decimal
    at: dt.datetime
    by_venue: bool = False
    """The venue gave the order itself: a square-off, a liquidation."""
    product: str = ""


SEND_WITHIN = dt.timedelta(seconds=5)
"""After the ledger's commit; an order that did not leave by then was decided on other prices."""


def refuse_if_late(sent_at: dt.datetime | None, now: dt.datetime) -> None:
    """Raise OrderRefused for an order that did not leave in time: the last look before it does."""
    # Too early as well: the clock was set back, and nobody knows for how long it has waited.
    if sent_at is not None and abs(now - sent_at) > SEND_WITHIN:
        late = (now - sent_at).total_seconds()
        raise OrderRefused(f"not sent: it was to leave {late:.0f} s ago, on the prices of then")


def net(holdings: Iterable[Holding]) -> dict[str, Decimal]:
    """Return the quantity of each instrument, its products added up; none of them is zero."""
    held: dict[str, Decimal] = {}
    for each in holdings:
        held[each.instrument] = held.get(each.instrument, Decimal(0)) + each.quantity
    return {name: quantity for name, quantity in held.items() if quantity}


class TickStream(Protocol):
    """A stream of ticks that runs until it is closed."""

    def is_alive(self) -> bool:
        """Return whether a message came lately: libraries do not notice a server that froze."""

    def close(self) -> None:
        """End the stream."""


class DataVenue(Protocol):
    """A source of prices."""

    name: str

    def instruments(self) -> list[VenueInstrument]:
        """Return the venue's list of today: what the desk may know of by name."""

    def reach_seconds(self, timeframe: str) -> int:
        """Return how long a span of bars one request gives; 0 where there are none such."""

    def bars(self, instrument: str, timeframe: str, start: Epoch, end: Epoch) -> Bars:
        """Return the closed bars that open in [start, end), in epoch seconds; none is forming."""

    def quotes(self, instruments: Collection[str]) -> dict[str, MarketQuote]:
        """Return the quotes of instruments; one the venue says nothing of is not among them."""

    def ticks(
        self, instruments: Collection[str], on_ticks: Callable[[list[Tick]], None]
    ) -> TickStream:
        """Start a stream that hands over ticks in its own thread."""


class Venue(Protocol):
    """A broker or an exchange, seen from one market's account."""

    name: str
    is_shared_with_owner: bool
    """The owner trades by hand in the same account."""
    takes_orders_when_closed: bool
    """It keeps an order given outside a session for the next one; else that is refused."""
    product: str
    """What new positions are opened in; "" where the venue has no products."""
    keeps_day_book: bool
    """Its book and its executions are of the day, and no order outlives it."""
    honours_reduce_only: bool
    """It cuts an order that only reduces to what is held, whatever else happens meanwhile."""
    is_remote: bool
    """Its answers come over the network, so that several are best asked for at once."""

    def take_turn(self, instrument: str) -> None:
        """Wait until an order may go out at once; raise OrderRefused where it may not.

        Called before the ledger says that the order is on its way: whatever takes long is done
        here, and what is refused here was provably never sent.
        """

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
        """Send one market order and return the venue's id; called once for a tag, never retried.

        One that `reduces` may only make the account's position smaller; a venue that cannot
        promise that ignores it. `sent_at` is the real time at which the ledger committed it: an
        order is not sent later than SEND_WITHIN after it. Raises OrderRefused for a known refusal
        and for what was not sent; after any other error the order may exist.
        """

    def cancel(self, order: BookOrder) -> None:
        """Ask that what is left of an order be taken out of the book; may be asked again."""

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the book holds."""

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant that carry a tag of our form."""

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
        """Return whether an order that the book does not hold is proved never to arrive."""

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first."""

    def positions(self) -> dict[str, Decimal]:
        """Return the account's net quantity in each instrument it holds."""

    def holdings(self) -> list[Holding]:
        """Return what the account holds, each product apart."""

    def squares_off_at(self, product: str, date: dt.date) -> dt.datetime | None:
        """Return when it closes positions of a product on a date, None where it does not."""

    def quote(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None before the first."""

    def margins(self) -> Margins:
        """Return what the account can still use."""

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order of a quantity would bind at most, on whichever side it is."""

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return what the venue itself says that each execution cost, slippage not counted."""


class PricedVenue(Venue, DataVenue, Protocol):
    """An account at a venue that also shows its prices."""
