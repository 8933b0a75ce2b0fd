"""The collector as a job: one firing, one minute, also while PostgreSQL is away.

A job run is a row of PostgreSQL, which the minute cannot wait for. So where the row cannot be
written, the firing goes on without one: the quotes go into the spool, and the next firing that
finds PostgreSQL stores them. A second delivery of the same firing is kept off by the collector.
"""

import datetime as dt
import logging
from functools import lru_cache
from pathlib import Path

from django.conf import settings

from markets import store
from markets.domain.calendar import Calendar, NseCalendar, nse_days
from markets.options import archive, gaps, partitions
from markets.options.collector import Collector, TooLate
from markets.options.models import CollectedMinute
from markets.options.spool import Spool
from markets.venues.configured import kite_venue
from tradingsite import clock, notices
from tradingsite.models import JobRun
from tradingsite.scheduling import jobs
from tradingsite.scheduling.jobs import Skipped
from tradingsite.supervision.serving import DATABASE_ERRORS

NAME = "options-collector"
MARKET = "nifty"
AWAY_KEY = "options:spool"

log = logging.getLogger(__name__)


def spool_folder() -> Path:
    """Return where minutes wait for PostgreSQL on this machine."""
    return Path(settings.DATA_DIR) / "options" / "spool"


@lru_cache(maxsize=1)
def collector() -> Collector:
    """Return the collector of this process, on the broker that the settings name."""
    calendar = _calendar()
    return Collector(kite_venue(calendar), calendar, spool_folder())


def perform(scheduled_for: str) -> None:
    """Collect the minute of a firing, under its job run or, without PostgreSQL, under none."""
    try:
        jobs.perform(NAME, scheduled_for, collect)
    except DATABASE_ERRORS as error:
        log.warning("PostgreSQL is away, the minute goes into the spool: %s", _first_line(error))
        collect_alone(dt.datetime.fromisoformat(scheduled_for))


def collect(run: JobRun) -> str:
    """Collect the minute of a job run, and say how it went."""
    ours = collector()
    ours.calendar = store.load_calendar(MARKET)
    try:
        outcome = ours.collect(run.scheduled_for)
    except TooLate as error:
        if CollectedMinute.objects.filter(ts=run.scheduled_for).exists():
            return "the minute was stored before"
        raise Skipped(str(error)) from error
    if outcome.replayed:
        notices.resolve(AWAY_KEY)
    return str(outcome)


def collect_alone(at: dt.datetime) -> None:
    """Collect a minute without a job run, unless that was done before PostgreSQL went away."""
    ours = collector()
    if ours.last_minute >= clock.epoch(at):
        return
    session = ours.calendar.session_on(clock.trading_date(at))
    if session is None or not session.opens_at <= at.timestamp() <= session.closes_at:
        return
    try:
        log.warning("without a job run: %s", ours.collect(at))
    except TooLate as error:
        log.warning("without a job run: %s", error)


def keep_house(run: JobRun) -> str:
    """Make the partitions of the week ahead, note the gaps, archive closed days, drop old ones."""
    today = clock.trading_date(run.scheduled_for)
    made = partitions.ensure_ahead(today)
    now = clock.market_epoch()
    calendar = store.load_calendar(MARKET)
    missing = gaps.note_past(calendar, now, Spool(spool_folder()).minutes())
    plan = archive.plan(calendar, now)
    done = archive.carry_out(plan)
    return f"{len(made)} partitions made, {missing} missing minutes noted, {done}"


def _calendar() -> Calendar:
    """Return the calendar, that of the file while PostgreSQL is away."""
    try:
        return store.load_calendar(MARKET)
    except DATABASE_ERRORS as error:
        log.warning("the calendar of the file serves: %s", _first_line(error))
        return NseCalendar.from_days(nse_days())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
