"""How events are stored: late, repeated and in any order, they end in the same table."""

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import OperationalError, connections

from markets.straddle import storage
from markets.straddle.models import Gap, Series, Tick
from markets.straddle.roller import Began, Ended, Event, Missed, Row
from markets.straddle.storage import Buffer, Writer
from tests.markets.straddle.chains import TEN, key, row
from tests.waiting import wait_for

SECOND = dt.timedelta(seconds=1)
pytestmark = pytest.mark.django_db(databases=["straddle"])


def stored() -> list[tuple[object, ...]]:
    """Return the table, in its order."""
    columns = ("series__strike", "series__width", "ts", "number", "call", "put", "premium")
    return list(Tick.objects.order_by("series__since", "ts", "number").values_list(*columns))


def a_session() -> list[list[Event]]:
    """Return the batches of a short session that re-centres once."""
    first, second = key(), key(25_050, since=TEN + 20 * SECOND)
    return [
        [Began(first), *(row(number, number // 3) for number in range(30))],
        [*(row(number, 10 + number) for number in range(10)), Ended(first, TEN + 20 * SECOND, "x")],
        [Began(second), *(row(number, 21, second) for number in range(5))],
        [Missed(TEN + 22 * SECOND, TEN + 30 * SECOND, None, "no ticks came")],
        [Ended(second, TEN + 31 * SECOND, "stopped")],
    ]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_repeated_batches_ends_in_the_same_table(seed: int) -> None:
    batches = a_session()
    expected = [
        (each.series.strike, 0, each.ts, each.number, each.call, each.put, each.call + each.put)
        for batch in batches
        for each in batch
        if isinstance(each, Row)
    ]
    chance = random.Random(seed)
    repeated = [*batches, *chance.sample(batches, 3)]
    chance.shuffle(repeated)
    for batch in repeated:
        # A new writer knows none of the numbers that the one before it found.
        Writer(Buffer()).save(batch)
    assert stored() == sorted(expected)
    assert Series.objects.filter(until__isnull=True).count() == 0
    assert list(Gap.objects.values_list("rows", "reason")) == [(None, "no ticks came")]
    assert storage.open_series() == []


def test_open_series_are_found_with_their_last_place() -> None:
    assert storage.newest_tick() is None
    Writer(Buffer()).save([Began(key(width=2)), Began(key()), row(0, 7), row(1, 7)])
    found = {each.series: (each.ts, each.number) for each in storage.open_series()}
    assert found == {key(): (TEN + 7 * SECOND, 1), key(width=2): (TEN, -1)}
    assert storage.newest_tick() == TEN + 7 * SECOND


def test_a_buffer_without_room_loses_rows_only_and_says_which() -> None:
    buffer = Buffer(most_rows=3)
    buffer.put([Began(key()), row(0, 0), row(0, 1), row(0, 2), row(0, 3)])
    buffer.put([Ended(key(), TEN, "stopped")])
    assert (len(buffer), buffer.lost) == (4, 2)
    held = buffer.peek(2)
    buffer.drop(2)
    assert held == [Began(key()), row(0, 0)]
    reason = "PostgreSQL was away for longer than memory lasts"
    assert buffer.peek() == [
        row(0, 1),
        Ended(key(), TEN, "stopped"),
        Missed(TEN + 2 * SECOND, TEN + 3 * SECOND, 2, reason),
    ]
    buffer.drop(1)
    buffer.put([row(0, 4)])
    assert (len(buffer), buffer.lost) == (3, 2)


def test_memory_lasts_for_minutes_of_the_default_series() -> None:
    rows_a_second = 9 * 5  # three underlyings, three widths, five messages
    assert storage.MOST_WAITING / rows_a_second > 10 * 60


@pytest.fixture
def writer() -> Iterator[Callable[[Buffer], Writer]]:
    """Return a function that starts a writer; it ends with the test."""
    started: list[Writer] = []

    def start(buffer: Buffer) -> Writer:
        started.append(Writer(buffer).start())
        return started[-1]

    yield start
    for each in started:
        each.finish(5.0)


@pytest.mark.django_db(databases=["straddle"], transaction=True)
def test_an_outage_of_a_minute_loses_nothing(
    writer: Callable[[Buffer], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, attempts = Writer.save, []
    monkeypatch.setattr(storage, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(storage, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.01)

    def unsure(self: Writer, events: list[Event]) -> int:
        attempts.append(len(events))
        if len(attempts) == 2:
            save(self, events)  # it arrived, and nobody said so
        if len(attempts) in range(2, 12):
            raise OperationalError("server closed the connection unexpectedly")
        return save(self, events)

    monkeypatch.setattr(Writer, "save", unsure)
    buffer = Buffer()
    found = writer(buffer)
    buffer.put([Began(key()), row(0, 0)])
    assert wait_for(lambda: found.stored == 1)
    for second in range(1, 61):
        buffer.put([row(number, second) for number in range(40)])
    assert wait_for(lambda: found.trouble != "")
    assert wait_for(lambda: len(buffer) == 0)
    assert Tick.objects.count() == 2_401
    assert found.trouble == ""


@pytest.mark.django_db(databases=["straddle"], transaction=True)
def test_what_is_left_is_stored_at_the_end_or_counted(
    writer: Callable[[Buffer], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = Buffer()
    found = writer(buffer)
    buffer.put([Began(key()), row(0, 0), row(0, 1)])
    assert found.finish(5.0) == 0
    assert Tick.objects.count() == 2

    def away(self: Writer, events: list[Event]) -> int:
        raise OperationalError("away")

    monkeypatch.setattr(Writer, "save", away)
    buffer = Buffer()
    buffer.put([row(0, 2)])
    began = time.monotonic()
    assert writer(buffer).finish(0.5) == 1
    assert time.monotonic() - began < 1.0
    monkeypatch.undo()
    connections["straddle"].close()


def test_a_gap_that_grows_is_one_row() -> None:
    began = TEN + SECOND
    for seconds in (30, 90, 60):
        Writer(Buffer()).save([Missed(began, began + seconds * SECOND, None, "no ticks of a leg")])
    row = Gap.objects.get()
    assert (row.began_at, row.ended_at) == (began, began + 90 * SECOND)
