"""The simulated venue: a durable book of its own, as a broker would keep it, apart from our ledger.

An order is taken at once, also while the market is closed, and fills whole at the first quote
after it was taken, with slippage against us. A tag names one order for ever: placing it twice is
one order. Whoever has the quotes calls `match`: the market simulator, or `fill_from` with those of
any venue, so that a paper account trades at real prices.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Sum

from markets.domain.calendar import Calendar, trading_date
from markets.domain.charges import itemise
from markets.domain.contracts import freeze_quantity
from markets.domain.instruments import BadInstrument, Instruments
from markets.models import Quote, VenueOrder
from markets.store import save_quotes
from markets.venues.base import (
    BookOrder,
    DataVenue,
    Holding,
    Margins,
    OrderRefused,
    VenueTrade,
    refuse_if_late,
)
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import MARKETS

BASIS_POINTS = Decimal(10_000)
TICK = Decimal("0.0001")
TAG_PREFIX = "T1"
CAPITAL = {"nifty": Decimal(5_000_000), "btc": Decimal(10_000)}
"""What a paper account begins with, in the market's currency."""
MARGIN_RATIO = Decimal("0.15")
"""Of the notional, the broker's usual order of size: an assumption, for nobody asks for it."""


class PaperVenue:
    """Take, keep and show the simulated orders of one market."""

    name = "paper"
    is_shared_with_owner = False
    takes_orders_when_closed = True
    product = ""
    keeps_day_book = False
    honours_reduce_only = False
    is_remote = False

    def __init__(self, market: str, calendar: Calendar) -> None:
        self.market = market
        self._instruments = Instruments(market, calendar)
        self._book = VenueOrder.on(market).objects

    def take_turn(self, instrument: str) -> None:
        """Return at once: our own book has no limits."""

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
        """Take an order into the book, once for its tag; raise OrderRefused saying why not."""
        refuse_if_late(sent_at, clock.real())
        at = clock.market()
        refusal = self._refusal(instrument, quantity, clock.epoch(at))
        row, _ = self._book.get_or_create(
            tag=tag,
            defaults={
                "instrument": instrument,
                "quantity": quantity,
                "slippage_bps": slippage_bps,
                "accepted_at": at,
                "state": VenueOrder.State.REJECTED if refusal else VenueOrder.State.OPEN,
                "message": refusal,
            },
        )
        if row.state == VenueOrder.State.REJECTED:
            raise OrderRefused(row.message)
        return str(row.pk)

    def cancel(self, order: BookOrder) -> None:
        """Take an order out of the book, unless it has filled."""
        self._book.filter(tag=order.tag, state=VenueOrder.State.OPEN).update(
            state=VenueOrder.State.CANCELLED, message="cancelled"
        )

    def orders(self, tags: Collection[str]) -> list[BookOrder]:
        """Return those of the tagged orders that the book holds."""
        return [_order(row) for row in self._book.filter(tag__in=tags).order_by("pk")]

    def strangers(self, since: dt.datetime) -> list[BookOrder]:
        """Return the orders accepted since an instant that carry a tag of our form."""
        rows = self._book.filter(accepted_at__gte=since, tag__startswith=TAG_PREFIX)
        return [_order(row) for row in rows]

    def rule_out(self, tag: str, sent_at: dt.datetime | None = None) -> bool:
        """Return True after refusing the tag for ever, unless the book holds the order after all.

        A request still on its way finds the tag taken, so its absence is proved by the book.
        """
        row, _ = self._book.get_or_create(
            tag=tag,
            defaults={
                "instrument": "",
                "quantity": 0,
                "slippage_bps": 0.0,
                "accepted_at": clock.market(),
                "state": VenueOrder.State.REJECTED,
                "message": "never arrived",
            },
        )
        return row.state == VenueOrder.State.REJECTED

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Return the executions since an instant, oldest first; each order has one."""
        rows = self._book.filter(state=VenueOrder.State.FILLED, filled_at__gte=since)
        return [
            VenueTrade(
                f"{self.name}-{row.pk}",
                row.tag,
                row.instrument,
                row.quantity,
                row.price,
                row.filled_at,
            )
            for row in rows.order_by("filled_at", "pk")
            if row.price is not None and row.filled_at is not None
        ]

    def positions(self) -> dict[str, Decimal]:
        """Return the account's quantity in each instrument it holds."""
        rows = (
            self._book.filter(state=VenueOrder.State.FILLED)
            .order_by()
            .values_list("instrument")
            .annotate(held=Sum("quantity"))
        )
        return {instrument: held for instrument, held in rows if held}

    def holdings(self) -> list[Holding]:
        """Return what the account holds; a book of our own has no products."""
        return [Holding(name, held) for name, held in self.positions().items()]

    def squares_off_at(self, product: str, date: dt.date) -> dt.datetime | None:
        """Return None: nobody squares a paper account off."""
        return None

    def quote(self, instrument: str) -> Decimal | None:
        """Return the last price of an instrument, None before the first."""
        found = Quote.on(self.market).objects.filter(instrument=instrument).first()
        return found.price if found else None

    def margins(self) -> Margins:
        """Return what the account can still use: its capital less a flat share of what it holds."""
        traded = self._book.filter(state=VenueOrder.State.FILLED).aggregate(
            paid=Sum(F("quantity") * F("price"))
        )
        worth = used = Decimal(0)
        for instrument, held in self.positions().items():
            value = held * (self.quote(instrument) or 0)
            worth += value
            used += abs(value) * MARGIN_RATIO
        equity = CAPITAL[self.market] - (traded["paid"] or 0) + worth
        return Margins(
            MARKETS[self.market].currency, (equity - used).quantize(TICK), used.quantize(TICK)
        )

    def margin_needed(self, instrument: str, quantity: Decimal) -> Decimal:
        """Return what a market order would bind on either side: a flat share of its worth."""
        return (abs(quantity) * (self.quote(instrument) or 0) * MARGIN_RATIO).quantize(TICK)

    def charges(self, trades: Sequence[VenueTrade]) -> list[Decimal]:
        """Return what each execution costs by the desk's dated table."""
        return [
            itemise(
                self.market,
                clock.trading_date(trade.at),
                "buy" if trade.quantity > 0 else "sell",
                abs(trade.quantity) * trade.price,
            ).total
            for trade in trades
        ]

    def _refusal(self, name: str, quantity: Decimal, at: Epoch) -> str:
        try:
            instrument = self._instruments.parse(name)
        except BadInstrument as error:
            return str(error)
        fills_at = self._instruments.tradable_at(at)
        if fills_at is None:
            return "the calendar knows no session after this one, so nothing can fill"
        date = trading_date(Epoch(fills_at))
        if not self._instruments.calendar.is_verified(date):
            return f"the calendar's entry for {date} is not verified, so no order is taken for it"
        if not quantity:
            return "the quantity is zero"
        if quantity % instrument.lot_size:
            return f"{quantity:f} is not a whole number of lots of {instrument.lot_size:f}"
        price = self.quote(name) or self.quote(self._instruments.front(at).name)
        if price is None:
            return f"{name} has no price yet"
        largest = freeze_quantity(self.market, date, price)
        if largest is not None and abs(quantity) > largest:
            return f"{abs(quantity):f} is over the freeze quantity of {largest:f}"
        return ""


