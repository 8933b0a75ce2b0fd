import datetime
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.domain.calendar import ist_instant
from markets.domain.charges import (
    SCHEDULES,
    TABLE_VERSION,
    Rates,
    Side,
    first_dated,
    is_extrapolated,
    itemise,
    rates_for,
)
from tests.markets.domain.rates import rates_on

Date = datetime.date
NOVEMBER_2026 = Date(2026, 11, 20)
ONE_LOT = Decimal(65 * 26_000)


def float_charge(rates: Rates, side: Side, turnover: float) -> float:
    side_rate = rates.buy_rate if side == "buy" else rates.sell_rate
    return turnover * side_rate + min(turnover * rates.brokerage_rate, rates.brokerage_cap)


def test_a_round_trip_of_one_nifty_lot_costs_about_a_thousand_rupees() -> None:
    buy = itemise("nifty", NOVEMBER_2026, "buy", ONE_LOT)
    sell = itemise("nifty", NOVEMBER_2026, "sell", ONE_LOT)
    assert (buy.stt, sell.stt) == (Decimal("0.00"), Decimal("845.00"))
    assert (buy.stamp, sell.stamp) == (Decimal("33.80"), Decimal("0.00"))
    assert buy.exchange + sell.exchange == Decimal("61.86")
    assert buy.sebi + sell.sebi == Decimal("3.38")
    assert buy.gst + sell.gst == Decimal("18.94")
    assert buy.total + sell.total == Decimal("1002.98")


def test_before_april_2026_the_same_round_trip_cost_half() -> None:
    total = sum(
        itemise("nifty", Date(2026, 3, 31), side, ONE_LOT).total for side in ("buy", "sell")
    )
    assert total == Decimal("495.98")


def test_small_orders_pay_brokerage_by_turnover_and_large_ones_the_cap() -> None:
    assert itemise("nifty", NOVEMBER_2026, "buy", Decimal(10_000)).brokerage == Decimal("3.00")
    assert itemise("nifty", NOVEMBER_2026, "buy", Decimal(66_667)).brokerage == Decimal("20.00")
    assert itemise("nifty", NOVEMBER_2026, "buy", ONE_LOT * 20).brokerage == Decimal("20.00")


@pytest.mark.parametrize(
    ("date", "stt", "exchange"),
    [
        (Date(2020, 7, 1), "0.0001", "0.000019"),
        (Date(2021, 1, 1), "0.0001", "0.00002"),
        (Date(2023, 3, 31), "0.0001", "0.00002"),
        (Date(2023, 4, 1), "0.000125", "0.000019"),
        (Date(2024, 9, 30), "0.000125", "0.000019"),
        (Date(2024, 10, 1), "0.0002", "0.0000183"),
        (Date(2026, 3, 31), "0.0002", "0.0000183"),
        (Date(2026, 4, 1), "0.0005", "0.0000183"),
    ],
)
def test_nifty_rates_by_date(date: Date, stt: str, exchange: str) -> None:
    rates = rates_on("nifty", date)
    both = (float(exchange) + 1e-6) * 1.18
    assert rates.sell_rate == pytest.approx(both + float(stt), rel=1e-12)
    assert rates.buy_rate == pytest.approx(both + 0.00002, rel=1e-12)
    assert rates.brokerage_rate == pytest.approx(0.0003 * 1.18)
    assert rates.brokerage_cap == pytest.approx(23.6)


def test_bitcoin_pays_the_taker_fee_and_nothing_else() -> None:
    assert rates_on("btc", Date(2026, 1, 1)) == Rates(0.00045, 0.00045, 0.0, math.inf)
    note = itemise("btc", Date(2026, 1, 1), "sell", Decimal("612.34"))
    assert note.exchange == note.total == Decimal("0.275553")


def test_dates_before_the_first_row_use_it_and_say_so() -> None:
    for market in SCHEDULES:
        first = first_dated(market)
        earlier = first - datetime.timedelta(days=1)
        assert rates_on(market, earlier) == rates_on(market, first)
        assert is_extrapolated(market, earlier)
        assert not is_extrapolated(market, first)


def test_columns_change_at_midnight_in_india() -> None:
    midnight = ist_instant(Date(2026, 4, 1), datetime.time(0, 0))
    before = ist_instant(Date(2012, 1, 2), datetime.time(9, 15))
    columns = rates_for("nifty", np.array([before, midnight - 1, midnight], dtype=np.int64))
    expected = [
        rates_on("nifty", date) for date in (Date(2012, 1, 2), Date(2026, 3, 31), Date(2026, 4, 1))
    ]
    assert columns.buy_rate.tolist() == [each.buy_rate for each in expected]
    assert columns.sell_rate.tolist() == [each.sell_rate for each in expected]
    assert columns.brokerage_rate.tolist() == [each.brokerage_rate for each in expected]
    assert columns.brokerage_cap.tolist() == [each.brokerage_cap for each in expected]
    assert columns.sell_rate.dtype == np.float64


@given(
    paise=st.integers(min_value=0, max_value=10**12),
    date=st.dates(Date(2012, 1, 1), Date(2027, 12, 31)),
    side=st.sampled_from(["buy", "sell"]),
)
def test_nifty_note_agrees_with_the_float_formula(paise: int, date: Date, side: Side) -> None:
    turnover = Decimal(paise) / 100
    note = itemise("nifty", date, side, turnover)
    charge = float_charge(rates_on("nifty", date), side, float(turnover))
    # Four items off by half a paisa each, five where the brokerage is below its cap.
    bound = 0.02 if note.brokerage == 20 else 0.025
    assert abs(float(note.total) - charge) <= bound + 1e-9 * float(turnover)


@given(cents=st.integers(min_value=0, max_value=10**11), side=st.sampled_from(["buy", "sell"]))
def test_bitcoin_note_agrees_with_the_float_formula(cents: int, side: Side) -> None:
    turnover = Decimal(cents) / 100
    note = itemise("btc", Date(2026, 1, 1), side, turnover)
    charge = float_charge(rates_on("btc", Date(2026, 1, 1)), side, float(turnover))
    assert abs(float(note.total) - charge) <= 5e-7 + 1e-12 * float(turnover)


def test_bad_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="'hold'"):
        itemise("nifty", NOVEMBER_2026, "hold", ONE_LOT)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        itemise("nifty", NOVEMBER_2026, "buy", Decimal(-1))
    with pytest.raises(ValueError, match="nifty, btc"):
        rates_on("gold", NOVEMBER_2026)


def test_each_market_has_its_first_row_its_step_and_its_midnight() -> None:
    known = {
        market: (schedule.rows[0].effective, schedule.quantum, schedule.offset_seconds)
        for market, schedule in SCHEDULES.items()
    }
    assert known == {
        "nifty": (Date(2020, 7, 1), Decimal("0.01"), 19_800),
        "btc": (Date(2025, 5, 5), Decimal("0.000001"), 0),
    }


def test_the_rows_are_in_order_and_the_version_names_the_newest() -> None:
    for schedule in SCHEDULES.values():
        dates = [row.effective for row in schedule.rows]
        assert dates == sorted(set(dates))
        assert all(row.source for row in schedule.rows)
    assert TABLE_VERSION.startswith("2026-04-01-")
