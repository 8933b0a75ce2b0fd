"""What the owner held and decided, from his executions: nothing of the future, nothing made up."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.decision import owner
from bots.decision.actions import DELTAS, HOLD, target_lots
from bots.decision.owner import Owned, OwnTrade
from tests.desk import ist
from tradingsite.clock import Epoch

DAYS = [dt.date(2026, 6, 1) + dt.timedelta(days=day) for day in range(40)]
CLOSES = np.array([int(ist(f"{day} 15:30").timestamp()) for day in DAYS], dtype=np.int64)
LOT, LIMIT = 65.0, 4
FUTURE, NEXT = "NIFTY 2026-06-30 FUT", "NIFTY 2026-07-28 FUT"


def trade(day: int, lots: float, instrument: str = FUTURE, time: str = "11:00") -> OwnTrade:
    return OwnTrade(instrument, lots * LOT, Epoch(ist(f"{DAYS[day]} {time}").timestamp()))


def read(*trades: OwnTrade, bars: int = len(DAYS)) -> Owned:
    return owner.read(trades, CLOSES[:bars], np.full(bars, LOT), LIMIT)


def names(found: Owned, *bars: int) -> list[float]:
    return [DELTAS[found.actions[bar]] for bar in bars]


def test_a_trade_is_decided_at_the_close_before_it() -> None:
    found = read(trade(5, 4), trade(9, -2), trade(12, -2))
    assert found.lots[[4, 5, 8, 9, 11, 12]].tolist() == [0, 4, 4, 2, 2, 0]
    assert names(found, 4, 8, 11) == [1.0, -0.5, -0.5]
    assert found.first == 4 and found.trades == 3 and found.decisions(range(40)) == 3
    assert found.decisions(range(5, 9)) == 1
    others = np.delete(found.actions, [4, 8, 11])
    assert (others == HOLD).all()


def test_what_came_and_went_within_a_day_is_no_decision() -> None:
    found = read(trade(3, 4, time="10:00"), trade(3, -4, time="14:00"))
    assert not found.lots.any() and found.decisions(range(40)) == 0 and found.trades == 2


def test_a_trade_after_the_close_is_the_next_days() -> None:
    assert read(trade(3, 4, time="15:31")).lots[:5].tolist() == [0, 0, 0, 0, 4]


def test_shorts_flips_and_partial_exits() -> None:
    found = read(trade(1, -4), trade(3, 8), trade(5, -1))
    assert found.lots[1:6].tolist() == [-4, -4, 4, 4, 3]
    # From limit to limit is more than one action can do: the nearest is the largest.
    assert names(found, 0, 2, 4) == [-1.0, 1.0, -0.25]


def test_what_expires_is_gone_on_its_day() -> None:
    found = read(trade(5, 4))
    expiry = DAYS.index(dt.date(2026, 6, 30))
    assert found.lots[expiry - 1] == 4 and not found.lots[expiry:].any()
    rolled = read(trade(5, 4), trade(expiry - 1, -4), trade(expiry - 1, 4, NEXT))
    assert (rolled.lots[5:] == 4).all() and rolled.decisions(range(40)) == 1


def test_options_are_half_a_future_in_their_direction() -> None:
    call, put = "NIFTY 2026-06-30 25000 CE", "NIFTY 2026-06-30 25000 PE"
    assert (read(trade(1, 4, call)).lots[1:20] == 4).all()
    assert (read(trade(1, 4, put)).lots[1:20] == -4).all()
    assert (read(trade(1, -4, put)).lots[1:20] == 4).all()
    both = read(trade(1, 4), trade(1, 4, put))  # a future hedged by half
    assert (both.lots[1:20] > 0).all()
    assert not read(trade(1, 4, call), trade(1, 4, put)).lots.any()  # a straddle has no direction


def test_his_usual_largest_position_is_the_limit() -> None:
    one_lot = [trade(day, lots) for day, lots in ((1, 1), (5, -1), (9, -1), (12, 1))]
    assert sorted(set(read(*one_lot).lots.tolist())) == [-4, 0, 4]


def test_what_does_not_count_is_told() -> None:
    found = read(
        trade(1, 1, "BANKNIFTY 2026-06-30 FUT"),
        trade(1, 1, "NIFTY"),
        OwnTrade("NIFTY 2026-07-28 FUT", 65.0, Epoch(int(CLOSES[-1]) + 60)),
        OwnTrade("", 65.0, Epoch(CLOSES[3])),
    )
    assert found.trades == 0 and not found.lots.any()
    assert found.left_out == {
        "not NIFTY": 1,
        "no contract the desk knows": 2,
        "later than the last bar": 1,
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 39), st.integers(-3, 3), st.sampled_from([FUTURE, NEXT])),
        max_size=25,
    ),
    st.integers(2, 39),
)
def test_the_future_changes_nothing_before_it(
    trades: list[tuple[int, int, str]], bars: int
) -> None:
    made = [trade(0, 3), *(trade(*each) for each in trades)]
    sizes = np.full(len(DAYS), LOT)
    whole = owner.read(made, CLOSES, sizes, LIMIT, known_bars=1)
    cut = owner.read(made, CLOSES[:bars], sizes[:bars], LIMIT, known_bars=1)
    np.testing.assert_array_equal(whole.lots[:bars], cut.lots)
    np.testing.assert_array_equal(whole.actions[: bars - 1], cut.actions)


@given(st.lists(st.integers(-LIMIT, LIMIT), min_size=2, max_size=30))
def test_no_other_action_comes_nearer(path: list[int]) -> None:
    lots = np.array(path, dtype=np.int64)
    for held, wanted, action in zip(path, path[1:], owner._actions(lots, LIMIT), strict=False):
        missed = abs(target_lots(held, DELTAS[action], LIMIT) - wanted)
        assert missed == min(abs(target_lots(held, delta, LIMIT) - wanted) for delta in DELTAS)
        if held == wanted:
            assert action == HOLD


@pytest.mark.parametrize("bars", [1, 2])
def test_hardly_any_bars(bars: int) -> None:
    assert len(read(trade(0, 1), bars=bars).actions) == bars - 1
