"""The server monitor, on real rows."""

import datetime as dt
from collections.abc import Callable

import pytest

from monitoring import host, watch
from monitoring.models import HostSample
from monitoring.monitor import Monitor
from tests.monitoring.desks import ALIASES
from tradingsite import clock, notices
from tradingsite.models import Heartbeat, JobRun, Notice
from tradingsite.supervision.heartbeat import Beat
from tradingsite.supervision.services import ONLY_VARIABLE

pytestmark = pytest.mark.django_db(databases=ALIASES)

MORNING = dt.datetime(2026, 6, 1, 9, 0, tzinfo=clock.IST)


def heard(service: str, seconds_ago: float, up_seconds: float = 600) -> None:
    """Have a service's last word that long ago."""
    now = clock.real()
    Heartbeat.objects.update_or_create(
        service=service,
        defaults={
            "pid": 1,
            "state": "running",
            "beat_at": now - dt.timedelta(seconds=seconds_ago),
            "started_at": now - dt.timedelta(seconds=up_seconds),
        },
    )


def minutes_ago(minutes: float) -> dt.datetime:
    """Return a real instant in the past."""
    return clock.real() - dt.timedelta(minutes=minutes)


def test_a_sample_measures_this_machine() -> None:
    sample = host.sample()
    assert HostSample.objects.get() == sample
    assert sample.machine == "single"
    assert 0 <= sample.cpu_pct <= 100
    assert 0 < sample.memory_pct < 100
    assert 0 < sample.disk_pct <= 100


def test_a_filling_disk_is_noticed_at_each_level_and_when_it_is_over() -> None:
    disk = host.DiskWatch()
    for used_pct in (80, 86, 87, 91, 92):
        disk.look(used_pct)
    row = Notice.objects.get()
    assert (row.severity, row.count) == ("critical", 2)
    assert "91 % full" in row.text and "Make room" in row.text
    disk.look(70)
    row.refresh_from_db()
    assert row.resolved_at is not None


def test_a_disk_that_was_freed_while_nobody_watched_is_over_too() -> None:
    host.DiskWatch().look(95)
    host.DiskWatch().look(50)
    assert Notice.objects.get().resolved_at is not None


def test_a_silent_service_is_noticed_once_and_its_return_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "btc-bot,beat")
    services = watch.ServiceWatch(minutes_ago(5))
    heard("beat", 1)
    heard("btc-bot", 40)
    heard("nifty-bot", 4000)  # not among those asked for
    assert services.look() == {"btc-bot"}
    assert services.look() == {"btc-bot"}
    notice = Notice.objects.get()
    assert notice.key == "service:btc-bot" and notice.count == 1
    assert "BTC bot has not reported for 40 s" in notice.text
    assert "The supervisor restarts" in notice.text
    heard("btc-bot", 1)
    assert services.look() == set()
    notice.refresh_from_db()
    assert notice.resolved_at is not None


def test_a_service_that_never_reported_is_silent_once_the_start_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "beat")
    assert watch.ServiceWatch(clock.real()).look() == set()
    assert watch.ServiceWatch(minutes_ago(2)).look() == {"beat"}
    assert "it never has" in Notice.objects.get().text


def test_a_restarted_monitor_ends_no_alarm_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "beat,worker")
    heard("worker", 40)
    watch.ServiceWatch(minutes_ago(2)).look()
    again = watch.ServiceWatch(clock.real())
    assert again.look() == {"beat", "worker"}
    assert notices.open_keys("service:") == {"service:beat", "service:worker"}
    heard("worker", 1)
    assert again.look() == {"beat"}
    assert notices.open_keys("service:") == {"service:beat"}
    assert set(Notice.objects.values_list("count", flat=True)) == {1}


def test_a_restarted_monitor_remembers_what_was_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "beat")
    watch.ServiceWatch(minutes_ago(2)).look()
    heard("beat", 1)
    watch.ServiceWatch(minutes_ago(0)).look()
    assert Notice.objects.get().resolved_at is not None


def test_a_restart_is_over_after_a_minute_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "beat")
    Notice.objects.create(
        channel="infrastructure",
        severity="warning",
        key=watch.restart_key("beat"),
        text="x",
        created_at=clock.real(),
        last_at=clock.real(),
        market_at=clock.real(),
    )
    services = watch.ServiceWatch(minutes_ago(5))
    heard("beat", 1, up_seconds=30)
    services.look()
    assert Notice.objects.get().resolved_at is None
    heard("beat", 1, up_seconds=61)
    services.look()
    assert Notice.objects.get().resolved_at is not None


