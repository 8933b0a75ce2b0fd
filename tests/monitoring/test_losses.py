"""Option quotes that were stored and are gone."""

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import OperationalError

from markets.options import gaps, partitions, storage
from markets.options.models import Quote
from monitoring import losses
from monitoring.losses import OptionsWatch
from tests.markets.options.test_storage import batch
from tests.monitoring.desks import NOW
from tradingsite import clock, notices
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db(databases=["default", "options"])
TODAY = clock.trading_date(NOW)


@pytest.fixture(autouse=True)
def collected(set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have some minutes of today and of yesterday, and look at each call."""
    set_market(NOW)
    monkeypatch.setattr(losses, "EVERY_SECONDS", 0.0)
    known = storage.Known()
    for days in (0, 1):
        for minutes in range(3):
            at = NOW - dt.timedelta(days=days, minutes=minutes)
            storage.store(batch(clock.epoch(at), (0, 1, 2, 3, 4)), known)


def test_rows_that_are_gone_are_told_until_they_are_back() -> None:
    watch = OptionsWatch()
    assert watch.look() == set() and not Notice.objects.exists()
    rows = list(Quote.objects.filter(ts=NOW))
    Quote.objects.filter(ts=NOW).delete()
    assert watch.look() == {TODAY} == watch.look()
    notice = Notice.objects.get()
    assert (notice.severity, notice.count) == ("critical", 1)
    assert f"{len(rows)} option quotes of 1" in notice.text
    Quote.objects.bulk_create(rows)
    assert OptionsWatch().look() == set()  # also by the monitor that was started since
    assert notices.open_keys("options-lost:") == set()


def test_a_day_before_is_looked_at_too() -> None:
    partitions.drop(TODAY - dt.timedelta(days=1))
    assert OptionsWatch().look() == {TODAY - dt.timedelta(days=1)}


def test_a_database_that_does_not_answer_ends_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    Quote.objects.filter(ts=NOW).delete()
    watch = OptionsWatch()
    watch.look()

    def away(day: dt.date) -> list[tuple[dt.datetime, int]]:
        raise OperationalError("no answer")

    monkeypatch.setattr(gaps, "gone", away)
    assert watch.look() == {TODAY}
    assert notices.open_keys("options-lost:")
