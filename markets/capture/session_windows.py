"""When the jobs that follow the exchange's session are wanted.

A crontab knows neither holidays nor closing times, so these jobs fire often and ask here first.
On a day without a session one firing is recorded as skipped, with the reason; the rest leave no
trace.
"""

import datetime as dt

from markets import store
from markets.domain.calendar import Session
from tradingsite import clock
from tradingsite.models import JobRun
from tradingsite.scheduling.jobs import NotWanted, Skipped
from tradingsite.scheduling.schedules import ALL
from tradingsite.scheduling.windows import Window

MARKET = "nifty"
# All these jobs fire at this time of every day, so it is the one firing that says "no session".
SAYS_SO_AT = dt.time(9, 15)
STRADDLE_START = "straddle-start"


def on_trading_days(at: dt.datetime) -> None:
    """Want every firing of a day with a session."""
    day = clock.trading_date(at)
    if store.load_calendar(MARKET).session_on(day) is None:
        raise Skipped(f"no session on {day:%d %b %Y}")


def collecting(at: dt.datetime) -> None:
    """Want the minutes from shortly before the open to the close."""
    _require("options-collector", at)


def trading(at: dt.datetime) -> None:
    """Want the minutes from the open to the close."""
    _require("trade-fetcher", at)


def opening(at: dt.datetime) -> None:
    """Want the first firing inside the session that is heard, whenever the session opens."""
    session = _session(at)
    if _window(STRADDLE_START).covers(at.timestamp(), session.opens_at, session.closes_at):
        opened = clock.from_seconds(session.opens_at)
        begun = JobRun.objects.filter(job=STRADDLE_START, state="done", scheduled_for__gte=opened)
        if begun.filter(scheduled_for__lt=at).exists():
            raise NotWanted
        return
    if at.astimezone(clock.IST).time() != SAYS_SO_AT or at.timestamp() >= session.opens_at:
        raise NotWanted
    opens = clock.from_seconds(session.opens_at).astimezone(clock.IST)
    raise Skipped(f"the session of {opens:%d %b %Y} opens at {opens:%H:%M} IST")


def closing(at: dt.datetime) -> None:
    """Want the very instant of the close."""
    _require("straddle-stop", at)


def _require(job: str, at: dt.datetime) -> None:
    """Raise NotWanted for a firing outside its job's window of the day's session."""
    session = _session(at)
    if not _window(job).covers(at.timestamp(), session.opens_at, session.closes_at):
        raise NotWanted


def _window(job: str) -> Window:
    window = ALL[job].window
    if window is None:
        raise LookupError(f"the job {job} has no window of the session")
    return window


def _session(at: dt.datetime) -> Session:
    day = clock.trading_date(at)
    session = store.load_calendar(MARKET).session_on(day)
    if session is None:
        if at.astimezone(clock.IST).time() != SAYS_SO_AT:
            raise NotWanted
        raise Skipped(f"no session on {day:%d %b %Y}")
    return session
