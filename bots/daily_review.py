"""The day's own orders, held against what was booked for them and what was assumed of them."""

import datetime as dt

from bots.execution import charge_reconciliation, shortfall
from bots.live.bot_venues import venue_of
from markets.store import load_calendar
from tradingsite import clock
from tradingsite.errors import Degraded, Retry
from tradingsite.models import JobRun
from tradingsite.registry import BOTS


def run_for_job(run: JobRun) -> str:
    """Compare charges with the venues' notes and slippage with the assumption; say what differs."""
    date = run.scheduled_for.astimezone(clock.IST).date() - dt.timedelta(days=1)
    return f"{_charges(date)}; {shortfall.warn_all(run.scheduled_for)}"


def _charges(date: dt.date) -> str:
    try:
        return charge_reconciliation.check(list(BOTS.values()), venue_of, load_calendar, date)
    except (Degraded, Retry) as error:
        # A venue that cannot be read tonight says the same of these fills tomorrow.
        return f"charges not compared: {error}"
