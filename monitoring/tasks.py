"""The watching jobs as Celery tasks."""

from celery import shared_task

from monitoring import records
from tradingsite.scheduling import jobs


@shared_task(name="monitoring.tasks.morning_brief")
def morning_brief(scheduled_for: str) -> None:
    """Send the day's brief."""
    jobs.perform("morning-brief", scheduled_for, None)


@shared_task(name="monitoring.tasks.pnl_chart")
def pnl_chart(scheduled_for: str) -> None:
    """Send the day's PnL as a picture."""
    jobs.perform("pnl-chart", scheduled_for, None)


@shared_task(name="monitoring.tasks.security_summary")
def security_summary(scheduled_for: str) -> None:
    """Send the day's security checks in one message."""
    jobs.perform("security-summary", scheduled_for, None)


@shared_task(name="monitoring.tasks.security_check")
def security_check(scheduled_for: str) -> None:
    """Look for signs of an intruder."""
    jobs.perform("security-check", scheduled_for, None)


@shared_task(name="monitoring.tasks.prune_records")
def prune_records(scheduled_for: str) -> None:
    """Delete the desk's own records that are past their time."""
    jobs.perform("prune-records", scheduled_for, records.prune)
