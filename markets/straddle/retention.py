"""The straddles' retention: whole series of old days go, with their ticks and gaps."""

import datetime as dt
from dataclasses import dataclass

from django.db import transaction

from markets.straddle.models import Gap, Series, Tick
from tradingsite import clock
from tradingsite.models import JobRun

KEPT_DAYS = 60


@dataclass(frozen=True, slots=True)
class Pruned:
    """Say what was, or would be, deleted."""

    before: dt.datetime
    series: int
    ticks: int
    gaps: int


def keep_house(run: JobRun) -> str:
    """Delete what is past its time, as the nightly job; return what went."""
    gone = prune(dry_run=False)
    return (
        f"{gone.ticks} ticks of {gone.series} series and {gone.gaps} gaps deleted, from before "
        f"{gone.before:%d %b %Y}"
    )


def prune(kept_days: int = KEPT_DAYS, *, dry_run: bool) -> Pruned:
    """Delete the series that began before the Indian day so many days ago; return how much it is.

    A series never outlives its day, and its ticks are found by it. With dry_run nothing goes.
    """
    first_kept = clock.trading_date(clock.market()) - dt.timedelta(days=kept_days)
    before = dt.datetime.combine(first_kept, dt.time(), clock.IST)
    series = Series.objects.filter(since__lt=before)
    ticks = Tick.objects.filter(series__in=series.order_by().values("pk"))
    gaps = Gap.objects.filter(ended_at__lt=before)
    found = Pruned(before, series.count(), ticks.count(), gaps.count())
    if not dry_run:
        with transaction.atomic(using="straddle"):
            ticks._raw_delete("straddle")
            series._raw_delete("straddle")
            gaps.delete()
    return found
