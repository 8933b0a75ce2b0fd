"""The bots' job as a Celery task."""

from celery import shared_task

from tradingsite import jobs


@shared_task(name="bots.tasks.personal_signals")
def personal_signals(scheduled_for: str) -> None:
    """Say what the personal model would do."""
    jobs.perform("personal-signals", scheduled_for, None)
