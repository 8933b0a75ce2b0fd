"""The outbox of notices."""

import datetime as dt

import pytest

from tradingsite import clock, notices
from tradingsite.models import Notice

pytestmark = pytest.mark.django_db


def test_the_same_trouble_counts_up_in_one_row() -> None:
    notices.notify("infrastructure", "warning", "disk", "85 %")
    notices.notify("infrastructure", "critical", "disk", "91 %")
    row = Notice.objects.get()
    assert (row.count, row.severity, row.text) == (2, "critical", "91 %")
    assert row.last_at >= row.created_at


def test_other_keys_are_other_rows() -> None:
    notices.notify("trading", "info", "order:1", "bought")
    notices.notify("trading", "info", "order:2", "sold")
    assert Notice.objects.count() == 2


def test_what_is_over_starts_anew() -> None:
    notices.notify("infrastructure", "warning", "disk", "first")
    notices.resolve("disk")
    assert Notice.objects.get().resolved_at is not None
    notices.notify("infrastructure", "warning", "disk", "second")
    assert list(Notice.objects.order_by("id").values_list("count", flat=True)) == [1, 1]


def test_after_some_hours_it_is_said_again() -> None:
    notices.notify("infrastructure", "warning", "disk", "first")
    old = clock.real() - dt.timedelta(hours=notices.REPEAT_HOURS, minutes=1)
    Notice.objects.update(created_at=old)
    notices.notify("infrastructure", "warning", "disk", "again")
    assert Notice.objects.count() == 2


def test_an_unknown_channel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="trading, infrastructure, options, brief"):
        notices.notify("telegram", "info", "x", "y")
    assert len(notices.CHANNELS) == 4
