"""A minute's way into the database: any order of late, repeated and missing batches ends alike."""

import datetime as dt
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markets.options import gaps, partitions, storage
from markets.options.minute_batch import BadBatch, Batch
from markets.options.models import ArchivedDay, CollectedMinute, Gap, Instrument, Quote
from markets.options.spool import Spool
from markets.venues.base import VenueInstrument
from tests.markets.options.desk import CALENDAR, MONDAY
from tests.markets.simulator.broker import ist
from tradingsite import clock
from tradingsite.clock import Epoch

pytestmark = pytest.mark.django_db(databases=["options"])
NAMES = tuple(f"NIFTY 2026-06-30 {25_000 + 50 * number} CE" for number in range(5))
OPENS = int(ist("2026-06-01 09:15"))


def described(name: str, lot_size: int = 65) -> VenueInstrument:
    strike = Decimal(name.split()[2])
    numbers = strike, Decimal(lot_size), Decimal("0.05")
    expiry = dt.date(2026, 6, 30)
    return VenueInstrument(name, f"NFO:{strike}", 7, "CE", "NIFTY", expiry, *numbers)


def truth(minute: int, place: int) -> list[int]:
    """Return what the venue shows of an instrument at a minute."""
    seed = minute // 60 * 10 + place
    return [10_000 + seed % 977, 9_990, 10_010, 3_000_000_000 + seed % 91, 650 * place, 1300, 2]


def batch(minute: int, present: tuple[int, ...]) -> Batch:
    """Return a collector's view of a minute: some instruments are there, the others missing."""
    return Batch(
        Epoch(minute),
        tuple(NAMES[place] for place in present),
        np.array([truth(minute, place) for place in present], dtype=np.int64).reshape(-1, 7),
        {NAMES[place]: "no quote: test" for place in range(5) if place not in present},
        {name: described(name) for name in NAMES},
    )


def quotes() -> list[tuple[object, ...]]:
    columns = ("ts", "instrument__name", "ltp", "bid", "ask", "volume", "oi", "iv", "age")
    return list(Quote.objects.order_by("ts", "instrument__name").values_list(*columns))


def open_gaps() -> set[tuple[int, str | None]]:
    found = Gap.objects.filter(filled_at__isnull=True).values_list("ts", "instrument__name")
    return {(clock.epoch(ts), name) for ts, name in found}


