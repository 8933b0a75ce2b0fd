"""The warning that the exchange's verified calendar is about to end.

Where it ends, orders are refused, so the owner hears of it a month before.
"""

import datetime as dt

from markets import store
from tradingsite import clock, notices
from tradingsite.models import JobRun

MARKET = "nifty"
DAYS_LEFT_WANTED = 30
KEY = "calendar:end"


def warn_of_end(run: JobRun) -> str:
    """Warn when few verified days are left, and say how it stands."""
    today = clock.trading_date(run.scheduled_for)
    left = verified_days_left(today)
    if left >= DAYS_LEFT_WANTED:
        notices.resolve(KEY)
        return f"at least {DAYS_LEFT_WANTED} verified days are ahead"
    last = today + dt.timedelta(days=left)
    text = (
        f"The exchange calendar is verified for {left} more days, up to {last:%d %b %Y}; after "
        f"that orders are refused. Enter the exchange's holiday list under Trading days in /admin/."
    )
    notices.notify("infrastructure", "warning", KEY, text)
    return text


def verified_days_left(today: dt.date) -> int:
    """Return how many days in a row after today are verified, counting no further than needed."""
    calendar = store.load_calendar(MARKET)
    for days in range(1, DAYS_LEFT_WANTED + 1):
        if not calendar.is_verified(today + dt.timedelta(days=days)):
            return days - 1
    return DAYS_LEFT_WANTED
