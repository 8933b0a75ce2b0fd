import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.decision import accounting
from bots.decision.actions import (
    DELTAS,
    HOLD,
    NAMES,
    TransitionTable,
    dead_actions,
    target_lots,
    target_lots_array,
)


def test_actions_have_a_name_each_and_hold_changes_nothing() -> None:
    assert len(NAMES) == len(set(NAMES)) == len(DELTAS) == 7
    assert DELTAS[HOLD] == 0.0


@pytest.mark.parametrize(
    ("lots", "delta", "limit", "expected"),
    [
        (0, 1.0, 4, 4),
        (0, 0.25, 4, 1),
        (-4, 1.0, 4, 0),
        (3, 0.5, 4, 4),
        (1, -0.5, 5, -1),
        (0, 0.25, 3, 0),
        (-1, 0.25, 3, 0),
        (0, -0.5, 3, -1),
    ],
)
def test_target_is_rounded_towards_zero_within_the_limit(
    lots: int, delta: float, limit: int, expected: int
) -> None:
    assert target_lots(lots, delta, limit) == expected


@given(st.integers(1, 50), st.data())
def test_columns_and_scalars_agree(limit: int, data: st.DataObject) -> None:
    lots = data.draw(st.lists(st.integers(-limit, limit), min_size=7, max_size=7))
    scalars = [target_lots(held, delta, limit) for held, delta in zip(lots, DELTAS, strict=True)]
    columns = target_lots_array(np.array(lots, dtype=float), np.array(DELTAS), limit)
    assert columns.tolist() == scalars


@pytest.mark.parametrize("limit", [1, 3, 4, 10])
def test_transitions_are_what_the_scalars_say(limit: int) -> None:
    table = TransitionTable(limit)
    for held in range(-limit, limit + 1):
        for action, delta in enumerate(DELTAS):
            transition = table.first_of(held) + action
            wanted = target_lots(held, delta, limit)
            kept, found, goes_on, is_open = table.numbers[:, transition].tolist()
            assert (kept - held, found - kept) == accounting.split(held, wanted, 1)
            assert (found, goes_on, is_open) == (wanted, held * wanted > 0, wanted != 0)
            assert table.flags[4, transition] == (held * wanted <= 0)
            assert table.next[transition] == table.first_of(wanted)
            for carried in (0, 1):
                # An order of nothing has no side.
                for order, buys in zip(
                    accounting.split(held, wanted, carried) * 2,
                    table.flags[:4, transition],
                    strict=True,
                ):
                    assert order == 0 or buys == (order > 0)


@given(st.integers(1, 50), st.integers(-50, 50), st.sampled_from(DELTAS))
def test_target_never_leaves_the_limit(limit: int, lots: int, delta: float) -> None:
    assert abs(target_lots(max(min(lots, limit), -limit), delta, limit)) <= limit


def test_dead_actions_are_those_below_one_lot() -> None:
    assert dead_actions(4) == ()
    assert dead_actions(3) == ("light buy", "light sell")
    assert dead_actions(1) == ("buy", "light buy", "light sell", "sell")
