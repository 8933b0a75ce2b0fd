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
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from markets.bars import Bars
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

    def bars(self, instrument: str, timeframe: str, start: int, end: int) -> Bars:
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
    closes_positions_daily: bool
    """It squares off what is still held shortly before each session's end."""

    def place(
        self,
        tag: str,
        instrument: str,
        quantity: Decimal,
        slippage_bps: float,
        *,
        reduces: bool = False,
    ) -> str:
        """Send one market order and return the venue's id; called once for a tag, never retried.

        One that `reduces` may only make the account's position smaller; a venue that cannot
        promise that ignores it. Raises OrderRefused for a known refusal; after any other error
        the order may exist.
        """

    def cancel(self, order: BookOrder) -> None:
        """Ask that what is left of an order be taken out of the book; may be asked again."""

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the book holds."""

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant that carry a tag of our form."""

    def rule_out(self, tag: str) -> bool:
        """Return whether an order that the book does not hold is proved never to arrive."""

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first."""

    def positions(self) -> dict[str, Decimal]:
        """Return the account's quantity in each instrument it holds."""

    def quote(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None before the first."""

    def margins(self) -> Margins:
        """Return what the account can still use."""

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order would bind, as the account stands now."""

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return what the venue itself says that each execution cost, slippage not counted."""


class PricedVenue(Venue, DataVenue, Protocol):
    """An account at a venue that also shows its prices."""
