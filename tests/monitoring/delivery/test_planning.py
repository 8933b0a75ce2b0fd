"""From notices to deliveries: what is told, when, and what another message speaks for."""

import datetime as dt
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from monitoring.delivery import planning, quiet
from monitoring.delivery.models import Cursor, Delivery
from tradingsite import clock, notices
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db
State, Kind = Delivery.State, Delivery.Kind
SECOND, MINUTE = dt.timedelta(seconds=1), dt.timedelta(minutes=1)
NOON = dt.datetime(2026, 6, 1, 12, tzinfo=clock.IST)
NIGHT = dt.datetime(2026, 6, 1, 23, 30, tzinfo=clock.IST)
MORNING = dt.datetime(2026, 6, 2, 7, tzinfo=clock.IST)


@pytest.fixture(autouse=True)
def begun() -> Iterator[None]:
    """Have a desk whose channels have had a bot for a while."""
    with override_settings(QUIET_HOURS=(dt.time(23), dt.time(7))):
        planning.plan(NOON)
        yield


def tell(key: str, severity: str = "warning", at: dt.datetime = NOON) -> Notice:
    """Have a notice that was said at an instant."""
    notices.notify("infrastructure", severity, key, f"{key} happened. This was done. Do that.")
    notice = Notice.objects.get(key=key, resolved_at=None)
    Notice.objects.filter(pk=notice.pk).update(created_at=at)
    return notice


def end(key: str, at: dt.datetime) -> None:
    Notice.objects.filter(key=key, resolved_at=None).update(resolved_at=at)


def states(kind: str = Kind.TOLD) -> dict[str, str]:
    rows = Delivery.objects.filter(kind=kind).order_by("pk")
    return {row.notice.key: row.state for row in rows if row.notice}


def test_a_notice_is_told_once_and_its_end_once() -> None:
    tell("disk")
    assert planning.plan(NOON + SECOND) == 1
    assert planning.plan(NOON + SECOND) == 0
    end("disk", NOON + MINUTE)
    assert planning.plan(NOON + MINUTE) == 1
    assert planning.plan(NOON + MINUTE) == 0
    assert states() == states(Kind.OVER) == {"disk": State.QUEUED}
    over = Delivery.objects.get(kind=Kind.OVER)
    assert over.is_silent and "Over after 1\xa0m" in over.html


def test_what_was_before_the_first_bot_is_not_sent_after_it() -> None:
    Cursor.objects.all().delete()
    tell("disk")
    planning.plan(NOON)
    assert states() == {}
    tell("queue:restarted")
    planning.plan(NOON + MINUTE)
    assert states() == {"queue:restarted": State.QUEUED}


def test_one_committed_late_under_an_earlier_id_is_told_too() -> None:
    first, second = tell("one"), tell("two")
    Notice.objects.filter(pk=first.pk).update(channel="brief")  # not visible yet
    planning.plan(NOON)
    Notice.objects.filter(pk=first.pk).update(channel="infrastructure")
    planning.plan(NOON)
    assert first.pk < second.pk and states() == {"one": State.QUEUED, "two": State.QUEUED}


def test_an_effect_is_told_under_its_cause_also_where_the_cause_comes_later() -> None:
    tell("beat:silent")
    assert planning.plan(NOON + 5 * SECOND) == 0  # a cause may follow
    tell("queue:away", "critical", NOON + 5 * SECOND)
    planning.plan(NOON + 6 * SECOND)
    end("beat:silent", NOON + 20 * SECOND)
    end("queue:away", NOON + 21 * SECOND)
    planning.plan(NOON + 30 * SECOND)
    assert states() == {"beat:silent": State.FOLDED, "queue:away": State.QUEUED}
    assert states(Kind.OVER) == {"queue:away": State.QUEUED}


def test_an_effect_without_a_cause_is_told_after_a_moment() -> None:
    tell("beat:silent")
    planning.plan(NOON + planning.EFFECT_WAITS)
    assert states() == {"beat:silent": State.QUEUED}


