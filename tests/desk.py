"""One bot on its paper venue, in a market that a test moves by hand."""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal

from bots.execution import ledger, protocol
from bots.execution.netting import Leg
from bots.execution.orders import intend, submit_all
from bots.execution.postgres_ledger import DatabaseLedger
from bots.execution.reconcile import Outcome, reconcile
from bots.models import Order, OrderEvent, Position, RiskState
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_sessions
from markets.domain.instruments import Instruments
from markets.models import VenueOrder
from markets.simulator.quotes import put_quotes
from markets.venues import paper
from markets.venues.base import Venue
from markets.venues.paper import PaperVenue
from tradingsite import clock
from tradingsite.registry import BOTS

IST = clock.IST


def ist(text: str) -> dt.datetime:
    """Return an instant written in Indian time, like "2026-06-01 10:00"."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=IST)


def calendar_of(market: str) -> Calendar:
    """Return the market's real calendar, without a database."""
    return CryptoCalendar() if market == "btc" else NseCalendar(nse_sessions())


class Desk:
    """Hold a bot, its venue and the hand on the clock."""

    def __init__(
        self, bot: str, set_market: Callable[..., None], when: str = "2026-06-01 10:00"
    ) -> None:
        self.bot = BOTS[bot]
        self.market = self.bot.market
        self.calendar = calendar_of(self.market)
        self.instruments = Instruments(self.market, self.calendar)
        self.venue: Venue = PaperVenue(self.market, self.calendar)
        self._set_market = set_market
        self.now = ist(when)
        self.go(self.now)
        ledger.open_rows(self.bot, self.front, self.venue.name)

    @property
    def front(self) -> str:
        """Return the name of the contract traded now."""
        return self.instruments.front(clock.epoch(self.now)).name

    def go(self, when: dt.datetime) -> None:
        """Set the market's time."""
        self.now = when
        self._set_market(when)

    def quote(self, underlying: float, after_seconds: float = 1.0) -> int:
        """Let time pass, make a quote and fill what waits for one; return how many orders."""
        self.go(self.now + dt.timedelta(seconds=after_seconds))
        prices = put_quotes(self.instruments, underlying, self.now)
        return paper.match(self.market, prices, self.now)

    def order(
        self,
        shares: Mapping[str, int],
        leg: str = "open",
        *,
        bar: dt.datetime | None = None,
        price: str = "",
    ) -> Order:
        """Write one INTENT."""
        return self.legs([Leg(leg, self.front, shares)], bar=bar, price=price)[0]

    def legs(
        self, legs: list[Leg], *, bar: dt.datetime | None = None, price: str = ""
    ) -> list[Order]:
        """Write the INTENTs of one decision."""
        at = Decimal(price) if price else self.venue.quote(self.front) or Decimal(60_000)
        prices = {leg.instrument: at for leg in legs}
        rows = ledger.positions(self.bot)
        return intend(self.bot, legs, bar or self.now, prices, self.instruments, rows)

    def send(self, *orders: Order) -> None:
        """Submit intended orders."""
        submit_all(self.bot, orders, self.venue, self.instruments)

    def trade(self, shares: Mapping[str, int], leg: str = "open", at: float = 60_000.0) -> Order:
        """Place an order, fill it at a price of the underlying, and take the fill in."""
        order = self.order(shares, leg)
        self.send(order)
        self.quote(at)
        self.take_fills()
        order.refresh_from_db()
        return order

    def take_fills(self) -> int:
        """Take the venue's new executions into the ledger."""
        return protocol.take_trades(
            DatabaseLedger(self.bot, self.venue, self.instruments), self.venue
        )

    def reconcile(self) -> Outcome:
        """Hold the ledger against the venue's book."""
        return reconcile(self.bot, self.venue, self.instruments, clock.market())

    def positions(self) -> dict[str, Position]:
        """Return the slots' rows."""
        return ledger.positions(self.bot)

    def lots(self) -> dict[str, int]:
        """Return the whole lots each slot holds, those that hold any."""
        return {slot: row.lots for slot, row in self.positions().items() if row.lots}

    def risk(self) -> RiskState:
        """Return the bot's risk row."""
        return RiskState.on(self.market).objects.get(bot=self.bot.slug)

    def book(self) -> list[VenueOrder]:
        """Return the venue's own book."""
        return list(VenueOrder.on(self.market).objects.order_by("id"))

    def story(self, order: Order) -> list[str]:
        """Return the states an order went through."""
        events = OrderEvent.on(self.market).objects.filter(order_id=order.pk)
        return list(events.order_by("id").values_list("state", flat=True))
