"""Today's list of instruments: fetched before 09:10, and without it no trading.

A contract's lot, tick and expiry may change overnight. Whoever orders by yesterday's list may order
the wrong quantity of the wrong contract, so a missing or stale list stops new orders.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings

from markets import store
from markets.capture.bars import sources as bar_sources
from markets.capture.instruments import history
from markets.capture.instruments.history import BadList
from markets.domain.calendar import Calendar
from markets.models import InstrumentList
from markets.venues.configured import kite_token
from tradingsite import clock, notices
from tradingsite.errors import Degraded, Retry
from tradingsite.models import JobRun
from tradingsite.registry import MARKETS
from tradingsite.scheduling.jobs import Fulfilled, Skipped

DEADLINE = dt.time(9, 10)
# What a whole list has at the least, by how its names begin.
NEEDS = {
    "nifty": ("NIFTY", "INDIA VIX", "BANKNIFTY", "SENSEX"),
    "btc": (MARKETS["btc"].instrument,),
}
KEY = "instruments"


def is_stale(market: str, date: dt.date) -> bool:
    """Return whether the newest list of a market's venue is older than a date, or missing."""
    newest = _newest(market)
    return newest is None or newest.date < date


def trading_allowed(market: str, at: dt.datetime) -> str:
    """Return why a market takes no new orders at an instant, "" where it does.

    Either nobody signed in at the broker that morning, or the list of instruments is not of today.
    """
    if market == "nifty" and kite_token().is_refused_on(clock.trading_date(at)):
        return "there is no token of the broker today: sign in at /kite/"
    due, newest = due_on(market, at), _newest(market)
    if due is None or (newest is not None and newest.date >= due):
        return ""
    title = MARKETS[market].title
    if newest is None:
        return f"there is no list of {title} instruments: no trading without one"
    return f"the list of {title} instruments is of {newest.date}, not of {due}: it may be wrong"


def due_on(market: str, at: dt.datetime) -> dt.date | None:
    """Return the last trading day whose list should be here, None before the calendar's first."""
    local = at.astimezone(clock.IST)
    calendar = store.load_calendar(market)
    day = local.date() if local.time() >= DEADLINE else local.date() - dt.timedelta(days=1)
    if MARKETS[market].calendar == "CRYPTO":
        return day
    sessions = calendar.sessions(day - dt.timedelta(days=20), day)
    return sessions[-1].date if sessions else None


def next_due(market: str, date: dt.date, calendar: Calendar) -> dt.datetime | None:
    """Return when the list after that of a date should be here, None where the calendar ends."""
    day = date + dt.timedelta(days=1)
    if MARKETS[market].calendar != "CRYPTO":
        sessions = calendar.sessions(day, day + dt.timedelta(days=20))
        if not sessions:
            return None
        day = sessions[0].date
    return dt.datetime.combine(day, DEADLINE, clock.IST)


def wanted(at: dt.datetime) -> None:
    """Want the firings until every market that trades today has its list."""
    if not _lacking(clock.trading_date(at)):
        raise Fulfilled


def fetch_all(run: JobRun) -> str:
    """Fetch the lists that are not here yet; one that does not come keeps no other from coming.

    Raises Degraded once a list is late; before, the next firing tries again.
    """
    date = clock.trading_date(run.scheduled_for)
    said, failed = [], []
    for market in _lacking(date):
        try:
            said.append(fetch(market, date))
        except (Retry, Degraded) as error:
            failed.append(f"{MARKETS[market].title}: {error}")
    if not failed:
        notices.resolve(KEY)
        return "; ".join(said)
    text = "; ".join(failed)
    if run.scheduled_for.astimezone(clock.IST).time() < DEADLINE:
        raise Skipped(f"{text}. It is tried again in five minutes")
    notices.notify(
        "infrastructure",
        "critical",
        KEY,
        f"No list of instruments today: {text}. No new orders go out without it. It is tried "
        f"again every five minutes; see `manage.py instruments`.",
    )
    raise Degraded(text)


def fetch(market: str, date: dt.date) -> str:
    """Fetch and store a market's list of a day; return a sentence. Raises Retry and Degraded."""
    venue = bar_sources.venue_of(market)
    rows = venue.instruments()
    try:
        begun, ended = history.save_list(market, venue.name, date, rows, NEEDS[market])
    except BadList:
        # A venue remembers its list all day.
        bar_sources.forget(market)
        raise
    return (
        f"{len(rows):,} {MARKETS[market].title} instruments, {begun:,} new or changed, "
        f"{ended:,} gone or changed"
    )


def venue_name(market: str) -> str:
    """Return the name under which a market's lists are kept."""
    return "kite" if market == "nifty" else str(settings.EXCHANGE_ID)


def _lacking(date: dt.date) -> list[str]:
    """Return the markets that trade on a day and have no list of it."""
    here = [market for market in MARKETS if market in settings.DATABASES]
    return [
        market
        for market in here
        if store.load_calendar(market).session_on(date) is not None and is_stale(market, date)
    ]


def _newest(market: str) -> InstrumentList | None:
    rows = InstrumentList.on(market).objects.filter(venue=venue_name(market))
    return rows.order_by("-date").first()