def test_a_critical_effect_is_folded_for_ten_minutes_and_no_longer() -> None:
    tell("queue:away", "critical")
    tell("service:worker", "critical")
    tell("service:beat", "critical")
    planning.plan(NOON + MINUTE)
    assert set(states().values()) == {State.QUEUED, State.HELD}
    end("service:beat", NOON + 9 * MINUTE)
    planning.plan(NOON + planning.CRITICAL_FOLDED_FOR)
    assert states() == {
        "queue:away": State.QUEUED,
        "service:worker": State.QUEUED,
        "service:beat": State.FOLDED,
    }
    assert states(Kind.OVER) == {}


def test_what_comes_and_goes_is_told_three_times_and_then_if_it_stays() -> None:
    for turn in range(6):
        at = NOON + turn * 2 * MINUTE
        tell("disk", "critical", at)
        planning.plan(at)
        end("disk", at + MINUTE)
        planning.plan(at + MINUTE)
    told = Delivery.objects.filter(kind=Kind.TOLD).order_by("pk")
    assert [row.state for row in told] == [State.QUEUED] * 3 + [State.FOLDED] * 3
    assert "third time" in told[2].html
    tell("disk", "critical", NOON + 12 * MINUTE)
    planning.plan(NOON + 12 * MINUTE)
    planning.plan(NOON + 22 * MINUTE)
    assert Delivery.objects.filter(kind=Kind.TOLD).latest("pk").state == State.QUEUED


def test_a_matter_that_is_said_anew_after_hours_is_not_over() -> None:
    tell("disk")
    planning.plan(NOON)
    again = clock.real()
    end("disk", again)
    tell("disk", at=again)
    planning.plan(again + MINUTE)
    assert states(Kind.OVER) == {"disk": State.FOLDED}


def test_the_quiet_hours_hold_all_but_the_critical_until_the_morning() -> None:
    tell("disk", at=NIGHT)
    tell("order:nifty:1", "critical", NIGHT)
    planning.plan(NIGHT)
    assert states() == {"disk": State.HELD, "order:nifty:1": State.QUEUED}
    end("disk", NIGHT + MINUTE)
    planning.plan(NIGHT + 2 * MINUTE)
    assert states()["disk"] == State.HELD  # nothing is lost, though it is over
    planning.plan(MORNING)
    assert states()["disk"] == State.QUEUED
    planning.plan(MORNING)
    assert states(Kind.OVER) == {"disk": State.QUEUED}


@pytest.mark.parametrize(
    ("hour", "minute", "ends"),
    [(22, 59, None), (23, 0, MORNING), (2, 0, MORNING - dt.timedelta(days=1)), (7, 0, None)],
)
def test_quiet_hours_run_over_midnight(hour: int, minute: int, ends: dt.datetime | None) -> None:
    at = dt.datetime(2026, 6, 1, hour, minute, tzinfo=clock.IST)
    assert quiet.quiet_until(at) == ends


def test_a_mute_keeps_all_but_the_critical_and_can_be_ended() -> None:
    quiet.mute("infrastructure", NOON + MINUTE, "the owner")
    tell("disk")
    tell("halt:nifty", "critical")
    planning.plan(NOON)
    assert states() == {"disk": State.MUTED, "halt:nifty": State.QUEUED}
    quiet.mute("", clock.real() + MINUTE, "the owner")
    assert quiet.muted_until("trading", clock.real())
    quiet.unmute("", "the owner")
    assert quiet.muted_until("trading", clock.real()) is None


def test_without_a_bot_there_are_no_deliveries() -> None:
    with override_settings(TELEGRAM_TOKENS={}):
        tell("disk")
        assert planning.plan(NOON) == 0
    assert not Delivery.objects.exists()


def test_two_planners_tell_a_notice_once() -> None:
    """The second finds the rows of the first, whatever its cursor says."""
    tell("disk")
    planning.plan(NOON)
    Cursor.objects.update(planned_to=0)
    planning.plan(NOON)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM delivery_delivery WHERE kind = 'told'")
        assert cursor.fetchone()[0] == 1
