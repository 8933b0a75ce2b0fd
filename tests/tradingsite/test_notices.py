"""The outbox of notices."""

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

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
    again, first = Notice.objects.order_by("-id")
    assert (again.text, again.count, again.resolved_at) == ("again", 1, None)
    assert first.resolved_at is not None
    assert notices.open_keys("di") == {"disk"} and notices.open_keys("x") == set()


def test_an_unknown_channel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="trading, infrastructure, options, brief"):
        notices.notify("telegram", "info", "x", "y")
    assert len(notices.CHANNELS) == 4


@pytest.mark.django_db(transaction=True)
def test_many_writers_at_once_make_one_row() -> None:
    together = threading.Barrier(8)

    def tell(number: int) -> None:
        together.wait()
        try:
            notices.notify("infrastructure", "critical", "disk", f"{number}")
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))
    assert list(Notice.objects.values_list("count", flat=True)) == [8]


def test_the_database_takes_no_second_open_row_of_a_key() -> None:
    notices.notify("infrastructure", "warning", "disk", "first")
    row = Notice.objects.get()
    row.pk = None
    with pytest.raises(IntegrityError, match="one_open_notice"), transaction.atomic():
        row.save(force_insert=True)


def test_doubles_of_before_are_ended_by_the_migration() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate([("tradingsite", "0002_code_of_services")])
    now = clock.real()
    for minutes, key in ((30, "disk"), (10, "disk"), (20, "disk"), (5, "queue")):
        at = now - dt.timedelta(minutes=minutes)
        times = {"created_at": at, "last_at": at, "market_at": at}
        Notice.objects.create(channel="trading", severity="info", key=key, text="x", **times)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("tradingsite"))
    still_open = Notice.objects.filter(resolved_at__isnull=True)
    ages = {row.key: round((now - row.last_at).total_seconds() / 60) for row in still_open}
    assert ages == {"disk": 10, "queue": 5}
    assert Notice.objects.count() == 4
