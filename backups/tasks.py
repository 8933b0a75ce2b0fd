"""The backup job as a Celery task."""

from celery import shared_task

from tradingsite.scheduling import jobs


@shared_task(name="backups.tasks.back_up")
def back_up(scheduled_for: str) -> None:
    """Dump, verify and ship every database."""
    jobs.perform("backups", scheduled_for, None)
