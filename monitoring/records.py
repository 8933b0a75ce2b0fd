"""The pruning of the desk's own records; the ledger of orders and fills is kept for ever."""

import datetime as dt
from typing import Any

from django.db.models import QuerySet

from monitoring.models import HostSample
from tradingsite import clock
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling.schedules import RECORDS_KEPT_DAYS


def prune(run: JobRun) -> str:
    """Delete job runs, notices and host samples older than the table says; return how many."""
    deleted = {name: rows.delete()[0] for name, rows in expired().items()}
    return ", ".join(f"{count} {name}" for name, count in deleted.items()) + " deleted"


def expired() -> dict[str, QuerySet[Any]]:
    """Return what is past its time: job runs by the market's clock, the rest by the real one."""
    kept = dt.timedelta(days=RECORDS_KEPT_DAYS)
    return {
        "job runs": JobRun.objects.filter(scheduled_for__lt=clock.market() - kept),
        "notices": Notice.objects.filter(last_at__lt=clock.real() - kept),
        "host samples": HostSample.objects.filter(at__lt=clock.real() - kept),
    }