class PaperAtPrices(PaperVenue):
    """A paper account at a real venue's prices, which fill its orders when they are looked at."""

    def __init__(self, market: str, calendar: Calendar, prices: DataVenue) -> None:
        super().__init__(market, calendar)
        self._prices = prices
        self._calendar = calendar

    def trades(self, since: dt.datetime) -> list[VenueTrade]:
        """Fill what waits, where the market is open, and return the executions since an instant."""
        now = clock.market()
        if self._calendar.is_open(clock.epoch(now)):
            fill_from(self.market, self._prices, now)
        return super().trades(since)

    def quote(self, instrument: str) -> Decimal | None:
        """Return the venue's last price of an instrument, None before the first."""
        found = self._prices.quotes([instrument]).get(instrument)
        if found is None or not found.last:
            return super().quote(instrument)
        save_quotes(self.market, {instrument: found.last}, found.at)
        return found.last


def match(market: str, prices: Mapping[str, Decimal], at: dt.datetime) -> int:
    """Fill the open orders taken before this quote, each instrument at its price; return how many.

    An order taken at the very instant of a quote waits for the next one.
    """
    with transaction.atomic(using=market):
        waiting = (
            VenueOrder.on(market)
            .objects.select_for_update()
            .filter(state=VenueOrder.State.OPEN, accepted_at__lt=at, instrument__in=list(prices))
        )
        rows = list(waiting.order_by("pk"))
        for row in rows:
            side = 1 if row.quantity > 0 else -1
            slippage = Decimal(repr(row.slippage_bps)) / BASIS_POINTS
            row.price = (prices[row.instrument] * (1 + side * slippage)).quantize(TICK)
            row.filled_at = at
            row.state = VenueOrder.State.FILLED
            row.save(update_fields=["price", "filled_at", "state"])
    return len(rows)


def fill_from(market: str, prices: DataVenue, at: dt.datetime) -> int:
    """Fill waiting orders at a venue's last prices and their own slippage; return how many.

    An instrument the venue says nothing of now waits for the next call.
    """
    wanted = open_instruments(market)
    quotes = prices.quotes(wanted) if wanted else {}
    prices_now = {name: quote.last for name, quote in quotes.items()}
    save_quotes(market, prices_now, at)
    return match(market, prices_now, at)


def open_instruments(market: str) -> set[str]:
    """Return the instruments that orders in the book are waiting to fill in."""
    rows = VenueOrder.on(market).objects.filter(state=VenueOrder.State.OPEN).order_by()
    return set(rows.values_list("instrument", flat=True).distinct())


def _order(row: VenueOrder) -> BookOrder:
    filled = row.quantity if row.state == VenueOrder.State.FILLED else Decimal(0)
    return BookOrder(
        row.tag,
        row.instrument,
        row.quantity,
        str(row.state),
        row.accepted_at,
        row.message,
        filled_quantity=filled,
    )
