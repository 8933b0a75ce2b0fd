import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.decision.sleeve import Sleeve


def _sleeve(capital: float = 1_000_000.0, lot_size: float = 50.0) -> Sleeve:
    return Sleeve(4, capital, lot_size)


def test_a_new_sleeve_is_flat_and_sees_zeros() -> None:
    sleeve = _sleeve()
    observed = sleeve.observe(20_000.0, 50.0)
    assert observed.dtype == np.float32
    assert observed.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_open_profit_counts_from_the_cash_before_the_entry() -> None:
    sleeve = _sleeve()
    sleeve.fill(100.0, 20_000.0, 500.0)
    exposure, open_pnl, bars_held, drawdown = sleeve.observe(20_100.0, 50.0)[0]
    notional = 4 * 50 * 20_100.0
    assert sleeve.equity == 1_009_500.0
    assert exposure == 0.5
    assert open_pnl == pytest.approx(50 * 9_500 / notional)
    assert bars_held == pytest.approx(1 / 64)
    assert drawdown == 0.0


def test_drawdown_is_measured_from_the_highest_close() -> None:
    sleeve = _sleeve()
    sleeve.fill(100.0, 20_000.0, 0.0)
    sleeve.mark(20_200.0, 50.0)
    sleeve.mark(20_100.0, 50.0)
    assert sleeve.peak_equity - sleeve.equity == pytest.approx(10_000.0)


def test_partial_fills_make_the_same_account_as_a_whole_one() -> None:
    whole, parts = _sleeve(), _sleeve()
    whole.fill(150.0, 20_000.0, 300.0)
    for _ in range(3):
        parts.fill(50.0, 20_000.0, 100.0)
    assert parts.state() == whole.state()


def test_a_part_of_a_lot_does_not_count_as_one() -> None:
    sleeve = _sleeve(lot_size=0.01)
    sleeve.fill(0.013, 60_000.0, 0.0)
    assert sleeve.lots == 1
    sleeve.fill(-0.023, 60_000.0, 0.0)
    assert (sleeve.lots, sleeve.quantity) == (-1, -0.01)


def test_a_fill_after_the_next_close_still_lands() -> None:
    sleeve = _sleeve()
    sleeve.mark(20_000.0, 50.0)
    sleeve.mark(20_010.0, 50.0)
    sleeve.fill(50.0, 20_020.0, 10.0)
    sleeve.mark(20_030.0, 50.0)
    assert sleeve.equity == 1_000_490.0
    assert sleeve.bars_held == 1


def test_a_fill_through_zero_is_a_close_and_an_open() -> None:
    once, twice = _sleeve(), _sleeve()
    for sleeve in (once, twice):
        sleeve.fill(100.0, 20_000.0, 0.0)
        sleeve.mark(20_050.0, 50.0)
    once.fill(-150.0, 20_100.0, 30.0)
    twice.fill(-100.0, 20_100.0, 20.0)
    twice.fill(-50.0, 20_100.0, 10.0)
    assert once.state() == twice.state()
    assert once.entry_equity == 1_009_980.0
    assert once.bars_held == 0


def test_a_roll_keeps_the_entry_and_the_age() -> None:
    sleeve = _sleeve()
    sleeve.fill(100.0, 20_000.0, 0.0)
    sleeve.mark(20_000.0, 50.0)
    sleeve.roll(65.0)
    sleeve.fill(-100.0, 20_010.0, 5.0)
    sleeve.fill(130.0, 20_100.0, 5.0)
    sleeve.mark(20_100.0, 65.0)
    assert (sleeve.lots, sleeve.bars_held) == (2, 2)
    assert sleeve.entry_equity == 1_000_000.0
    assert sleeve.equity == 1_000_990.0


@pytest.mark.parametrize("reopened", [0.0, -65.0])
def test_a_roll_that_does_not_continue_forgets_the_entry(reopened: float) -> None:
    sleeve = _sleeve()
    sleeve.fill(100.0, 20_000.0, 0.0)
    sleeve.mark(20_000.0, 50.0)
    sleeve.roll(65.0)
    sleeve.fill(-100.0, 20_010.0, 0.0)
    if reopened:
        sleeve.fill(reopened, 20_100.0, 0.0)
    sleeve.mark(20_100.0, 65.0)
    assert sleeve.entry_equity == 1_001_000.0
    assert sleeve.bars_held == (1 if reopened else 0)


def test_an_entry_after_a_roll_out_of_the_market_is_a_new_one() -> None:
    sleeve = _sleeve()
    sleeve.fill(100.0, 20_000.0, 0.0)
    sleeve.roll(65.0)
    sleeve.fill(-100.0, 20_010.0, 0.0)
    sleeve.mark(20_000.0, 65.0)
    sleeve.fill(65.0, 20_000.0, 0.0)
    assert sleeve.entry_equity == 1_001_000.0


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), max_size=30))
def test_a_restart_at_any_moment_changes_nothing(steps: list[tuple[int, bool]]) -> None:
    sleeve = again = _sleeve(capital=10_000.0, lot_size=0.01)
    for number, (lots, rolls) in enumerate(steps):
        again = Sleeve.from_state(again.state())
        for each in (sleeve, again):
            if rolls:
                each.roll(0.01)
            each.fill(lots * 0.01, 60_000.0 + number, 0.5)
        again = Sleeve.from_state(again.state())
        seen = [each.observe(60_010.0 + number, 0.01).tolist() for each in (sleeve, again)]
        assert seen[0] == seen[1]
    assert dataclasses.asdict(sleeve.state()) == dataclasses.asdict(again.state())


@given(st.lists(st.integers(-7, 7), min_size=1, max_size=50))
def test_whole_lots_leave_no_dust(orders: list[int]) -> None:
    sleeve = _sleeve(lot_size=0.01)
    for lots in orders:
        sleeve.fill(lots * 0.01, 60_000.0, 0.0)
    assert sleeve.quantity == sum(orders) * 0.01
    assert sleeve.lots == sum(orders)


def test_a_lot_is_not_lost_to_rounding() -> None:
    sleeve = _sleeve(lot_size=0.01)
    sleeve.fill(0.29, 60_000.0, 0.0)
    assert 0.29 / 0.01 < 29
    assert sleeve.lots == 29


def test_a_limit_below_one_lot_is_refused() -> None:
    with pytest.raises(ValueError, match="limit_lots"):
        Sleeve(0, 1.0, 1.0)
