"""Beat on market time: the real scheduler, the real database, the real queue."""

import datetime as dt
import time
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest
from celery.beat import SchedulingError
from django_celery_beat import schedulers
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from tradingsite import clock
from tradingsite.celery import QUEUES, app
from tradingsite.models import Heartbeat
from tradingsite.scheduling import beat
from tradingsite.scheduling.schedules import ALL, HOUSEKEEPING, JOBS

pytestmark = pytest.mark.django_db

MORNING = dt.datetime(2026, 6, 1, 9, 0, tzinfo=clock.IST)
JOB_OF = {job.task: job.name for job in ALL.values()}
Firing = tuple[str, dt.datetime]


def sent() -> list[Firing]:
    """Take every message out of the queues and return the firings they are for."""
    found = []
    with app.connection_for_read() as connection:
        for name in QUEUES:
            simple = connection.SimpleQueue(name)
            while True:
                try:
                    message = simple.get(block=False)
                except Empty:
                    break
                message.ack()
                kwargs = message.payload[1]
                at = dt.datetime.fromisoformat(kwargs["scheduled_for"])
                found.append((JOB_OF[message.headers["task"]], at.astimezone(clock.IST)))
    return found


def expected(start: dt.datetime, end: dt.datetime) -> list[Firing]:
    """Return every firing in (start, end], found by trying each minute against the fields."""
    crons = {task.name: task.crontab.schedule for task in PeriodicTask.objects.all()}
    found = []
    at = start.replace(second=0, microsecond=0)
    while (at := at + dt.timedelta(minutes=1)) <= end:
        for name, cron in crons.items():
            if at.minute in cron.minute and at.hour in cron.hour and at.day in cron.day_of_month:
                found.append((name, at))
    return found


def run_for(scheduler: beat.Scheduler, seconds: float) -> None:
    """Tick as beat's own service loop does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        wait = scheduler.tick()
        if wait > 0:
            time.sleep(min(wait, max(until - time.monotonic(), 0)))


@pytest.fixture(autouse=True)
def keep_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let beat not renew its connection, which is inside the test's transaction."""
    monkeypatch.setattr(schedulers, "close_old_connections", lambda: None)


def started() -> beat.Scheduler:
    """Return a scheduler that saves nothing after the tests' databases are gone."""
    scheduler = beat.Scheduler(app)
    scheduler._finalize.cancel()
    return scheduler


@pytest.fixture
def scheduler(queue: None, set_market: Callable[..., None]) -> beat.Scheduler:
    """Return a scheduler on a market that stands at 09:00."""
    set_market(MORNING)
    return started()


def test_sync_writes_the_tables_and_deletes_what_left_them() -> None:
    beat.sync()
    crontab = CrontabSchedule.objects.create(minute="7", hour="7", timezone="Asia/Kolkata")
    PeriodicTask.objects.create(name="gone", task="gone.task", crontab=crontab)
    assert beat.sync() == (len(JOBS) + len(HOUSEKEEPING), 1)
    rows = {row.name: row for row in PeriodicTask.objects.all()}
    assert set(rows) == set(ALL)
    for name, job in ALL.items():
        assert rows[name].expire_seconds == job.expires_seconds
        assert rows[name].queue == job.queue
        assert str(rows[name].crontab.timezone) == "Asia/Kolkata"
    assert CrontabSchedule.objects.filter(minute="7", hour="7").count() == 0


def test_sync_leaves_a_pause_and_takes_back_a_changed_time() -> None:
    beat.sync()
    row = PeriodicTask.objects.get(name="backups")
    at_noon = CrontabSchedule.objects.create(minute="0", hour="12", timezone="Asia/Kolkata")
    row.enabled, row.crontab = False, at_noon
    row.save()
    beat.sync()
    row.refresh_from_db()
    assert not row.enabled
    assert (row.crontab.minute, row.crontab.hour) == ("30", "20")


