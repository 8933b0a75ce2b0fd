"""Rows to arrays and back, on real PostgreSQL."""

import dataclasses
import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
from django.db import transaction

from markets import store
from markets.capture import exogenous as exogenous_capture
from markets.domain.bars import Bars
from markets.domain.features import schema_for
from markets.models import Bar, Feature, Quote, Source, TradingDay
from tests import histories
from tradingsite import clock
from tradingsite.clock import Epoch
from tradingsite.registry import BOTS, SLOTS

pytestmark = pytest.mark.django_db(databases=["default", "nifty", "btc"])

QUARTER = int(dt.datetime(2025, 4, 1, tzinfo=dt.UTC).timestamp())


def same(left: Bars, right: Bars) -> bool:
    """Return whether two histories are equal to the last bit."""
    return all(
        np.array_equal(getattr(left, field.name), getattr(right, field.name))
        for field in dataclasses.fields(Bars)
    )


def test_bars_come_back_as_they_were() -> None:
    bars = histories.four_hours(300)
    assert store.save_bars("btc", "4h", bars, Source.IMPORTED) == 300
    assert same(store.load_bars("btc", "4h"), bars)
    assert len(store.load_bars("btc", "1h")) == 0
    assert len(store.load_bars("nifty", "1h")) == 0


def test_a_span_holds_the_bars_that_close_after_its_start_and_by_its_end() -> None:
    bars = histories.four_hours(20)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    start, end = int(bars.closes_at[4]), int(bars.closes_at[9])
    assert same(store.load_bars("btc", "4h", Epoch(start), Epoch(end)), bars.slice(5, 10))
    assert same(store.load_bars("btc", "4h", end=Epoch(start - 1)), bars.slice(0, 4))


def test_writing_bars_again_changes_nothing() -> None:
    bars = histories.four_hours(50)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    assert store.save_bars("btc", "4h", bars, Source.IMPORTED) == 0
    assert same(store.load_bars("btc", "4h"), bars)


def test_a_corrected_bar_replaces_the_one_of_its_open() -> None:
    bars = histories.four_hours(50)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    close = bars.close.copy()
    close[7] = bars.low[7]
    corrected = dataclasses.replace(bars, close=close)
    assert store.save_bars("btc", "4h", corrected, Source.IMPORTED) == 1
    assert same(store.load_bars("btc", "4h"), corrected)


def test_two_timeframes_are_written_in_one_transaction() -> None:
    bars = histories.hours(40)
    with transaction.atomic(using="btc"):
        store.save_bars("btc", "1h", bars, Source.IMPORTED)
        store.save_bars("btc", "4h", histories.joined(bars), Source.IMPORTED)
    assert len(store.load_bars("btc", "1h")) == 40
    assert len(store.load_bars("btc", "4h")) == 10


def test_progress_ends_at_the_number_of_bars() -> None:
    told: list[int] = []
    store.save_bars("btc", "1h", histories.hours(2_500), Source.IMPORTED, told.append)
    assert told == [2_000, 2_500]


def test_features_appended_bar_by_bar_are_those_of_a_rebuild_to_the_last_bit() -> None:
    # The increments cross into a new quarter, where the indicators start anew.
    own = histories.hours(24 * 134)
    context = histories.joined(own)
    first = int(np.searchsorted(own.closes_at, QUARTER - 6 * 3_600, side="right"))
    known = int(own.closes_at[first - 1])
    store.save_bars("btc", "1h", own.before(known), Source.IMPORTED)
    store.save_bars("btc", "4h", context.before(known), Source.IMPORTED)
    assert store.append_features("btc", "1h") > 0
    for row in range(first, first + 14):
        closes_at = int(own.closes_at[row])
        store.save_bars("btc", "1h", own.slice(row, row + 1), Source.IMPORTED)
        done = int(np.searchsorted(context.closes_at, closes_at))
        if done < len(context) and context.closes_at[done] == closes_at:
            store.save_bars("btc", "4h", context.slice(done, done + 1), Source.IMPORTED)
        assert store.append_features("btc", "1h") == 1
    appended = store.load_features("btc", "1h")
    assert store.append_features("btc", "1h") == 0
    assert store.rebuild_features("btc", "1h") == len(appended)
    rebuilt = store.load_features("btc", "1h")
    assert appended.closes_at[-1] == own.closes_at[first + 13] > QUARTER
    assert np.array_equal(appended.opens_at, rebuilt.opens_at)
    assert appended.values.tobytes() == rebuilt.values.tobytes()


def test_a_row_waits_for_its_context_and_comes_with_the_next_append() -> None:
    own = histories.hours(24 * 134)
    context = histories.joined(own)
    store.save_bars("btc", "1h", own, Source.IMPORTED)
    store.save_bars("btc", "4h", context.slice(0, len(context) - 1), Source.IMPORTED)
    store.append_features("btc", "1h")
    assert store.load_features("btc", "1h").closes_at[-1] == own.closes_at[-2]
    store.save_bars("btc", "4h", context.slice(len(context) - 1), Source.IMPORTED)
    assert store.append_features("btc", "1h") == 1
    assert store.load_features("btc", "1h").closes_at[-1] == own.closes_at[-1]


