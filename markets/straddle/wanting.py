"""What the two jobs do: they write down whether the tracker is wanted; the service obeys."""

from django.db import transaction

from markets.straddle.models import THE_ROW, Wanted
from tradingsite import clock
from tradingsite.models import JobRun


def start(run: JobRun) -> str:
    """Want the tracker from a firing on; return what was done."""
    return _want(run, True)


def stop(run: JobRun) -> str:
    """Want the tracker no more; return what was done."""
    return _want(run, False)


def _want(run: JobRun, is_wanted: bool) -> str:
    values = {
        "is_wanted": is_wanted,
        "since": run.scheduled_for,
        "job": run.job,
        "job_run": run.pk,
    }
    with transaction.atomic(using="straddle"):
        row, is_new = Wanted.objects.select_for_update().get_or_create(pk=THE_ROW, defaults=values)
        # A message that was late says nothing about what came after it.
        if not is_new and row.since > run.scheduled_for:
            at = row.since.astimezone(clock.IST)
            return f"left as it is: {row.job} of {at:%d %b %H:%M} IST is later"
        if not is_new:
            Wanted.objects.filter(pk=THE_ROW).update(**values)
    return f"the straddle tracker is {'wanted' if is_wanted else 'wanted no more'}"
