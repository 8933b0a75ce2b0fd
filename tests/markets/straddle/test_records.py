"""What the jobs write down, what the retention deletes, and the tables that people may look at."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from markets import tasks
from markets.straddle import retention
from markets.straddle.models import Gap, Series, Tick, TrackerState, Wanted
from markets.straddle.roller import Began, Ended, Missed
from markets.straddle.storage import Buffer, Writer
from tests.histories import seed_days
from tests.markets.straddle.chains import TEN, key, row
from tradingsite import clock
from tradingsite.models import JobRun

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "straddle"])
DAY = dt.timedelta(days=1)


def fired(text: str) -> str:
    """Return a firing's time."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=clock.IST).isoformat()


def test_the_jobs_write_down_what_they_want_and_a_late_one_overrules_nothing() -> None:
    seed_days("nifty")
    tasks.start_straddle.delay(scheduled_for=fired("2026-06-02 09:15"))
    row = Wanted.objects.get()
    run = JobRun.objects.get()
    assert (row.is_wanted, row.job, row.job_run) == (True, "straddle-start", run.pk)
    assert row.since.isoformat() == "2026-06-02T03:45:00+00:00"
    assert run.detail == "the straddle tracker is wanted"
    # Yesterday's stop was stuck in a queue.
    tasks.stop_straddle.delay(scheduled_for=fired("2026-06-01 15:30"))
    assert Wanted.objects.get().is_wanted
    late = JobRun.objects.get(job="straddle-stop")
    assert late.detail == "left as it is: straddle-start of 02 Jun 09:15 IST is later"
    tasks.stop_straddle.delay(scheduled_for=fired("2026-06-02 15:30"))
    assert not Wanted.objects.get().is_wanted


def test_a_day_past_its_time_goes_whole_and_only_when_asked(
    set_market: Callable[..., None],
) -> None:
    old, kept = key(), key(since=TEN + DAY)
    Writer(Buffer()).save(
        [
            *(Began(old), row(0, 0), row(1, 1), Ended(old, TEN + 5 * DAY / 24, "stopped")),
            *(Began(kept), row(0, 86_400, kept)),
            Missed(TEN, TEN + DAY / 24, None, "no ticks came"),
            Missed(TEN + DAY, TEN + DAY * 1.1, 3, "no ticks came"),
        ]
    )
    set_market(TEN + 61 * DAY)
    found = retention.prune(dry_run=True)
    assert (found.series, found.ticks, found.gaps) == (1, 2, 1)
    assert Tick.objects.count() == 3
    tasks.prune_straddle.delay(scheduled_for=fired("2026-08-01 05:40"))
    assert JobRun.objects.get().detail == (
        "2 ticks of 1 series and 1 gaps deleted, from before 02 Jun 2026"
    )
    assert [each.since for each in Series.objects.all()] == [TEN + DAY]
    assert (Tick.objects.count(), Gap.objects.count()) == (1, 1)
    assert retention.prune(dry_run=False).ticks == 0


def test_people_may_look_and_change_nothing(client: Client) -> None:
    client.force_login(User.objects.create_superuser("owner"))
    Writer(Buffer()).save([Began(key(width=2)), Missed(TEN, TEN + DAY, None, "no ticks came")])
    Wanted.objects.create(is_wanted=True, since=TEN, job="straddle-start", job_run=1)
    TrackerState.objects.create(written_at=TEN, state="idle")
    for model in (Series, Gap, Wanted, TrackerState):
        name = f"admin:straddle_{model._meta.model_name}"
        page = client.get(reverse(f"{name}_changelist"))
        assert page.status_code == 200
        first = model._default_manager.get()
        assert client.get(reverse(f"{name}_change", args=[first.pk])).status_code == 200
        assert client.get(reverse(f"{name}_add")).status_code == 403
    series = Series.objects.get()
    assert str(series) == "NIFTY 2026-06-02 24900 25100 strangle"
    assert (series.kind, series.strike) == ("strangle", 2_500_000)
