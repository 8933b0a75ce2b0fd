import dataclasses
import datetime
from collections.abc import Mapping

import numpy as np
import pytest

from markets.domain import features, timeframes
from markets.domain.bars import Bars
from markets.domain.calendar import Calendar, CryptoCalendar, NseCalendar, nse_sessions
from markets.domain.exogenous import HISTORY_SECONDS, Readings
from markets.simulator.price_path import PricePath
from tests.exogenous import all_series, since, until
from tradingsite.clock import Epoch
from tradingsite.registry import CONTEXTS

NSE = NseCalendar(nse_sessions())
CALENDARS: dict[str, Calendar] = {"nifty": NSE, "btc": CryptoCalendar()}
Slot = tuple[str, str]
SlotBars = dict[str, Bars]


def instant(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime.datetime(year, month, day, hour, minute, tzinfo=datetime.UTC).timestamp())


END = instant(2026, 9, 10)
START = {"15m": instant(2025, 10, 1), "1h": instant(2025, 5, 20), "4h": instant(2025, 4, 1)}


READINGS = {market: all_series(market, 0, END) for market in CALENDARS}


@pytest.fixture(scope="module")
def paths() -> dict[str, PricePath]:
    return {market: PricePath.build(market, calendar) for market, calendar in CALENDARS.items()}


@pytest.fixture(scope="module")
def history(paths: Mapping[str, PricePath]) -> dict[Slot, SlotBars]:
    """Return each slot's own bars and those of its contexts, up to a day in the present."""
    return {
        (market, timeframe): {
            name: paths[market].bars(name, Epoch(START.get(name, 0)), Epoch(END))
            for name in (timeframe, *CONTEXTS[market, timeframe])
        }
        for market, timeframe in CONTEXTS
    }


def compute(
    slot: Slot,
    bars: Mapping[str, Bars],
    since: Epoch | None = None,
    readings: Mapping[str, Readings] | None = None,
) -> features.Features:
    market = slot[0]
    known = READINGS[market] if readings is None else readings
    return features.compute(*slot, bars, known, CALENDARS[market], since)


def test_schemas_name_own_and_context_columns() -> None:
    schema = features.schema_for("nifty", "15m")
    assert len(schema.names) == len(set(schema.names)) == 17 + 3 + 2 * 7
    assert {"rsi", "gap", "1h_rsi", "1d_rsi"} <= set(schema.names)
    assert len(features.schema_for("nifty", "1d").names) == 17 + 3
    assert "gap" not in features.schema_for("btc", "4h").names
    assert not any("volume" in name for name in schema.names)


def test_schema_hash_follows_every_field() -> None:
    schema = features.schema_for("btc", "1h")
    assert len(schema.hash) == 64
    assert schema.hash == features.schema_for("btc", "1h").hash
    others = [features.schema_for(*slot).hash for slot in CONTEXTS]
    others += [dataclasses.replace(schema, names=schema.names[::-1]).hash]
    others += [dataclasses.replace(schema, version=99).hash]
    assert len(set(others)) == len(CONTEXTS) + 2


def test_unknown_slot_and_missing_context_are_named(history: Mapping[Slot, SlotBars]) -> None:
    with pytest.raises(ValueError, match="btc 1d; there are some for: nifty 15m, nifty 1h"):
        features.schema_for("btc", "1d")
    own = {"15m": history["nifty", "15m"]["15m"]}
    with pytest.raises(ValueError, match="need bars of 1h, 1d too"):
        compute(("nifty", "15m"), own)


@pytest.mark.parametrize("slot", CONTEXTS)
def test_rows_are_finite_within_range_and_vary(
    slot: Slot, history: Mapping[Slot, SlotBars]
) -> None:
    rows = compute(slot, history[slot])
    own = history[slot][slot[1]]
    assert rows.values.dtype == np.float32
    assert rows.values.shape == (len(rows), len(rows.schema.names))
    assert np.isfinite(rows.values).all()
    for column, name in enumerate(rows.schema.names):
        low, high = features.RANGES[name.split("_", 1)[1] if name[0].isdigit() else name]
        values = rows.values[:, column]
        assert low <= values.min() < values.max() <= high, name
        if "clock" not in name:
            assert np.mean((values == low) | (values == high)) < 0.2, name
    last = len(own) - len(rows)
    np.testing.assert_array_equal(rows.opens_at, own.opens_at[last:])
    np.testing.assert_array_equal(rows.closes_at, own.closes_at[last:])