def test_features_of_another_schema_are_not_read_and_give_way_to_a_rebuild() -> None:
    store.save_bars("btc", "4h", histories.four_hours(600), Source.IMPORTED)
    rows = store.rebuild_features("btc", "4h")
    Feature.on("btc").objects.update(schema="0" * 64)
    assert len(store.load_features("btc", "4h")) == 0
    assert store.append_features("btc", "4h") == rows
    assert set(Feature.on("btc").objects.values_list("schema", flat=True)) == {
        schema_for("btc", "4h").hash
    }


@pytest.mark.parametrize("found", [Source.GENERATED, Source.IMPORTED])
def test_a_market_never_mixes_sources(found: Source) -> None:
    bars = histories.four_hours(30)
    store.save_bars("btc", "4h", bars.slice(0, 10), found)
    with pytest.raises(store.WrongSource, match=f"btc holds {found} bars"):
        # Of another timeframe too: the models of one read the other.
        store.save_bars("btc", "1h", histories.hours(5), Source.VENUE)
    assert store.sources("btc") == {found}
    assert Bar.on("btc").objects.count() == 10


def test_the_calendar_is_the_one_that_people_edit() -> None:
    histories.seed_days()
    day = dt.date(2026, 6, 3)
    assert store.load_calendar("nifty").session_on(day) is not None
    TradingDay.on("nifty").objects.filter(date=day).update(
        kind="holiday", opens_at=None, closes_at=None
    )
    assert store.load_calendar("nifty").session_on(day) is None
    assert store.load_calendar("btc").session_on(day) is not None


def test_the_panel_carries_the_bots_slippage() -> None:
    panel = store.load_price_panel(
        SLOTS["btc-4h"], histories.four_hours(5), store.load_calendar("btc")
    )
    assert len(panel) == 5
    assert panel.slippage == pytest.approx(BOTS["btc"].slippage_bps / 10_000)
    # Nothing is stored of funding, and holding is not free for that.
    assert panel.funding_rate == pytest.approx([0.0001 / 2] * 5)


def test_the_panel_carries_the_funding_of_each_bar_its_close_included() -> None:
    bars = histories.four_hours(13)
    paid = histories.put_funding(bars)
    panel = store.load_price_panel(SLOTS["btc-4h"], bars, store.load_calendar("btc"))
    assert np.flatnonzero(panel.funding_rate).tolist() == [0, 1, 3, 5, 7, 9, 11]
    assert panel.funding_rate[3::2] == pytest.approx(paid.value[1:])
    # Before the first payment that is known, the rate of interest is.
    assert panel.funding_rate[:2] == pytest.approx([0.00005, 0.00005 + paid.value[0]])
    # A bar that is missing leaves its payments to the next, so that none is lost.
    kept = Bars(*(np.delete(getattr(bars, each.name), 5) for each in dataclasses.fields(Bars)))
    short = store.load_price_panel(SLOTS["btc-4h"], kept, store.load_calendar("btc"))
    assert short.funding_rate[5] == pytest.approx(paid.value[2])
    assert short.funding_rate.sum() == pytest.approx(paid.value.sum() + 0.0001)


def test_a_reading_that_is_no_number_counts_as_none() -> None:
    bars = histories.four_hours(13)
    paid = histories.put_funding(bars)
    exogenous_capture.upsert(
        exogenous_capture.FUNDING, [(int(paid.at[2]), Decimal("NaN"))], Source.VENUE
    )
    found = store.load_readings("btc", "FUNDING")
    assert found.at.tolist() == np.delete(paid.at, 2).tolist()
    assert len(store.load_readings("btc", "FUNDING", Epoch(paid.at[3]))) == len(paid) - 4


def test_what_comes_late_is_computed_into_the_rows_that_would_have_known() -> None:
    bars = histories.four_hours(700)
    store.save_bars("btc", "4h", bars, Source.IMPORTED)
    store.rebuild_features("btc", "4h")
    without = store.load_features("btc", "4h").values
    histories.put_funding(bars)
    late = store.load_features("btc", "4h").values
    store.rebuild_features("btc", "4h")
    assert np.array_equal(store.load_features("btc", "4h").values, late)
    assert not np.array_equal(without, late)
    # The last payment is of the last close, which no stored row knows of.
    assert store.recompute_features_after("btc", Epoch(bars.closes_at[-1])) == 0
    assert store.recompute_features_after("btc", Epoch(int(bars.closes_at[-1]) - 4 * 3_600)) == 1


def test_the_last_quote_is_the_one_of_the_markets_own_instrument() -> None:
    assert store.last_quote("btc") is None
    at = clock.from_seconds(1_780_000_060)
    for instrument, price in (("BTC-OTHER", 1), ("BTC-PERP", 60_001.5)):
        Quote.on("btc").objects.create(instrument=instrument, price=price, at=at)
    quote = store.last_quote("btc")
    assert quote is not None and float(quote.price) == 60_001.5
    assert quote.at == at
