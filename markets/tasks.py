"""Market data's jobs as Celery tasks."""

import datetime as dt

from celery import shared_task

from markets.capture import owner_trades, token_refresh
from markets.capture.bars import job as bars_job
from markets.capture.calendar_watch import warn_of_end
from markets.capture.instruments import daily as daily_instruments
from markets.straddle import retention, wanting
from tradingsite.scheduling import jobs
from tradingsite.scheduling.child_process import apart


@shared_task(name="markets.tasks.refresh_token")
def refresh_token(scheduled_for: str) -> None:
    """Renew the broker's day token."""
    jobs.perform("token-refresh", scheduled_for, token_refresh.ensure_token)


@shared_task(name="markets.tasks.collect_options")
def collect_options(scheduled_for: str) -> None:
    """Store one minute of the option chain."""
    # Here, so that only the worker that collects loads what collecting needs.
    from markets.options import job

    job.perform(scheduled_for)


@shared_task(name="markets.tasks.keep_options")
def keep_options(scheduled_for: str) -> None:
    """Make the options' partitions, archive closed days, and drop those past their time."""
    jobs.perform("options-partitions", scheduled_for, apart("markets.options.job.keep_house"))


@shared_task(name="markets.tasks.file_options")
def file_options(day: str) -> None:
    """On PC: move a day's file that PROD sent into the archive."""
    from markets.options import filing

    filing.file_sent(dt.date.fromisoformat(day))


@shared_task(name="markets.tasks.fetch_trades")
def fetch_trades(scheduled_for: str) -> None:
    """Fetch the owner's own trades."""
    jobs.perform("trade-fetcher", scheduled_for, owner_trades.fetch_for_job)


@shared_task(name="markets.tasks.start_straddle")
def start_straddle(scheduled_for: str) -> None:
    """Start following the straddle."""
    jobs.perform("straddle-start", scheduled_for, wanting.start)


@shared_task(name="markets.tasks.stop_straddle")
def stop_straddle(scheduled_for: str) -> None:
    """Stop following the straddle at the session's close."""
    jobs.perform("straddle-stop", scheduled_for, wanting.stop)


@shared_task(name="markets.tasks.prune_straddle")
def prune_straddle(scheduled_for: str) -> None:
    """Delete the straddle's ticks that are past their time."""
    jobs.perform("straddle-retention", scheduled_for, retention.keep_house)


@shared_task(name="markets.tasks.warn_of_calendar_end")
def warn_of_calendar_end(scheduled_for: str) -> None:
    """Warn while there is time to enter the exchange's next holidays."""
    jobs.perform("calendar-warning", scheduled_for, warn_of_end)


@shared_task(name="markets.tasks.collect_bars")
def collect_bars(scheduled_for: str) -> None:
    """Store the bars that have closed, or in the simulated desk compare them."""
    jobs.perform("bars-collector", scheduled_for, bars_job.collect)


@shared_task(name="markets.tasks.fetch_instruments")
def fetch_instruments(scheduled_for: str) -> None:
    """Fetch the venues' lists of instruments of the day."""
    jobs.perform("instruments", scheduled_for, daily_instruments.fetch_all)


@shared_task(name="markets.tasks.allocate")
def allocate(scheduled_for: str) -> None:
    """Measure and weigh the assets as of the month's first day, once a month."""
    jobs.perform("allocator", scheduled_for, apart("markets.allocator.monthly.run_for_job"))