@pytest.mark.parametrize("slot", CONTEXTS)
def test_increments_equal_the_rebuild_to_the_last_bit(
    slot: Slot, history: Mapping[Slot, SlotBars]
) -> None:
    bulk = compute(slot, history[slot])
    quarter = int(np.searchsorted(bulk.opens_at, instant(2026, 7, 1)))
    rows = {len(bulk) - 1, len(bulk) - 40, quarter - 1, quarter, quarter + 1, len(bulk) // 2}
    for row in sorted(rows):
        start = int(bulk.opens_at[row])
        # As the store loads them: those of some weeks before.
        near = {
            name: since(each, start - HISTORY_SECONDS) for name, each in READINGS[slot[0]].items()
        }
        part = compute(slot, history[slot], Epoch(start), near)
        np.testing.assert_array_equal(part.opens_at, bulk.opens_at[row:])
        np.testing.assert_array_equal(part.values, bulk.values[row:])
    assert len(compute(slot, history[slot], Epoch(END))) == 0


@pytest.mark.parametrize("slot", CONTEXTS)
def test_cutting_the_bars_anywhere_leaves_the_rows_before(
    slot: Slot, history: Mapping[Slot, SlotBars]
) -> None:
    bulk = compute(slot, history[slot])
    for row in np.random.default_rng(1).integers(1, len(bulk), 12):
        limit = int(bulk.closes_at[row]) + int(row) % 2
        cut = {name: bars.before(limit) for name, bars in history[slot].items()}
        known = {name: until(each, limit) for name, each in READINGS[slot[0]].items()}
        start = Epoch(bulk.opens_at[max(row - 50, 0)]) if row % 3 else None
        part = compute(slot, cut, start, known)
        expected = bulk.values[max(row - 50, 0) if row % 3 else 0 : row + 1]
        np.testing.assert_array_equal(part.values, expected)


@pytest.mark.parametrize("slot", [("nifty", "15m"), ("nifty", "1d"), ("btc", "1h")])
def test_history_start_is_enough_and_more_changes_nothing(
    slot: Slot, history: Mapping[Slot, SlotBars]
) -> None:
    market = slot[0]
    bulk = compute(slot, history[slot])
    wanted = np.random.default_rng(2).integers(instant(2026, 4, 1), END, 6).tolist()
    for first_open in [instant(2026, 7, 1, 3, 45), *wanted]:
        loaded = {}
        for name, bars in history[slot].items():
            start = features.history_start(market, name, first_open)
            loaded[name] = bars.slice(int(np.searchsorted(bars.opens_at, start)))
            assert len(loaded[name]) < len(bars)
        part = compute(slot, loaded, first_open)
        first = int(np.searchsorted(bulk.opens_at, first_open))
        np.testing.assert_array_equal(part.opens_at, bulk.opens_at[first:])
        np.testing.assert_array_equal(part.values, bulk.values[first:])


def test_context_shows_from_its_close_and_not_before(history: Mapping[Slot, SlotBars]) -> None:
    slot = ("nifty", "15m")
    bars = history[slot]
    spiked = bars["1h"]
    row = int(np.searchsorted(spiked.opens_at, instant(2026, 8, 4, 4, 45)))  # 10:15 IST
    close = spiked.close.copy()
    close[row] *= 1.1
    high = np.maximum(spiked.high, close)
    before = compute(slot, bars)
    after = compute(slot, bars | {"1h": dataclasses.replace(spiked, close=close, high=high)})
    changed = (before.values != after.values).any(axis=1)
    assert int(before.closes_at[changed][0]) == int(spiked.closes_at[row])
    touched = {
        name
        for name, moved in zip(
            before.schema.names, (before.values != after.values).any(axis=0), strict=True
        )
        if moved
    }
    assert touched
    assert all(name.startswith("1h_") for name in touched)


@pytest.mark.parametrize("slot", [("nifty", "15m"), ("btc", "1h")])
def test_context_columns_are_the_context_s_own_last_closed_row(
    slot: Slot, paths: Mapping[str, PricePath], history: Mapping[Slot, SlotBars]
) -> None:
    market = slot[0]
    context = CONTEXTS[slot][0]
    wide = history[slot] | history[market, context]
    upper = compute((market, context), wide)
    rows = compute(slot, wide)
    known = np.searchsorted(upper.closes_at, rows.closes_at, side="right") - 1
    assert known.min() >= 0
    for name in features.CONTEXT_NAMES:
        np.testing.assert_array_equal(
            rows.values[:, rows.schema.names.index(f"{context}_{name}")],
            upper.values[known, upper.schema.names.index(name)],
        )


def test_missing_context_bar_leaves_out_the_rows_that_need_it(
    history: Mapping[Slot, SlotBars],
) -> None:
    slot = ("nifty", "15m")
    bars = history[slot]
    hours = bars["1h"]
    late = int(np.searchsorted(hours.opens_at, instant(2026, 8, 4, 4, 45)))  # 10:15 IST
    whole = compute(slot, bars)
    without = Bars(*(np.delete(getattr(hours, name), late) for name in Bars.__slots__))
    part = compute(slot, bars | {"1h": without})
    gone = np.setdiff1d(whole.closes_at, part.closes_at)
    # The bar that closes at 11:15 needs it, and so do the three after it.
    assert gone.tolist() == [hours.closes_at[late] + 900 * step for step in range(4)]
    days = bars["1d"].slice(0, len(bars["1d"]) - 1)
    stale = compute(slot, bars | {"1d": days})
    assert stale.closes_at[-1] < bars["1d"].closes_at[-1] <= whole.closes_at[-1]


def test_too_little_history_gives_no_row(history: Mapping[Slot, SlotBars]) -> None:
    days = history["nifty", "1d"]["1d"]
    since_2025 = days.slice(int(np.searchsorted(days.opens_at, instant(2025, 1, 1))))
    rows = compute(("nifty", "1d"), {"1d": since_2025})
    assert rows.opens_at[0] == since_2025.opens_at[rows_before(since_2025, instant(2026, 1, 1))]
    short = since_2025.slice(0, features.WARMUP_BARS)
    assert len(compute(("nifty", "1d"), {"1d": short})) == 0
    assert compute(("nifty", "1d"), {"1d": Bars.empty()}).values.shape == (0, 20)

    bars = history["nifty", "1h"]
    assert compute(("nifty", "1h"), bars | {"1d": Bars.empty()}).values.shape == (0, 27)
    rows = compute(("nifty", "1h"), bars | {"1d": since_2025})
    assert rows.closes_at[0] >= instant(2026, 1, 1)


def rows_before(bars: Bars, at: int) -> int:
    return int(np.searchsorted(bars.opens_at, at))


def test_volume_is_no_feature(history: Mapping[Slot, SlotBars]) -> None:
    bars = history["btc", "4h"]["4h"]
    other = dataclasses.replace(bars, volume=bars.volume * 3.0 + 1.0)
    np.testing.assert_array_equal(
        compute(("btc", "4h"), {"4h": bars}).values, compute(("btc", "4h"), {"4h": other}).values
    )


def test_values_do_not_depend_on_the_price_level(history: Mapping[Slot, SlotBars]) -> None:
    bars = history["btc", "4h"]["4h"]
    doubled = dataclasses.replace(
        bars,
        **{name: 2.0 * getattr(bars, name) for name in ("open", "high", "low", "close")},
    )
    np.testing.assert_allclose(
        compute(("btc", "4h"), {"4h": bars}).values,
        compute(("btc", "4h"), {"4h": doubled}).values,
        atol=1e-5,
    )


def test_market_that_stands_still_gives_finite_rows(history: Mapping[Slot, SlotBars]) -> None:
    bars = history["btc", "4h"]["4h"]
    flat = np.full(len(bars), 100.0)
    still = dataclasses.replace(bars, open=flat, high=flat, low=flat, close=flat)
    assert np.isfinite(compute(("btc", "4h"), {"4h": still}).values).all()


def test_a_row_that_is_not_a_number_is_no_row(
    history: Mapping[Slot, SlotBars], caplog: pytest.LogCaptureFixture
) -> None:
    slot = ("btc", "4h")
    whole = compute(slot, history[slot])
    bars = history[slot]["4h"]
    close = bars.close.copy()
    close[-10] = np.nan
    part = compute(slot, {"4h": dataclasses.replace(bars, close=close)})
    np.testing.assert_array_equal(part.values, whole.values[: len(part)])
    assert 0 < len(whole) - len(part) <= 20
    assert "rows left out, in which ret_1, ret_4" in caplog.text


def test_clock_tells_the_place_in_the_session_and_in_the_week(
    history: Mapping[Slot, SlotBars],
) -> None:
    rows = compute(("nifty", "1h"), history["nifty", "1h"])
    columns = [rows.schema.names.index(name) for name in ("clock_sin", "clock_cos")]
    for at, place in (
        (instant(2026, 7, 1, 3, 45), 0.0),
        (instant(2026, 7, 1, 6, 45), 3.0 / 6.25),
        (instant(2026, 8, 4, 6, 45), 180 / 385),
    ):
        row = int(np.searchsorted(rows.opens_at, at))
        expected = [np.sin(2 * np.pi * place), np.cos(2 * np.pi * place)]
        assert rows.values[row, columns] == pytest.approx(expected, abs=1e-6)
    days = compute(("nifty", "1d"), history["nifty", "1d"])
    monday = int(np.searchsorted(days.opens_at, instant(2026, 8, 3, 3, 45)))
    assert days.values[monday, columns] == pytest.approx([0.0, 1.0])
    assert days.values[monday + 1, columns[0]] == pytest.approx(np.sin(2 * np.pi / 7), abs=1e-6)


def test_year_without_a_calendar_is_named(history: Mapping[Slot, SlotBars]) -> None:
    bars = history["nifty", "1h"]
    old = NseCalendar([each for each in nse_sessions() if each.date.year < 2025])
    with pytest.raises(ValueError, match="no NSE session from 2025-"):
        features.compute("nifty", "1h", bars, READINGS["nifty"], old)


def test_every_timeframe_of_a_context_is_longer() -> None:
    for (_, timeframe), contexts in CONTEXTS.items():
        lengths = [timeframes.seconds(name) for name in (timeframe, *contexts)]
        assert lengths == sorted(set(lengths))
