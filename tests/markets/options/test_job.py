"""The collector's job: its record, its absence, and the keeping of the house."""

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from markets import tasks
from markets.options import job, partitions
from markets.options.collector import Collector
from markets.options.models import CollectedMinute, Gap
from tests.histories import seed_days
from tests.markets.options.desk import OptionsDesk, options_desk, stored
from tests.markets.simulator.broker import ist
from tradingsite import clock
from tradingsite.models import JobRun, Notice
from tradingsite.scheduling import jobs

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "options"])


@pytest.fixture
def desk(
    tmp_path: Path, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[OptionsDesk]:
    seed_days()
    settings.DATA_DIR = settings.PC_DIR = tmp_path
    with options_desk(tmp_path, set_market) as made:
        monkeypatch.setattr(job, "collector", lambda: made.collector)
        yield made


def fire(at: str, task: Any = tasks.collect_options) -> None:
    task.delay(scheduled_for=clock.from_seconds(ist(at)).isoformat())


def test_a_firing_stores_its_minute_and_says_so(desk: OptionsDesk) -> None:
    desk.go("2026-06-01 10:00")
    fire("2026-06-01 10:00")
    fire("2026-06-01 10:00")
    run = JobRun.objects.get()
    assert (run.job, run.state) == ("options-collector", "done")
    assert run.detail.endswith("quotes stored, 45 earlier minutes missing")
    assert len(stored("2026-06-01 10:00")) > 70


def test_a_late_firing_is_recorded_as_skipped(desk: OptionsDesk) -> None:
    desk.go("2026-06-01 10:05")
    fire("2026-06-01 10:03")
    run = JobRun.objects.get()
    assert run.state == "skipped" and "120 s after the minute" in run.detail
    assert not CollectedMinute.objects.exists()


def test_a_redelivered_firing_whose_minute_is_stored_is_done(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.go("2026-06-01 10:02")
    fire("2026-06-01 10:00")
    run = JobRun.objects.get()
    assert (run.state, run.detail) == ("done", "the minute was stored before")


def test_a_holiday_is_said_once(desk: OptionsDesk) -> None:
    desk.go("2026-01-26 09:15")
    fire("2026-01-26 09:14")
    fire("2026-01-26 09:15")
    assert JobRun.objects.get().detail == "no session on 26 Jan 2026"
    assert not Gap.objects.exists()


def test_without_postgresql_the_minute_goes_into_the_spool(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fire("2026-06-01 10:00")
    # The test's own transaction would not survive a connection made again.
    monkeypatch.setattr(Collector, "_reconnect", lambda self, error: self._known.forget())

    def away(*args: object, **how: object) -> None:
        raise OperationalError("the server closed the connection\nunexpectedly")

    desk.go("2026-06-01 10:01")
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "perform", away)
        patch.setattr("markets.options.storage.store", away)
        patch.setattr("markets.options.gaps.note", away)
        fire("2026-06-01 10:01")
        fire("2026-06-01 10:01")  # a second delivery
    assert len(desk.collector.spool.waiting()) == 1
    desk.go("2026-06-01 10:02")
    fire("2026-06-01 10:02")
    assert "1 minutes from the spool" in JobRun.objects.latest("scheduled_for").detail
    assert len(stored("2026-06-01 10:01")) > 70 and len(stored("2026-06-01 10:02")) > 70
    assert JobRun.objects.count() == 2
    assert not Gap.objects.filter(ts__gte=clock.from_seconds(ist("2026-06-01 10:00"))).exists()


def test_without_postgresql_nothing_is_asked_outside_the_session(
    desk: OptionsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(jobs, "perform", away)
    desk.go("2026-06-01 19:00")
    before = len(desk.kite.broker.kite.requests)
    fire("2026-06-01 19:00")
    assert len(desk.kite.broker.kite.requests) == before


def test_a_refused_token_fails_the_firing_and_is_noticed(desk: OptionsDesk) -> None:
    desk.go("2026-06-01 10:00")
    desk.kite.tokens.save("wrong", "AB1234")
    with pytest.raises(Exception, match="token"):
        fire("2026-06-01 10:00")
    assert JobRun.objects.get().state == "failed"
    assert Notice.objects.get().key == "job:options-collector"


def test_the_house_is_kept_each_morning(desk: OptionsDesk) -> None:
    desk.minute("2026-06-01 10:00")
    desk.go("2026-06-02 05:30")
    fire("2026-06-02 05:30", tasks.keep_options)
    run = JobRun.objects.get()
    assert run.state == "done"
    assert run.detail.startswith("8 partitions made, ")
    assert run.detail.endswith("1 days archived, 0 dropped")
    assert partitions.existing()[-1] == dt.date(2026, 6, 9)
    assert Gap.objects.filter(instrument=None).count() == 375
