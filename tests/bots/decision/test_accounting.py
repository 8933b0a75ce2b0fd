from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.decision import accounting
from markets.domain.bars import FloatArray

PAISA = Decimal("0.01")


@pytest.mark.parametrize(
    ("held", "wanted", "carried", "orders"),
    [
        (0, 3, 1, (0, 3)),
        (3, 0, 1, (-3, 0)),
        (3, 5, 1, (0, 2)),
        (5, 3, 1, (-2, 0)),
        (3, -2, 1, (-3, -2)),
        (-2, 3, 1, (2, 3)),
        (-3, -1, 1, (2, 0)),
        (3, 3, 1, (0, 0)),
        (3, 3, 0, (-3, 3)),
        (-3, -4, 0, (3, -4)),
        (0, 0, 0, (0, 0)),
    ],
)
def test_split_closes_then_opens(
    held: int, wanted: int, carried: int, orders: tuple[int, int]
) -> None:
    assert accounting.split(held, wanted, carried) == orders


def test_split_of_columns_is_that_of_scalars() -> None:
    held, wanted = (each.ravel().astype(float) for each in np.mgrid[-4:5, -4:5])
    for carried in (0.0, 1.0):
        columns = accounting.split(held, wanted, carried, np.minimum, np.maximum)
        scalars = [
            accounting.split(h, w, carried)
            for h, w in zip(held.tolist(), wanted.tolist(), strict=True)
        ]
        assert np.array_equal(np.stack(columns, axis=1), np.array(scalars))


def test_slippage_is_against_us_on_both_sides() -> None:
    assert accounting.fill_price(100.0, 1, 0.01) == pytest.approx(101.0)
    assert accounting.fill_price(100.0, -1, 0.01) == pytest.approx(99.0)
    assert accounting.slippage_cost(2.0, 101.0, 100.0) == pytest.approx(2.0)
    assert accounting.slippage_cost(-2.0, 99.0, 100.0) == pytest.approx(2.0)
    assert accounting.slippage_cost(2.0, 103.0, 100.0) == pytest.approx(6.0)


def test_brokerage_is_capped_per_order() -> None:
    assert accounting.order_charges(10_000.0, 0.001, 0.0003, 20.0) == pytest.approx(13.0)
    assert accounting.order_charges(1_000_000.0, 0.001, 0.0003, 20.0) == pytest.approx(1_020.0)


def test_a_round_trip_by_hand() -> None:
    # Buy 50 at 20,000 for 30 of charges, sell at 20,100 for 40: 5,000 less 70.
    cash = accounting.settle(1_000_000.0, 50.0, 20_000.0, 30.0)
    assert accounting.equity(cash, 50.0, 20_050.0) == 1_002_470.0
    cash = accounting.settle(cash, -50.0, 20_100.0, 40.0)
    assert cash == accounting.equity(cash, 0.0, 1.0) == 1_004_930.0


def test_longs_pay_a_positive_rate_and_shorts_receive_it() -> None:
    # Half a bitcoin at 60,000 by a rate of 0.01 %: three dollars.
    per_unit = accounting.funding_per_unit(60_000.0, 0.0001)
    assert accounting.pay_funding(1_000.0, 0.5, per_unit) == pytest.approx(997.0)
    assert accounting.pay_funding(1_000.0, -0.5, per_unit) == pytest.approx(1_003.0)
    assert accounting.pay_funding(1_000.0, 0.0, per_unit) == 1_000.0
    received = accounting.funding_per_unit(60_000.0, -0.0001)
    assert accounting.pay_funding(1_000.0, 0.5, received) == pytest.approx(1_003.0)


def test_max_drawdown_is_the_deepest_fall_from_a_peak() -> None:
    path = np.array([100.0, 120.0, 90.0, 130.0, 117.0])
    assert accounting.max_drawdown(path) == pytest.approx(0.25)


