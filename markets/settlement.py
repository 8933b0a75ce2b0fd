"""What a contract that has ended was settled at: its underlying's closing value of that day.

NSE settles index futures and options at the index's closing value of the expiry, which since
3 August 2026 is that of the closing auction, and before was the average of the last half hour; the
stored close of the day is that value in both (NSE clearing, final settlement price; the standing
procedure of the closing auction of 19 March 2026).
"""

import datetime as dt
from decimal import Decimal

from markets.domain.calendar import Calendar
from markets.models import Bar
from tradingsite import clock
from tradingsite.registry import MARKETS


def final_price(market: str, calendar: Calendar, expiry: dt.date) -> Decimal | None:
    """Return the underlying's closing value of a day; None where no stored bar reaches its close.

    The day's own bar says it, else the shortest bar that ends with the session.
    """
    session = calendar.session_on(expiry)
    if session is None:
        return None
    closes_at = clock.from_seconds(session.closes_at)
    rows = Bar.on(market).objects.filter(closes_at=closes_at)
    found = dict(rows.values_list("timeframe", "close"))
    for timeframe in ("1d", *MARKETS[market].timeframes):
        if timeframe in found:
            return Decimal(repr(float(found[timeframe])))
    return None
