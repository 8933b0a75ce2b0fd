"""The bots' job as a Celery task."""

from celery import shared_task

from tradingsite.scheduling import jobs
from tradingsite.scheduling.child_process import apart


@shared_task(name="bots.tasks.personal_signals")
def personal_signals(scheduled_for: str) -> None:
    """Say what the personal model does in the next session, and why."""
    jobs.perform("personal-signals", scheduled_for, apart("bots.signals.make_for_job"))


@shared_task(name="bots.tasks.review_trades")
def review_trades(scheduled_for: str) -> None:
    """Hold the day's charges and slippage against what was booked and assumed."""
    from bots import daily_review

    jobs.perform("trade-review", scheduled_for, daily_review.run_for_job)
