import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.decision.risk import GateState, RiskGate, bounded_lots
from tradingsite.clock import Epoch

IST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


def _at(day: int, hour: int, minute: int = 0) -> int:
    return int(datetime.datetime(2026, 3, day, hour, minute, tzinfo=IST).timestamp())


def test_no_slot_exceeds_its_limit() -> None:
    assert bounded_lots(0, 9, 4, reduce_only=False) == 4
    assert bounded_lots(6, 6, 4, reduce_only=False) == 4
    assert bounded_lots(0, -9, 4, reduce_only=False) == -4


@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 6))
def test_reduce_only_never_adds_and_never_flips(lots: int, wanted: int, limit: int) -> None:
    after = bounded_lots(lots, wanted, limit, reduce_only=True)
    assert abs(after) <= abs(lots)
    assert after * lots >= 0


def test_daily_loss_latches_for_the_trading_date() -> None:
    gate = RiskGate(100.0)
    assert not gate.observe(Epoch(_at(2, 10)), 1_000.0)
    assert not gate.observe(Epoch(_at(2, 11)), 900.5)
    assert gate.observe(Epoch(_at(2, 12)), 900.0)
    assert gate.observe(Epoch(_at(2, 13)), 2_000.0), "winning it back does not unlatch"
    assert gate.bound(2, 4, 4) == 2
    assert gate.bound(2, -4, 4) == 0
    assert gate.bound(0, 1, 4) == 0
    assert not gate.observe(Epoch(_at(3, 9, 15)), 1_950.0)
    assert gate.bound(0, 1, 4) == 1


def test_the_day_counts_from_the_last_equity_of_the_date_before() -> None:
    gate = RiskGate(100.0)
    gate.observe(Epoch(_at(2, 15)), 1_000.0)
    assert gate.observe(Epoch(_at(3, 9, 15)), 880.0), "the loss overnight belongs to the new date"


def test_the_date_is_that_of_ist_and_not_of_utc() -> None:
    gate = RiskGate(100.0)
    gate.observe(Epoch(_at(2, 23)), 1_000.0)
    assert gate.observe(Epoch(_at(2, 23, 30)), 850.0)
    # 00:30 IST on the 3rd is still the 2nd in UTC.
    assert not gate.observe(Epoch(_at(3, 0, 30)), 850.0)


def test_a_restart_keeps_the_latch() -> None:
    gate = RiskGate(Decimal(100))
    gate.observe(Epoch(_at(2, 10)), Decimal(1_000))
    gate.observe(Epoch(_at(2, 11)), Decimal(850))
    again = RiskGate(Decimal(100), gate.state())
    assert again.is_latched
    assert again.observe(Epoch(_at(2, 12)), Decimal(999))
    assert again.state().date == datetime.date(2026, 3, 2)
    assert GateState() == RiskGate(1.0).state()


def test_a_limit_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        RiskGate(Decimal(0))


def test_what_only_reduces_ends_between_what_it_holds_and_nothing() -> None:
    for lots in range(-6, 7):
        for wanted in range(-9, 10):
            for limit in range(1, 7):
                within = sorted((0, lots))
                wished = sorted((-limit, wanted, limit))[1]
                expected = sorted((within[0], wished, within[1]))[1]
                assert bounded_lots(lots, wanted, limit, reduce_only=True) == expected
                assert bounded_lots(lots, wanted, limit, reduce_only=False) == wished


def test_a_gate_that_remembers_nothing_is_open_and_has_seen_no_money() -> None:
    state = GateState()
    assert (state.date, state.opening_equity, state.last_equity) == (None, 0, 0)
    assert state.is_latched is False
