"""What we booked as charges, held against what the venue says that it took, each day.

The broker's own contract note is by order; a perpetual's fee comes with each execution. A table of
ours that is out of date shows here on its first day, before models have learned from it for long.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from bots.models import Fill
from markets.domain.calendar import Calendar
from markets.venues.base import Venue, VenueTrade
from tradingsite import clock, notices
from tradingsite.registry import MARKETS, Bot

TOLERANCE = {"INR": Decimal("1.00"), "USDC": Decimal("0.02")}
"""Of a bot's whole day: each charge of each order is rounded, and perhaps not as we do it."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Say what a bot's day cost by our table and by the venue's note."""

    bot: str
    fills: int
    booked: Decimal
    noted: Decimal

    @property
    def difference(self) -> Decimal:
        """Return how much more the venue took."""
        return self.noted - self.booked


def reconcile(bot: Bot, venue: Venue, date: dt.date) -> Reconciled:
    """Compare the charges of a bot's fills of a date; raise what the venue raises."""
    begins = dt.datetime.combine(date, dt.time(), clock.IST)
    rows = Fill.on(bot.market).objects.filter(
        bot=bot.slug, at__gte=begins, at__lt=begins + dt.timedelta(days=1)
    )
    fills = list(rows.select_related("order").order_by("at", "id"))
    trades = [
        VenueTrade(
            each.trade_id, each.order.tag, each.instrument, each.quantity, each.price, each.at
        )
        for each in fills
    ]
    noted = sum(venue.charges(trades), Decimal(0)) if trades else Decimal(0)
    booked = sum((each.charges for each in fills), Decimal(0))
    return Reconciled(bot.slug, len(fills), booked, noted)


def check(
    bots: list[Bot],
    venue_of: Callable[[Bot, Calendar], Venue],
    calendar_of: Callable[[str], Calendar],
    date: dt.date,
) -> str:
    """Reconcile the bots' day, alert where it differs, and return a sentence."""
    said = []
    for bot in bots:
        found = reconcile(bot, venue_of(bot, calendar_of(bot.market)), date)
        currency = MARKETS[bot.market].currency
        key = f"charges:{bot.slug}"
        if abs(found.difference) <= TOLERANCE[currency]:
            notices.resolve(key)
        else:
            notices.notify(
                "trading",
                "warning",
                key,
                f"{bot.title} bot on {date}: the venue's note says {currency} {found.noted:.2f} "
                f"for {found.fills} fills, our table {found.booked:.2f}. The ledger keeps ours; "
                f"bring markets/domain/charges.py up to date, for models are trained with it.",
            )
        said.append(f"{bot.slug} {found.fills} fills, {found.difference:+.2f} {currency}")
    return "; ".join(said)