@st.composite
def _bars(draw: st.DrawFn) -> dict[str, Any]:
    price = draw(st.decimals(Decimal(10_000), Decimal(90_000), places=2))
    return {
        "lots": draw(st.integers(-4, 4)),
        "rolled": draw(st.integers(0, 9)) == 0,
        "open": price,
        "previous_open": price * draw(st.decimals(Decimal("0.99"), Decimal("1.01"), places=4)),
        "close": price * draw(st.decimals(Decimal("0.97"), Decimal("1.03"), places=4)),
        "lot": draw(st.sampled_from([Decimal(75), Decimal(65), Decimal("0.01")])),
        "buy": draw(st.decimals(0, Decimal("0.001"), places=6)),
        "sell": draw(st.decimals(0, Decimal("0.001"), places=6)),
        "brokerage": Decimal("0.0003"),
        "cap": draw(st.sampled_from([Decimal("23.60"), Decimal("Infinity")])),
        "slippage": draw(st.decimals(0, Decimal("0.001"), places=5)),
        "funding": draw(st.decimals(Decimal("-0.002"), Decimal("0.002"), places=8)),
    }


def _play(bars: list[dict[str, Any]], number: Callable[[Any], Any], one: type) -> list[Any]:
    """Return the equities of a sequence of targets, all arithmetic in one kind of number."""
    cash, held = number(10_000_000), number(0)
    path = []
    for bar in bars:
        value = {name: number(bar[name]) for name in bar if name not in ("lots", "rolled")}
        wanted = bar["lots"] * value["lot"]
        prices = (value["previous_open"] if bar["rolled"] else value["open"], value["open"])
        orders = accounting.split(held, wanted, 0 if bar["rolled"] else 1)
        for quantity, reference in zip(orders, prices, strict=True):
            side = 1 if quantity > 0 else -1
            price = accounting.fill_price(reference, side, value["slippage"])
            charges = accounting.order_charges(
                abs(quantity) * price,
                value["buy"] if quantity > 0 else value["sell"],
                value["brokerage"],
                value["cap"],
            )
            if quantity:
                cash = accounting.settle(cash, quantity, price, charges)
        held = wanted
        per_unit = accounting.funding_per_unit(value["close"], value["funding"])
        cash = accounting.pay_funding(cash, held, per_unit)
        path.append(accounting.equity(cash, held, value["close"]))
        assert isinstance(path[-1], one)
    return path


@settings(max_examples=150, deadline=None)
@given(st.lists(_bars(), min_size=1, max_size=40))
def test_floats_and_decimals_agree_to_a_paisa(bars: list[dict[str, Any]]) -> None:
    floats, decimals = _play(bars, float, float), _play(bars, Decimal, Decimal)
    for quick, exact in zip(floats, decimals, strict=True):
        assert abs(Decimal(quick) - exact) < PAISA


@settings(max_examples=60, deadline=None)
@given(st.lists(_bars(), min_size=1, max_size=15))
def test_columns_agree_with_floats_exactly(bars: list[dict[str, Any]]) -> None:
    def column(value: Any) -> FloatArray:
        return np.full(2, float(value))

    cash, held = column(10_000_000), column(0)
    for bar, expected in zip(bars, _play(bars, float, float), strict=True):
        wanted = bar["lots"] * column(bar["lot"])
        carried = 0.0 if bar["rolled"] else 1.0
        references = (bar["previous_open"] if bar["rolled"] else bar["open"], bar["open"])
        orders = accounting.split(held, wanted, carried, np.minimum, np.maximum)
        for quantity, reference in zip(orders, references, strict=True):
            price = accounting.fill_price(
                column(reference), np.sign(quantity), float(bar["slippage"])
            )
            rate = np.where(quantity > 0, float(bar["buy"]), float(bar["sell"]))
            charges = accounting.order_charges(
                np.abs(quantity) * price,
                rate,
                float(bar["brokerage"]),
                float(bar["cap"]),
                np.minimum,
            )
            cash = accounting.settle(cash, quantity, price, charges)
        held = wanted
        per_unit = accounting.funding_per_unit(column(bar["close"]), column(bar["funding"]))
        cash = accounting.pay_funding(cash, held, per_unit)
        assert accounting.equity(cash, held, column(bar["close"])).tolist() == [expected] * 2
