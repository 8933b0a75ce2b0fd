"""Where each bot's orders go: the desk's mode says which account, and how real it is.

    simulated   the simulated broker and exchange, by their own protocols and unmodified clients
    paper       a book of our own, filled at the real venue's prices
    live        the real account

A bot that is `on_paper` in the registry never leaves our own book, whatever the mode.
"""

from collections.abc import Callable

from django.conf import settings

from bots.models import Position
from markets.domain.calendar import Calendar
from markets.venues import configured
from markets.venues.base import PricedVenue, Venue
from markets.venues.paper import PaperAtPrices, PaperVenue
from tradingsite.registry import Bot

# The venue behind each market's calendar.
ACCOUNTS: dict[str, Callable[[Calendar], PricedVenue]] = {
    "nifty": configured.kite_venue,
    "btc": lambda calendar: configured.exchange_venue(),
}


def venue_of(bot: Bot, calendar: Calendar) -> Venue:
    """Return the venue a bot trades at; nothing is asked of it yet."""
    if settings.MODE == "simulated":
        # The market simulator itself fills our own book, which an older desk may still hold
        # something in: that is closed where it was opened.
        on_paper = bot.on_paper or _holds_on_paper(bot)
        return PaperVenue(bot.market, calendar) if on_paper else ACCOUNTS[bot.market](calendar)
    account = ACCOUNTS[bot.market](calendar)
    if settings.MODE == "live" and not bot.on_paper:
        return account
    return PaperAtPrices(bot.market, calendar, account)


def _holds_on_paper(bot: Bot) -> bool:
    rows = Position.on(bot.market).objects.filter(bot=bot.slug, venue=PaperVenue.name)
    return rows.exclude(quantity=0).exists()