def test_all_firings_happen_once_at_480_times(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    scheduler.tick()
    sent()
    start = MORNING + dt.timedelta(minutes=4, seconds=30)
    set_market(start, 480.0)
    run_for(scheduler, 3.0)
    end = clock.market()
    scheduler.tick()
    found = sent()
    wanted = [firing for firing in expected(MORNING, end)]
    late = {firing for firing in found if firing[1] > end}  # fell due while the last tick ran
    assert sorted(set(found) - late) == sorted(wanted)
    assert len(found) == len(set(found))
    names = [name for name, _ in found]
    assert names.count("options-collector") >= 24
    assert ("straddle-start", MORNING + dt.timedelta(minutes=15)) in found


def test_the_first_simulated_morning_has_its_nine_o_clock_jobs(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    set_market(MORNING + dt.timedelta(minutes=6))
    scheduler.tick()
    found = sent()
    assert ("token-refresh", MORNING) in found
    assert ("security-check", MORNING) in found
    names = [name for name, _ in found]
    assert "morning-brief" not in names and "btc-training" not in names
    assert len(found) == len(set(found))


def test_a_clock_that_jumps_for_a_moment_sends_nothing_of_tomorrow(
    queue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = started()
    scheduler.tick()
    sent()
    ahead = [0.0]
    true = clock.real

    def set_clock() -> dt.datetime:
        return true() + dt.timedelta(seconds=ahead[0])

    monkeypatch.setattr(clock, "market", set_clock)
    boot = time.monotonic
    read = lambda: (set_clock().timestamp(), boot())  # noqa: E731
    scheduler._steadiness = clock.Steadiness(read)
    ahead[0] = 86_400.0
    scheduler.tick()
    assert sent() == []
    assert Heartbeat.objects.get(service="beat").detail.startswith("the clock jumped by +86400 s")
    ahead[0] = 0.0
    scheduler.tick()
    due = clock.real() + dt.timedelta(hours=1)
    assert all(at <= due for _, at in sent())
    entries = scheduler.schedule.values()
    assert all(entry.last_run_at <= due for entry in entries)


def test_a_stall_loses_nothing(scheduler: beat.Scheduler, set_market: Callable[..., None]) -> None:
    scheduler.tick()
    sent()
    later = MORNING + dt.timedelta(minutes=7)  # 48 times: under nine real seconds
    set_market(later)
    scheduler.tick()
    assert sorted(sent()) == sorted(expected(MORNING, later))


def test_after_an_absence_each_job_comes_with_its_newest_firings(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    scheduler.tick()
    sent()
    later = MORNING + dt.timedelta(days=2, hours=12, seconds=1)
    set_market(later)
    scheduler.tick()
    every = sorted(expected(MORNING, later), key=lambda firing: firing[1])
    # Of a job of every minute also those of the last real seconds, as after any stall.
    recent = later - dt.timedelta(seconds=beat.CATCH_UP_SECONDS * clock.speed())
    newest = {*dict(every).items(), *(firing for firing in every if firing[1] > recent)}
    assert sorted(sent()) == sorted(newest)


def test_a_restart_goes_on_where_it_was(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    set_market(MORNING)
    scheduler.tick()
    scheduler.close()
    first = sent()
    assert ("token-refresh", MORNING) in first
    again = started()
    again.tick()
    assert sent() == []
    assert PeriodicTask.objects.get(name="token-refresh").total_run_count == 1


def test_a_market_set_back_fires_again_from_there(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    set_market(MORNING + dt.timedelta(days=9))
    scheduler.tick()
    sent()
    set_market(MORNING)
    scheduler.tick()
    assert sent() == []
    set_market(MORNING + dt.timedelta(minutes=1))
    scheduler.tick()
    assert ("options-collector", MORNING + dt.timedelta(minutes=1)) in sent()


def test_a_queue_that_is_down_is_tried_again(
    scheduler: beat.Scheduler, set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.tick()
    sent()
    set_market(MORNING + dt.timedelta(minutes=1))

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise SchedulingError("no queue")

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "apply_async", refuse)
        assert scheduler.tick() == 1.0
    assert Heartbeat.objects.get(service="beat").state == "failing"
    scheduler.tick()
    found = sent()
    assert found.count(("options-collector", MORNING + dt.timedelta(minutes=1))) == 1


def test_messages_expire_in_real_seconds(
    scheduler: beat.Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, dict[str, Any]] = {}

    def keep(entry: beat.MarketEntry, **kwargs: Any) -> None:
        options[entry.name] = dict(entry.options)

    monkeypatch.setattr(scheduler, "apply_async", keep)
    scheduler.tick()
    assert options["token-refresh"]["expires"] == pytest.approx(840 / 48)
    assert options["options-collector"]["expires"] == beat.EXPIRES_AFTER_SECONDS
    assert options["options-collector"]["queue"] == "collect"


def test_a_paused_job_is_not_sent(
    scheduler: beat.Scheduler, set_market: Callable[..., None]
) -> None:
    PeriodicTask.objects.filter(name="options-collector").update(enabled=False)
    PeriodicTasks.update_changed()
    set_market(MORNING + dt.timedelta(minutes=2))
    scheduler.tick()
    names = {name for name, _ in sent()}
    assert "trade-fetcher" in names and "options-collector" not in names


def test_waits_for_a_market_that_has_not_begun(queue: None, tmp_path: Any) -> None:
    clock.simulate(tmp_path / "none.json")
    try:
        scheduler = started()
        assert scheduler.tick() == beat.SIMULATED_LOOP_SECONDS
        assert sent() == []
        assert Heartbeat.objects.get(service="beat").state == "waiting"
    finally:
        clock.simulate(None)


def test_real_time_begins_now(queue: None) -> None:
    scheduler = started()
    assert 0 < scheduler.tick() <= scheduler.max_interval
    assert sent() == []
