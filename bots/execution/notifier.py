"""From the ledger's events to notices, none lost: the cursor stands in the events' own database.

The notice is committed first, in the control database, then the cursor. A crash in between tells
an event twice, and its key makes the second telling a count on the first.
"""

from decimal import Decimal

from django.db import transaction

from bots.decision import accounting
from bots.models import LedgerCursor, Order, OrderEvent, Position
from markets.models import Quote
from tradingsite import format as fmt
from tradingsite import notices
from tradingsite.registry import BOTS, MARKETS, SLOTS

BATCH = 100
SEVERITIES = {
    Order.State.FILLED: "info",
    Order.State.REJECTED: "warning",
    Order.State.UNKNOWN: "critical",
    Order.State.LATE: "critical",
    Order.State.CANCELLED: "warning",
    Order.State.DENIED: "warning",
}
ONE_LOT = 1


class Notifier:
    """Tell people what happened to the orders of one market."""

    def __init__(self, market: str) -> None:
        self.market = market
        self._reader = f"{market}-notifier"

    def step(self) -> int:
        """Tell the next events after the cursor; return how many were read."""
        cursors = LedgerCursor.on(self.market).objects
        cursor, _ = cursors.get_or_create(reader=self._reader)
        events = OrderEvent.on(self.market).objects.filter(id__gt=cursor.event_id).order_by("id")
        read = list(events.select_related("order")[:BATCH])
        for event in read:
            severity = SEVERITIES.get(Order.State(event.state))
            if severity:
                notices.notify("trading", severity, self._key(event), self.text(event))
        if read:
            with transaction.atomic(using=self.market):
                cursors.filter(pk=cursor.pk).update(event_id=read[-1].pk)
        return len(read)

    def _key(self, event: OrderEvent) -> str:
        if event.state == Order.State.DENIED:  # a limit says no at every bar: one notice counts up
            return f"denied:{event.order.bot}"
        return f"order:{self.market}:{event.pk}"

    def text(self, event: OrderEvent) -> str:
        """Return what happened to an order, and what it means, in words."""
        order = event.order
        mode = order.mode.capitalize()
        who = f"{mode}: {BOTS[order.bot].title} bot"
        shares = ", ".join(
            f"{SLOTS[slot].timeframe} {lots:+d}" for slot, lots in sorted(order.shares.items())
        )
        lots = sum(order.shares.values())
        what = f"{abs(lots)} {_lots(lots)} of {order.instrument} ({shares})"
        if event.state == Order.State.UNKNOWN:
            return (
                f"{who} does not know whether its order {order.tag} for {what} arrived: "
                f"{event.detail}. It sends no more orders there until the venue's book shows it."
            )
        if event.state == Order.State.LATE:
            return (
                f"{who}'s order {order.tag} for {what} had been given up and has arrived after "
                f"all: {event.detail}. What it trades is taken in; look at the position."
            )
        if event.state == Order.State.CANCELLED:
            filled = order.filled_quantity.normalize()
            return f"{who}: its order for {what} was cancelled, {filled:f} had traded."
        side = "buy" if lots > 0 else "sell"
        if event.state == Order.State.DENIED:
            wanted = f"{side} {what}" if lots else f"let its slots trade with each other ({shares})"
            return (
                f"{who} wanted to {wanted} and was not allowed to: {event.detail}. Nothing "
                f"was sent; its slots keep what they hold and decide again at their next bars."
            )
        if event.state == Order.State.REJECTED:
            return f"{who} wanted to {side} {what}; the venue refused it: {event.detail}."
        if lots == 0:
            return f"{who}: its slots traded with each other ({shares}); {event.detail}."
        return self._filled_text(order, who, what)

    def _filled_text(self, order: Order, who: str, what: str) -> str:
        currency = MARKETS[self.market].currency
        did = "bought" if order.quantity > 0 else "sold"
        price = order.average_price or Decimal(0)
        held = self._held(order.bot)
        holds = f"holds {held:+d} {_lots(held)}" if held else "is flat"
        return (
            f"{who} {did} {what} at {fmt.price(price, currency)}, charges "
            f"{fmt.money(order.charges, currency, decimals=2)}. It {holds}; PnL since its start "
            f"{fmt.money(self._pnl(order.bot), currency, signed=True)}."
        )

    def _held(self, bot: str) -> int:
        rows = Position.on(self.market).objects.filter(bot=bot)
        return sum(rows.values_list("lots", flat=True))

    def _pnl(self, bot: str) -> Decimal:
        quotes = dict(Quote.on(self.market).objects.values_list("instrument", "price"))
        total = Decimal(0)
        for row in Position.on(self.market).objects.filter(bot=bot):
            price = quotes.get(row.instrument, row.average_price or Decimal(0))
            total += accounting.equity(row.cash, row.quantity, price)
        return total


def _lots(count: int) -> str:
    return "lot" if abs(count) == ONE_LOT else "lots"
