"""Reads in any order end in the same rows: bars, features and gaps."""

import dataclasses
import datetime as dt
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markets import store
from markets.capture.bars import gaps as bar_gaps
from markets.capture.bars import storage as bar_storage
from markets.domain.bars import Bars
from markets.models import Bar, BarGap, Feature, Source
from markets.store import WrongSource
from tests.histories import hours, joined
from tradingsite import clock
from tradingsite.clock import Epoch

pytestmark = pytest.mark.django_db(databases=["default", "btc"])

# A quarter of the year begins after enough bars for its features, and a few days of it follow.
COUNT = 1_120
APRIL = int(dt.datetime(2026, 4, 1, tzinfo=dt.UTC).timestamp())
FIRST = APRIL - 1_060 * 3_600
NEW = 40


@pytest.fixture(scope="module")
def hourly() -> Bars:
    first = FIRST - FIRST % 14_400
    return hours(COUNT, first=first)


def part(bars: Bars, rows: Sequence[int]) -> Bars:
    chosen = np.array(sorted(set(rows)), dtype=np.int64)
    return Bars(*(getattr(bars, each.name)[chosen] for each in dataclasses.fields(Bars)))


def rows_of(model: type) -> list[tuple[Any, ...]]:
    fields = [field.name for field in model._meta.fields if field.name != "id"]  # type: ignore[attr-defined]
    found = model.on("btc").objects.order_by("timeframe", "opens_at")  # type: ignore[attr-defined]
    return list(found.values_list(*fields))


def history(hourly: Bars) -> None:
    """Store all but the newest bars, with features."""
    whole = {"1h": hourly.slice(0, COUNT - NEW), "4h": joined(hourly).slice(0, (COUNT - NEW) // 4)}
    bar_storage.upsert("btc", whole, Source.VENUE)


def everything(hourly: Bars) -> dict[str, Bars]:
    return {"1h": hourly, "4h": joined(hourly)}


def wanted(hourly: Bars) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of bars and features that one read of everything makes."""
    for model in (Bar, Feature):
        model.on("btc").objects.all().delete()
    if not KNOWN:
        bar_storage.upsert("btc", everything(hourly), Source.VENUE, with_features=False)
        for timeframe in ("4h", "1h"):
            store.rebuild_features("btc", timeframe)
        KNOWN.append((rows_of(Bar), rows_of(Feature)))
        for model in (Bar, Feature):
            model.on("btc").objects.all().delete()
    return KNOWN[0]


KNOWN: list[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]] = []


batches = st.lists(
    st.tuples(
        st.sampled_from(["1h", "4h"]),
        st.lists(st.integers(0, NEW - 1), min_size=1, max_size=12),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches)
def test_any_order_of_late_repeated_and_missing_reads_ends_in_the_same_rows(
    hourly: Bars, reads: list[tuple[str, list[int], bool]]
) -> None:
    bars, features = wanted(hourly)
    assert len(features) > 50
    BarGap.on("btc").objects.all().delete()
    history(hourly)
    bar_gaps.record("btc", "1h", hourly.opens_at[-NEW:], "nothing yet")
    whole = everything(hourly)
    for timeframe, places, is_early in reads:
        new = NEW if timeframe == "1h" else NEW // 4
        read = part(whole[timeframe], [len(whole[timeframe]) - 1 - each % new for each in places])
        if is_early:  # as the venue had it before it corrected itself
            read = dataclasses.replace(read, close=read.low.copy())
        bar_storage.upsert("btc", {timeframe: read}, Source.VENUE)
    bar_storage.upsert("btc", whole, Source.VENUE)
    assert rows_of(Bar) == bars
    assert rows_of(Feature) == features
    assert not BarGap.on("btc").objects.filter(filled_at=None).exists()


def test_what_is_there_is_neither_written_nor_counted_again(hourly: Bars) -> None:
    whole = everything(hourly)
    assert bar_storage.upsert("btc", whole, Source.VENUE).new == COUNT + COUNT // 4
    before = rows_of(Bar)
    assert bar_storage.upsert("btc", whole, Source.VENUE) == bar_storage.UpsertCounts()
    assert rows_of(Bar) == before


def test_bars_of_another_source_are_never_written_over(hourly: Bars) -> None:
    store.save_bars("btc", "1h", hourly.slice(0, 10), Source.GENERATED)
    with pytest.raises(WrongSource):
        bar_storage.upsert("btc", {"1h": hourly}, Source.VENUE)
    assert Bar.on("btc").objects.count() == 10


def test_without_correcting_only_what_is_missing_is_written(hourly: Bars) -> None:
    store.save_bars("btc", "1h", hourly.slice(0, 5), Source.GENERATED)
    other = dataclasses.replace(hourly.slice(0, 8), volume=np.ones(8))
    counts = bar_storage.upsert("btc", {"1h": other}, Source.GENERATED, corrects=False)
    assert (counts.new, counts.corrected) == (3, 0)
    assert store.load_bars("btc", "1h").volume.tolist() == [
        *hourly.volume[:5].tolist(),
        *[1.0] * 3,
    ]


def test_nothing_is_expected_before_the_first_bar(hourly: Bars) -> None:
    store.save_bars("btc", "1h", part(hourly, [10, 11, 14]), Source.VENUE)
    start, end = int(hourly.opens_at[0]), int(hourly.closes_at[16])
    opens, absent, closes = bar_gaps.missing("btc", "1h", Epoch(start), Epoch(end))
    assert opens.tolist() == hourly.opens_at[10:17].tolist()
    assert absent.tolist() == hourly.opens_at[[12, 13, 15, 16]].tolist()
    assert closes.tolist() == hourly.closes_at[[12, 13, 15, 16]].tolist()
    assert bar_gaps.record("btc", "1h", absent, "x" * 300) == 4
    assert bar_gaps.record("btc", "1h", absent, "again") == 0
    assert {len(row.reason) for row in BarGap.on("btc").objects.all()} == {200}
    bar_storage.upsert("btc", {"1h": part(hourly, [12])}, Source.VENUE)
    row = BarGap.on("btc").objects.get(opens_at=clock.from_seconds(int(hourly.opens_at[12])))
    assert row.filled_at is not None
    assert BarGap.on("btc").objects.filter(filled_at=None).count() == 3


@pytest.mark.django_db(databases=["default", "btc"], transaction=True)
def test_two_collectors_at_once_end_in_the_rows_of_one(hourly: Bars) -> None:
    whole = everything(hourly)
    errors: list[Exception] = []

    def collect() -> None:
        try:
            for stop in range(COUNT - 8, COUNT + 1, 2):
                read = {"1h": whole["1h"].slice(0, stop), "4h": whole["4h"]}
                bar_storage.upsert("btc", read, Source.VENUE)
        except Exception as error:  # noqa: BLE001 - told by the assertion below
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = rows_of(Bar), rows_of(Feature)
    assert len(found[0]) == COUNT + COUNT // 4
    assert found == wanted(hourly)
