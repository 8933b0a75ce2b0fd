"""The pruning of old records."""

import datetime as dt
from collections.abc import Callable

import pytest

from monitoring import tasks
from monitoring.models import HostSample
from tradingsite import clock
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling.schedules import RECORDS_KEPT_DAYS

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 6, 1, 3, 30, tzinfo=clock.IST)


def test_only_what_is_past_its_time_goes(set_market: Callable[..., None]) -> None:
    set_market(NOW)
    older, newer = (dt.timedelta(days=RECORDS_KEPT_DAYS + shift) for shift in (1, -1))
    for age in (older, newer):
        JobRun.objects.create(job="backups", scheduled_for=NOW - age)
        at = clock.real() - age
        HostSample.objects.create(
            machine="single", at=at, cpu_pct=1, memory_pct=1, disk_pct=1, load_1m=1
        )
        Notice.objects.create(
            channel="brief", severity="info", key=f"x{age}", created_at=at, last_at=at, market_at=at
        )
    tasks.prune_records.delay(scheduled_for=NOW.isoformat())
    run = JobRun.objects.get(job="prune-records")
    assert run.state == "done"
    assert run.detail == "1 job runs, 1 notices, 1 host samples deleted"
    assert JobRun.objects.filter(job="backups").get().scheduled_for == NOW - newer
    assert HostSample.objects.count() == Notice.objects.count() == 1
