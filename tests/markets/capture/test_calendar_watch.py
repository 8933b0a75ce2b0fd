"""The warning before the verified calendar ends."""

import datetime as dt
from collections.abc import Callable

import pytest

from markets import tasks
from markets.capture import calendar_watch
from tests.histories import seed_days
from tradingsite import clock
from tradingsite.models import JobRun, Notice

pytestmark = pytest.mark.django_db(databases=["default", "nifty"])


@pytest.fixture(autouse=True)
def days(db: None, set_market: Callable[..., None]) -> None:
    """Have the calendar there, and its end near."""
    seed_days("nifty")
    set_market(dt.datetime(2026, 12, 20, 8, 0, tzinfo=clock.IST))


def warn(day: str) -> JobRun:
    """Run the job as of a morning."""
    tasks.warn_of_calendar_end.delay(scheduled_for=f"{day}T08:00:00+05:30")
    return JobRun.objects.get(scheduled_for=dt.datetime.fromisoformat(f"{day}T08:00:00+05:30"))


def test_nothing_is_said_while_a_month_is_ahead() -> None:
    assert warn("2026-06-01").detail == "at least 30 verified days are ahead"
    assert Notice.objects.count() == 0


def test_the_last_month_is_warned_of_with_what_to_do() -> None:
    assert calendar_watch.verified_days_left(dt.date(2026, 12, 20)) == 11
    run = warn("2026-12-20")
    notice = Notice.objects.get()
    assert notice.severity == "warning"
    assert "11 more days, up to 31 Dec 2026" in notice.text
    assert "Trading days" in notice.text
    assert run.detail == notice.text


def test_new_days_end_the_warning() -> None:
    warn("2026-12-20")
    warn("2026-06-02")
    assert Notice.objects.get().resolved_at is not None
