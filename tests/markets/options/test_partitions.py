"""The days of the quotes' table."""

import datetime as dt
import threading

import pytest
from django.db import IntegrityError, connections, transaction

from markets.options import partitions
from markets.options.models import ArchivedDay, Quote
from tradingsite import clock
from tradingsite.clock import IST

pytestmark = pytest.mark.django_db(databases=["options"])
MONDAY = dt.date(2026, 6, 1)


def test_a_week_is_made_ahead_once() -> None:
    made = partitions.ensure_ahead(MONDAY)
    assert made == [MONDAY + dt.timedelta(days=number) for number in range(8)]
    assert partitions.existing() == made
    assert partitions.ensure_ahead(MONDAY) == []
    assert partitions.ensure_ahead(MONDAY + dt.timedelta(days=1)) == [dt.date(2026, 6, 9)]


def test_a_day_goes_from_midnight_to_midnight_in_india() -> None:
    partitions.ensure(MONDAY, 2)
    for at, day in (
        ("2026-06-01 00:00:00", "20260601"),
        ("2026-06-01 23:59:59", "20260601"),
        ("2026-06-02 00:00:00", "20260602"),
    ):
        ts = dt.datetime.fromisoformat(at).replace(tzinfo=IST)
        put(1, ts)
        with connections["options"].cursor() as cursor:
            cursor.execute("SELECT tableoid::regclass::text FROM options_quote WHERE ts = %s", [ts])
            assert cursor.fetchall() == [(f"options_quote_{day}",)]
    start, end = partitions.bounds(MONDAY)
    assert Quote.objects.filter(ts__gte=start, ts__lt=end).count() == 2


def test_a_day_is_found_without_reading_the_others() -> None:
    partitions.ensure(MONDAY, 8)
    start, end = partitions.bounds(MONDAY)
    plan = Quote.objects.filter(instrument_id=1, ts__gte=start, ts__lt=end).explain()
    assert "20260601" in plan and "20260602" not in plan


def key_of(day: dt.date) -> str:
    with connections["options"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = %s::regclass AND contype = 'p'",
            [partitions.name_of(day)],
        )
        [(key,)] = cursor.fetchall()
    return str(key)


def test_a_closed_day_has_its_key_turned_round() -> None:
    partitions.ensure(MONDAY)
    start, _ = partitions.bounds(MONDAY)
    put(1, start)
    assert "PRIMARY KEY (ts, instrument_id)" in key_of(MONDAY)
    for _ in range(2):
        partitions.close(MONDAY)
        assert "PRIMARY KEY (instrument_id, ts)" in key_of(MONDAY)
        with pytest.raises(IntegrityError), transaction.atomic(using="options"):
            put(1, start)
    put(2, start)
    partitions.ensure(MONDAY)
    assert Quote.objects.count() == 2


def test_a_dropped_day_stays_dropped() -> None:
    partitions.ensure(MONDAY)
    put(1, partitions.bounds(MONDAY)[0])
    partitions.drop(MONDAY)
    partitions.drop(MONDAY)
    assert partitions.existing() == []
    assert Quote.objects.count() == 0
    now = clock.real()
    ArchivedDay.objects.create(
        date=MONDAY, rows=1, bytes=1, path="/somewhere", verified_at=now, dropped_at=now
    )
    with pytest.raises(partitions.DayDropped, match="/somewhere"):
        partitions.ensure(MONDAY)


@pytest.mark.django_db(databases=["options"], transaction=True)
def test_two_may_make_the_same_day_at_once() -> None:
    errors: list[Exception] = []

    def make() -> None:
        try:
            partitions.ensure(MONDAY, 3)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test names it
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(partitions.existing()) == 3
    for day in partitions.existing():
        partitions.drop(day)


def put(instrument: int, ts: dt.datetime) -> None:
    Quote.objects.create(
        instrument_id=instrument, ts=ts, ltp=100, bid=95, ask=105, volume=0, oi=0, iv=1300, age=0
    )