MINUTES = st.integers(0, 5)
VIEWS = st.lists(
    st.tuples(MINUTES, st.sets(st.integers(0, 4))).map(lambda each: (each[0], tuple(each[1]))),
    min_size=1,
    max_size=14,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(views=VIEWS, seed=st.integers(0, 1_000))
def test_any_order_of_late_repeated_and_missing_batches_ends_in_the_same_table(
    views: list[tuple[int, tuple[int, ...]]], seed: int
) -> None:
    batches = [
        batch(OPENS + 60 * number, present)
        if present
        else Batch.nothing(Epoch(OPENS + 60 * number), "no answer: test")
        for number, present in views
    ]
    expected = sorted(
        {
            (clock.from_seconds(each.minute), name, *truth(each.minute, NAMES.index(name)))
            for each in batches
            for name in each.names
        }
    )
    seen = {(each.minute, name) for each in batches for name in each.names}
    stored = {minute for minute, _ in seen}
    asked = {(each.minute, name) for each in batches for name in each.missing}
    missing: set[tuple[int, str | None]] = {pair for pair in asked if pair not in seen}
    missing |= {(each.minute, None) for each in batches if each.minute not in stored}
    others = [*batches, *random.Random(seed).choices(batches, k=3)]
    random.Random(seed).shuffle(others)
    for order in (batches, others):
        with transaction.atomic(using="options"):
            known = storage.Known()
            for each in order:
                # By way of its file, as after a crash.
                storage.store(Batch.unpack(each.pack()), known)
            gaps.fill(Epoch(OPENS), Epoch(OPENS + 600))
            assert quotes() == expected
            assert open_gaps() == missing
            counts = dict(CollectedMinute.objects.values_list("ts", "stored"))
            assert sum(counts.values()) == len(expected)
            transaction.set_rollback(True, using="options")


def test_every_column_comes_back_as_it_was_sent() -> None:
    sent = batch(OPENS, (0, 4))
    assert storage.store(sent, storage.Known()) == 2
    first = quotes()[0]
    assert first == (clock.from_seconds(OPENS), NAMES[0], *truth(OPENS, 0))
    assert first[5] > 2**31  # type: ignore[operator]  # an expiry's volume


def test_a_lot_that_changed_overnight_is_the_instruments_own() -> None:
    storage.store(batch(OPENS, (0, 1)), storage.Known())
    before = Instrument.objects.get(name=NAMES[0])
    tomorrow = OPENS + 86_400
    changed = Batch(
        Epoch(tomorrow),
        NAMES[:1],
        np.array([truth(tomorrow, 0)], dtype=np.int64),
        {},
        {NAMES[0]: described(NAMES[0], lot_size=75)},
    )
    storage.store(changed, storage.Known())
    after = Instrument.objects.get(name=NAMES[0])
    assert (before.lot_size, after.lot_size, before.id) == (65, 75, after.id)
    assert Quote.objects.filter(instrument_id=after.id).count() == 2  # in units, so one series
    assert Instrument.objects.get(name=NAMES[1]).lot_size == 65


def test_quotes_whose_minute_was_lost_are_met() -> None:
    storage.store(batch(OPENS, (0, 1)), storage.Known())
    CollectedMinute.objects.all().delete()
    assert storage.store(batch(OPENS, (0, 1, 2)), storage.Known()) == 1
    assert CollectedMinute.objects.get().stored == 1
    assert len(quotes()) == 3


def test_a_minute_of_an_unknown_instrument_stores_nothing() -> None:
    lost = Batch(Epoch(OPENS), ("NIFTY 1 CE",), np.array([truth(OPENS, 0)], dtype=np.int64), {}, {})
    with pytest.raises(LookupError, match="nothing is known of NIFTY 1 CE"):
        storage.store(lost, storage.Known())
    assert not Quote.objects.exists()


def test_a_late_minute_of_a_dropped_day_is_refused() -> None:
    now = clock.real()
    ArchivedDay.objects.create(
        date=MONDAY, rows=1, bytes=1, path="/there", verified_at=now, dropped_at=now
    )
    with pytest.raises(partitions.DayDropped, match="options import"):
        storage.store(batch(OPENS, (0,)), storage.Known())


def test_half_a_file_is_no_minute() -> None:
    packed = batch(OPENS, (0, 1)).pack()
    for broken in (packed[:-20], b"", b"{}", packed.replace(b'"version":1', b'"version":9')):
        with pytest.raises(BadBatch):
            Batch.unpack(broken)


def test_the_spool_puts_aside_what_it_cannot_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(batch(OPENS, (0,)))
    whole = spool.put(batch(OPENS + 60, (1,)))
    spool.waiting()[0].write_bytes(b"half")
    assert [path for path, _ in spool.batches()] == [whole]
    assert len(list(tmp_path.glob("*.bad"))) == 1
    assert spool.minutes() == {OPENS + 60}


# --- Minutes that nobody stored -------------------------------------------------------------------


def test_minutes_without_a_collector_are_gaps_until_they_come() -> None:
    session = CALENDAR.session_on(MONDAY)
    assert session
    known = storage.Known()
    for number in (0, 1, 5):
        storage.store(batch(OPENS + 60 * number, (0, 1, 2, 3, 4)), known)
    assert gaps.note(session, Epoch(OPENS + 6 * 60), waiting=[OPENS + 4 * 60]) == 3
    assert gaps.note(session, Epoch(OPENS + 6 * 60), waiting=[OPENS + 4 * 60]) == 0
    assert open_gaps() == {(OPENS + 60 * number, None) for number in (2, 3, 6)}
    storage.store(batch(OPENS + 3 * 60, (0, 1, 2, 3, 4)), known)
    gaps.fill(Epoch(OPENS), Epoch(OPENS + 600))
    assert open_gaps() == {(OPENS + 60 * number, None) for number in (2, 6)}
    first, last = gaps.of_day(MONDAY)
    assert (first.minutes, first.instruments, first.filled) == (2, 0, 1)
    assert (last.minutes, last.first, last.filled) == (1, clock.from_seconds(OPENS + 360), 0)
    assert first.reason == last.reason == gaps.NOBODY


def test_a_day_without_any_collector_is_found_the_next_morning() -> None:
    assert gaps.note_past(CALENDAR, Epoch(OPENS + 2 * 86_400)) == 0  # nothing was ever collected
    storage.store(batch(OPENS, (0, 1, 2, 3, 4)), storage.Known())
    now = OPENS + 2 * 86_400 - 3_600
    assert gaps.note_past(CALENDAR, Epoch(now)) == 375 + 376
    assert gaps.note_past(CALENDAR, Epoch(now)) == 0
