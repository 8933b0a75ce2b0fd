"""The broker Zerodha, through its own client: prices, orders, and what the account holds.

There is no client order id: a tag of ours is all by which an order is found again. Its book and its
executions are of the day, and its positions are legs by product. How it is called is in
`kite_calls`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

from markets.domain.bars import Bars
from markets.domain.calendar import DAY_SECONDS, trading_date
from markets.domain.contracts import freeze_quantity
from markets.venues import own_simulator
from markets.venues.base import (
    BookOrder,
    Holding,
    Margins,
    MarketQuote,
    NotListed,
    OrderRefused,
    RateLimited,
    RefusedForRate,
    RefusedForToken,
    TickStream,
    TokenRefused,
    VenueInstrument,
    VenueTrade,
    net,
    refuse_if_late,
)
from markets.venues.kite import account, contract_notes, errors, products
from markets.venues.kite import rows as kite_rows
from markets.venues.kite.account import DayBook
from markets.venues.kite.calls import KiteCalls
from markets.venues.kite.rows import Directory
from markets.venues.limiter import HISTORICAL, ORDERS, OTHER, QUOTE
from markets.venues.odd_rows import UNREADABLE, legible
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry

EXCHANGES = ("NFO", "BFO", "NSE", "BSE")
# The broker's name of a timeframe, its seconds, and the days that one request may span:
# kite.trade/forum/discussion/12774.
INTERVALS = {
    "1m": ("minute", 60, 60),
    "3m": ("3minute", 180, 100),
    "5m": ("5minute", 300, 100),
    "10m": ("10minute", 600, 100),
    "15m": ("15minute", 900, 200),
    "30m": ("30minute", 1_800, 200),
    "1h": ("60minute", 3_600, 400),
    "1d": ("day", DAY_SECONDS, 2_000),
}
QUOTES_A_CALL = 500
TAG_CHARACTERS = 20
PROTECTION_BY_THE_BROKER = -1
# The broker's older pages speak of a cool-down of ten seconds after a 429.
COOL_DOWN_SECONDS = 10.0
# An order that had to wait longer was decided on other prices.
ORDER_PATIENCE_SECONDS = 5.0
# The list of the day is made in the early morning.
LISTED_AT = dt.time(8, 30)


class KiteVenue(KiteCalls):
    """Trade and read one account at the broker."""

    name = "kite"
    is_shared_with_owner = True
    takes_orders_when_closed = False
    keeps_day_book = True
    honours_reduce_only = False
    is_remote = True

    # --- Prices ----------------------------------------------------------------------------------

    def instruments(self) -> list[VenueInstrument]:
        """Return the indices, futures and options of today that the desk knows of by name."""
        return list(self._directory().by_name.values())

    def reach_seconds(self, timeframe: str) -> int:
        """Return how long a span of bars one request gives; 0 where there are none such."""
        return INTERVALS[timeframe][2] * DAY_SECONDS if timeframe in INTERVALS else 0

    def bars(self, instrument: str, timeframe: str, start: Epoch, end: Epoch) -> Bars:
        """Return the closed bars that open in [start, end), in epoch seconds; none is forming."""
        if timeframe not in INTERVALS:
            raise ValueError(f"the broker has no {timeframe!r} bars; it has {', '.join(INTERVALS)}")
        interval, seconds, days = INTERVALS[timeframe]
        token = self._directory().find(instrument).token
        rows: list[kite_rows.Row] = []
        for first, last in _spans(start, end, days):
            rows += self._read(HISTORICAL, "historical_data", token, first, last, interval)
        now = clock.market_seconds()
        return kite_rows.bars(
            *(rows, timeframe, seconds, self._calendar, start, end, now, self.odd_rows)
        )

    @legible
    def quotes(self, instruments: Collection[str]) -> dict[str, MarketQuote]:
        """Return the quotes of instruments; one the venue says nothing of is not among them."""
        by_name = self._directory().by_name
        names = {by_name[name].symbol: name for name in instruments if name in by_name}
        found: dict[str, MarketQuote] = {}
        left = iter(names)
        while symbols := list(islice(left, QUOTES_A_CALL)):
            # Not by the client's `quote`: it parses each row's times by guessing their form, which
            # takes longer than all the rest of a minute of the option chain.
            rows = self._read(QUOTE, "_get", "market.quote", None, {"i": symbols})
            asked = [(names[symbol], row) for symbol, row in rows.items() if symbol in names]
            read = self.odd_rows.read("quote", asked, lambda each: kite_rows.quote(*each))
            found |= {quote.instrument: quote for quote in read}
        self._last |= {name: quote.last for name, quote in found.items()}
        return found

    def quote(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None before the first."""
        found = self.quotes([instrument]).get(instrument)
        return found.last if found and found.last else None

    def ticks(
        self, instruments: Collection[str], on_ticks: Callable[[list[Any]], None]
    ) -> TickStream:
        """Start a stream that hands over ticks in its own thread; raise NotListed."""
        from markets.venues.kite.ticker import KiteStream

        directory = self._directory()
        tokens = {directory.find(name).token: name for name in instruments}
        return KiteStream(
            self._config.api_key,
            self._tokens.current,
            tokens,
            on_ticks,
            self._config.ws_root,
            headers=own_simulator.headers(self._config.desk),
        ).start()

    # --- Orders ----------------------------------------------------------------------------------

    def take_turn(self, instrument: str) -> None:
        """Wait for an order's turn at the limiter; raise OrderRefused where it does not come."""
        try:
            self._directory().find(instrument)
            self._client()
            self._limiter.acquire(ORDERS, ORDER_PATIENCE_SECONDS)
        except TokenRefused as error:
            raise RefusedForToken(f"not sent: {error}") from error
        except RateLimited as error:
            raise RefusedForRate(f"not sent: {error}") from error
        except (NotListed, Retry, Degraded) as error:
            raise OrderRefused(f"not sent: {error}") from error

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

        Its turn was taken before (`take_turn`). The broker protects the price by its own rule; the
        slippage is what the desk reckons with and is not sent. It knows no order that only
        reduces. Raises OrderRefused for what is known to be a refusal, or was never sent, and
        OrderUncertain after any other error: the order may exist.
        """
        exchange, symbol = self._fit_to_send(tag, instrument, quantity).symbol.split(":", 1)
        kite = self._client_to_send()
        refuse_if_late(sent_at, clock.real())
        try:
            return str(
                kite.place_order(
                    variety="regular",
                    exchange=exchange,
                    tradingsymbol=symbol,
                    transaction_type=kite_rows.side_of(quantity),
                    quantity=int(abs(quantity)),
                    product=product or self.product,
                    order_type="MARKET",
                    validity="DAY",
                    market_protection=PROTECTION_BY_THE_BROKER,
                    tag=tag,
                )
            )
        except Exception as error:
            reaction = errors.of_placing(error)
            self._slow_down(reaction)
            raise reaction from error

    def _client_to_send(self) -> Any:
        """Return the client; raise OrderRefused where there is none, for then nothing was sent."""
        try:
            return self._client()
        except TokenRefused as error:
            raise RefusedForToken(f"not sent: {error}") from error
        except (Retry, Degraded) as error:
            raise OrderRefused(f"not sent: {error}") from error

    def cancel(self, order: BookOrder) -> None:
        """Ask that what is left of an order be taken out of the book; may be asked again."""
        self._read(ORDERS, "cancel_order", "regular", order.venue_id)

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the book of today holds."""
        wanted = set(tags)
        return [order for order in self._book() if order.tag in wanted]

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant that carry a tag of our form."""
        second = since.replace(microsecond=0)  # the book knows no smaller parts
        return [
            order
            for order in self._book()
            if kite_rows.OUR_TAG.fullmatch(order.tag) and order.accepted_at >= second
        ]

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
        """Return False: this broker's orders may come late, and nothing takes a tag back."""
        return False

    # --- What came of them -----------------------------------------------------------------------

    @legible
    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return today's executions since an instant, oldest first, those by hand without a tag."""
        second = since.replace(microsecond=0)
        directory = self._directory()
        # The orders after the trades, so that no trade is older than the list that names its tag.
        # Not by the client's `trades` and `orders`: for one time that is none they give no row.
        rows = self._read(OTHER, "_get", "trades")
        orders = [row for row in self._read(OTHER, "_get", "orders") if isinstance(row, dict)]
        tags = {str(row.get("order_id")): str(row.get("tag") or "") for row in orders}
        forced = account.forced(orders, self._tokens.state().user)
        found = self.odd_rows.read(
            "trade",
            rows,
            lambda row: kite_rows.trade(row, directory, tags, forced),
            lambda row: row["trade_id"],
        )
        return sorted(
            (trade for trade in found if trade.at >= second),
            key=lambda trade: (trade.at, trade.trade_id),
        )

    @legible
    def whole_book(self) -> DayBook:
        """Return today's orders and executions of the account, whoever gave them."""
        # The orders after the trades, so that no trade is older than the list that names its hand.
        trades, orders = (self._read(OTHER, "_get", what) for what in ("trades", "orders"))
        directory = self._directory() if trades or orders else Directory({}, {})
        return account.day_book(orders, trades, directory, self._tokens.state().user)

    def positions(self) -> dict[str, Decimal]:
        """Return the account's net quantity in each instrument, its products added up."""
        return net(self.holdings())

    @legible
    def holdings(self) -> list[Holding]:
        """Return what the account holds of each instrument in each product.

        Raises Degraded where a row that may be of our instruments cannot be read: whoever looks
        must not take it for nothing.
        """
        directory = self._directory()
        rows = self._read(OTHER, "positions")
        found = []
        for row in rows["net"]:
            try:
                found.append(kite_rows.holding(row, directory))
            except UNREADABLE as error:
                if kite_rows.may_be_future(row):
                    raise Degraded(f"a position of the broker's cannot be read: {row}") from error
                self.odd_rows.tell("position", str(row.get("tradingsymbol")), error)
        return [each for each in found if each.quantity]

    def squares_off_at(self, product: str, date: dt.date) -> dt.datetime | None:
        """Return when the broker closes a product's positions on a date, None where it does not."""
        return products.squares_off_at(product or self.product, date)

    @legible
    def margins(self) -> Margins:
        """Return what the account can still use."""
        return kite_rows.margins(self._read(OTHER, "margins", "equity"))

    @legible
    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order of a quantity would bind at most, on whichever side it is."""
        exchange, symbol = self._directory().symbol_of(instrument).split(":", 1)
        asked = [
            {
                "exchange": exchange,
                "tradingsymbol": symbol,
                "transaction_type": side,
                "variety": "regular",
                "product": self.product,
                "order_type": "MARKET",
                "quantity": int(abs(quantity)),
                "price": 0,
                "trigger_price": 0,
            }
            for side in ("BUY", "SELL")
        ]
        rows = self._read(OTHER, "order_margins", asked)
        # What is held may make one side free, and an order on the other side of it is none.
        return max(kite_rows.number_of(row["total"]) for row in rows)

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return what the venue itself says that each execution cost, slippage not counted.

        Brokerage is by order, so the executions of one order share its note by their turnover.
        """
        if not trades:
            return []

        def ask(orders: list[dict[str, Any]]) -> Any:
            return self._read(OTHER, "get_virtual_contract_note", orders)

        return contract_notes.charges(trades, self._directory(), self.product, ask)

    @legible
    def _book(self) -> list[BookOrder]:
        directory = self._directory()
        rows = self._read(OTHER, "_get", "orders")
        return self.odd_rows.read(
            "order",
            rows,
            lambda row: kite_rows.order(row, directory),
            lambda row: row["order_id"],
        )

    def _fit_to_send(self, tag: str, name: str, quantity: Decimal) -> VenueInstrument:
        """Return the instrument of an order that can be sent; raise OrderRefused saying why not."""
        try:
            listed = self._directory().find(name)
        except (NotListed, Retry, Degraded) as error:
            if isinstance(error, TokenRefused):
                raise RefusedForToken(f"not sent: {error}") from error
            raise OrderRefused(f"not sent: {error}") from error
        if not tag.isalnum() or len(tag) > TAG_CHARACTERS:
            raise OrderRefused(f"{tag!r} is no tag: up to {TAG_CHARACTERS} letters and digits")
        if not listed.lot_size:
            raise OrderRefused(f"{name} is an index, which cannot be traded")
        if not quantity or quantity % listed.lot_size:
            raise OrderRefused(f"{quantity:f} is no whole number of lots of {listed.lot_size:f}")
        last = self._last.get(name)
        if last is not None and listed.underlying == "NIFTY":
            date = trading_date(clock.market_epoch())
            level = last if listed.kind == "FUT" else listed.strike
            largest = freeze_quantity("nifty", date, level)
            if largest is not None and abs(quantity) > largest:
                raise OrderRefused(
                    f"{abs(quantity):f} is over the freeze quantity of {largest:f}: it must go "
                    f"out in slices"
                )
        return listed


def _spans(start: Epoch, end: Epoch, days: int) -> Iterator[tuple[str, str]]:
    """Give the first and last second of each request, as the client wants them: Indian, in text.

    It starts at midnight, which is what names a day's candle.
    """
    at = clock.from_seconds(start).astimezone(clock.IST)
    first = dt.datetime.combine(at.date(), dt.time(), clock.IST)
    stop = clock.from_seconds(end)
    while first < stop:
        following = first + dt.timedelta(days=days)
        last = min(following, stop) - dt.timedelta(seconds=1)
        yield f"{first:%Y-%m-%d %H:%M:%S}", f"{last.astimezone(clock.IST):%Y-%m-%d %H:%M:%S}"
        first = following