def test_missing_jobs_are_noticed_while_the_market_moves(set_market: Callable[..., None]) -> None:
    set_market(MORNING, 48.0)
    beat = watch.BeatWatch(minutes_ago(10))
    assert beat.look()
    assert "No scheduled job has run" in Notice.objects.get().text
    JobRun.objects.create(job="security-check", scheduled_for=MORNING, started_at=clock.real())
    assert not beat.look()
    assert Notice.objects.get().resolved_at is not None


def test_a_restarted_monitor_knows_that_jobs_were_missing(
    set_market: Callable[..., None],
) -> None:
    set_market(MORNING, 48.0)
    assert watch.BeatWatch(minutes_ago(10)).look()
    again = watch.BeatWatch(clock.real())
    assert again.look() and notices.open_keys("beat:")
    JobRun.objects.create(job="security-check", scheduled_for=MORNING, started_at=clock.real())
    assert not again.look()
    assert notices.open_keys("beat:") == set()


def test_a_disk_alarm_is_taken_up_and_not_told_again() -> None:
    host.DiskWatch().look(91)
    again = host.DiskWatch()
    again.look(92)
    assert Notice.objects.get().count == 1
    again.look(50)
    assert Notice.objects.get().resolved_at is not None


def test_a_monitor_that_died_says_that_nobody_watched() -> None:
    heard("server-monitor", 75)
    notices.notify("infrastructure", "critical", "disk", "91 %")
    notices.notify("infrastructure", "warning", "restart:server-monitor", "the supervisor's")
    Monitor(Beat("server-monitor"))
    notice = Notice.objects.get(key="restart:server-monitor")
    text = notice.text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "for 1 m nobody watched" in text and "1 alarm." in text


def test_a_monitor_that_was_stopped_says_nothing() -> None:
    heard("server-monitor", 75)
    Heartbeat.objects.update(state="stopped")
    Monitor(Beat("server-monitor"))
    assert not Notice.objects.exists()


def test_a_clock_that_jumps_is_told_and_nothing_is_judged_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ONLY_VARIABLE, "beat")
    heard("beat", 1)
    monitor = Monitor(Beat("server-monitor"))
    monkeypatch.setattr(monitor._clock, "jump", lambda: 86_400.0)
    monitor.step()
    assert not HostSample.objects.exists()
    assert notices.open_keys("") == {"clock:jumped"}
    assert "jumped by +86,400 s" in Notice.objects.get().text


def test_what_ran_under_a_clock_ahead_is_taken_back_and_told() -> None:
    later = clock.real() + dt.timedelta(days=1)
    JobRun.objects.create(job="backups", scheduled_for=later, state="done", started_at=later)
    Monitor(Beat("server-monitor")).step()
    assert JobRun.objects.get().state == JobRun.State.PENDING
    assert "1 scheduled run had been done before the time" in Notice.objects.get(
        key="clock:ahead"
    ).text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_clock_that_is_behind_undoes_nothing_and_is_told() -> None:
    later = clock.real() + dt.timedelta(days=1)
    JobRun.objects.bulk_create(
        JobRun(job="security-check", scheduled_for=later + dt.timedelta(minutes=n), state="done")
        for n in range(100)
    )
    monitor = Monitor(Beat("server-monitor"))
    monitor.step()
    assert JobRun.objects.filter(state="done").count() == 100
    assert "it is behind, or it was ahead for long" in Notice.objects.get(key="time:behind").text
    # A process that has seen the clock run ahead and come back knows better.
    monitor._clock.came_back = True
    monitor._take_back()
    assert JobRun.objects.filter(state="pending").count() == 100
    assert notices.open_keys("time:") == set()


def test_a_market_that_stands_still_misses_no_jobs(set_market: Callable[..., None]) -> None:
    set_market(MORNING)
    assert not watch.BeatWatch(minutes_ago(10)).look()


def test_jobs_are_not_missed_right_after_the_start(set_market: Callable[..., None]) -> None:
    set_market(MORNING, 48.0)
    assert not watch.BeatWatch(minutes_ago(1)).look()


def test_the_loop_samples_reports_and_recovers(
    monkeypatch: pytest.MonkeyPatch, set_market: Callable[..., None]
) -> None:
    set_market(MORNING)
    monkeypatch.setenv(ONLY_VARIABLE, "server-monitor")
    lapsed = clock.real() - dt.timedelta(seconds=1)
    JobRun.objects.create(
        job="backups", scheduled_for=MORNING, state="running", lease_until=lapsed, fence=3
    )
    monitor = Monitor(Beat("server-monitor"))
    monitor.step()
    monitor.step()
    assert HostSample.objects.count() == 1
    beat = Heartbeat.objects.get(service="server-monitor")
    assert beat.state == "running"
    assert "disk" in beat.detail and "asked again for 1 lost" in beat.detail
    assert JobRun.objects.get().state == JobRun.State.FAILED
