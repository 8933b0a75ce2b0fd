"""Netting: the fewest orders, and sleeves that add up to them exactly."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.execution.netting import Leg, Target, cut, flatten, in_lots, plan, portions, sliced

FRONT, OLD, OLDER = "JUL", "JUN", "MAY"
lots = st.integers(-4, 4)
targets = st.lists(st.tuples(st.sampled_from([FRONT, FRONT, OLD]), lots, lots), max_size=4).map(
    lambda rows: [Target(f"slot-{n}", *row) for n, row in enumerate(rows)]
)


def names(legs: list[Leg]) -> list[tuple[str, str, int]]:
    return [(leg.name, leg.instrument, leg.lots) for leg in legs]


def test_slots_of_one_close_become_one_order() -> None:
    legs = plan(
        [Target("a", FRONT, 0, 2), Target("b", FRONT, 1, 0), Target("c", FRONT, 1, 1)], FRONT
    )
    assert names(legs) == [("open", FRONT, 1)]
    assert legs[0].shares == {"a": 2, "b": -1}


def test_nothing_wanted_is_no_order() -> None:
    assert plan([Target("a", FRONT, 3, 3), Target("b", OLD, 0, 0)], FRONT) == []


def test_slots_that_cancel_cross() -> None:
    legs = plan([Target("a", FRONT, 2, 0), Target("b", FRONT, -1, 1)], FRONT)
    assert names(legs) == [("cross", FRONT, 0)]


def test_a_flip_closes_and_then_opens() -> None:
    legs = plan([Target("a", FRONT, 2, -2), Target("b", FRONT, -1, 0)], FRONT)
    assert names(legs) == [("close", FRONT, -1), ("open", FRONT, -2)]


def test_a_roll_closes_the_old_contract_whole_and_opens_the_front() -> None:
    legs = plan([Target("a", OLD, 2, 3), Target("b", OLD, -1, 0), Target("c", FRONT, 0, 1)], FRONT)
    assert names(legs) == [("roll-close", OLD, -1), ("roll-open", FRONT, 4)]


def test_each_old_contract_is_closed_by_its_own_holders() -> None:
    legs = plan([Target("a", OLD, 2, 2), Target("b", OLDER, -1, -1)], FRONT)
    assert names(legs) == [
        *(("roll-close", OLD, -2), ("roll-close", OLDER, 1), ("roll-open", FRONT, 1)),
    ]
    assert legs[0].shares == {"a": -2} and legs[1].shares == {"b": 1}


def test_a_roll_that_makes_the_front_smaller_is_no_opening() -> None:
    legs = plan([Target("a", OLD, 2, -1), Target("b", FRONT, 3, 3)], FRONT)
    assert names(legs) == [("roll-close", OLD, -2), ("close", FRONT, -1)]


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        (3, 1, [("close", -2)]),
        (1, 3, [("open", 2)]),
        (-3, -1, [("close", 2)]),
        (-1, -3, [("open", -2)]),
        (1, 0, [("close", -1)]),
        (-1, 0, [("close", 1)]),
        (1, -1, [("close", -1), ("open", -1)]),
        (-1, 1, [("close", 1), ("open", 1)]),
    ],
)
def test_what_makes_a_position_smaller_is_a_close_on_either_side(
    held: int, wanted: int, expected: list[tuple[str, int]]
) -> None:
    legs = plan([Target("a", FRONT, held, wanted)], FRONT)
    assert [(leg.name, leg.lots) for leg in legs] == expected


def test_a_flatten_closes_each_contract_whole_and_keeps_who_holds_less_than_a_lot() -> None:
    legs = flatten([("a", OLD, 2), ("b", FRONT, -1), ("c", OLD, 0)])
    assert names(legs) == [("flatten", FRONT, 1), ("flatten", OLD, -2)]
    assert legs[1].shares == {"a": -2, "c": 0}
    assert flatten([("a", OLD, 1)], "leave")[0].name == "leave"
    assert flatten([]) == []


@given(targets)
def test_legs_take_every_slot_to_its_target(wanted: list[Target]) -> None:
    held = {(each.slot, each.instrument): each.lots for each in wanted}
    for leg in plan(wanted, FRONT):
        assert all(leg.shares.values())
        for slot, lots in leg.shares.items():
            key = (slot, leg.instrument)
            held[key] = held.get(key, 0) + lots
    for each in wanted:
        assert held.get((each.slot, FRONT), 0) == each.target_lots
        assert held.get((each.slot, OLD), 0) == 0 or each.instrument == FRONT


@given(targets)
def test_no_leg_takes_the_net_position_through_zero(wanted: list[Target]) -> None:
    net = {name: sum(t.lots for t in wanted if t.instrument == name) for name in (OLD, FRONT)}
    for leg in plan(wanted, FRONT):
        before = net[leg.instrument]
        net[leg.instrument] = after = before + leg.lots
        assert before * after >= 0


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(1, 5))
def test_slices_are_small_enough_and_add_up(lots: list[int], most: int) -> None:
    shares = {f"slot-{n}": each for n, each in enumerate(lots) if each}
    leg = Leg("open", FRONT, shares)
    parts = sliced(leg, most)
    together: dict[str, int] = {}
    for part in parts:
        assert (part.name, part.instrument) == ("open", FRONT)
        assert abs(part.lots) <= most
        assert all(part.shares.values())
        for slot, each in part.shares.items():
            together[slot] = together.get(slot, 0) + each
    assert together == shares
    assert len(parts) == max(1, -(-abs(leg.lots) // most))


def test_lots_stay_whole_numbers() -> None:
    legs = [
        *plan([Target("a", FRONT, 2, -2), Target("b", FRONT, -1, 1)], FRONT),
        *plan([Target("a", FRONT, -2, 2), Target("b", FRONT, 1, -1)], FRONT),
        *sliced(Leg("open", FRONT, {"a": 7, "b": -2}), 2),
        *sliced(Leg("open", FRONT, {"a": -7, "b": 2}), 2),
    ]
    assert {type(lots) for leg in legs for lots in leg.shares.values()} == {int}


def test_a_leg_that_the_exchange_takes_goes_out_as_it_is() -> None:
    leg = Leg("open", FRONT, {"a": 5, "b": -1})
    assert sliced(leg, 4)[0] is leg
    assert [part.lots for part in sliced(leg, 3)] == [3, 1]


def test_a_slot_trades_its_lots_and_away_what_it_had_beyond() -> None:
    rests = {"a": Decimal(20), "c": Decimal("-0.5")}
    parts = portions({"a": 2, "b": -1, "c": 0}, rests, Decimal(65))
    assert parts == {"a": Decimal(110), "b": Decimal(-65), "c": Decimal("0.5")}
    assert in_lots(parts, Decimal(65)) == (
        {"a": 1, "b": -1, "c": 0},
        {"a": Decimal(-45), "c": Decimal("-0.5")},
    )


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(-400, 400), max_size=4),
    st.sampled_from([Decimal(65), Decimal("0.01")]),
)
def test_lots_and_what_is_beyond_them_are_the_portions_again(
    units: dict[str, int], lot_size: Decimal
) -> None:
    parts = {slot: each * lot_size / 7 for slot, each in units.items()}
    shares, rests = in_lots(parts, lot_size)
    assert portions(shares, rests, lot_size) == parts
    assert all(abs(rest) < lot_size and rest for rest in rests.values())


@pytest.mark.parametrize(
    ("parts", "most", "left"),
    [
        ({"a": "2", "b": "3"}, "5", {"a": "2", "b": "3"}),
        ({"a": "2", "b": "3"}, "9", {"a": "2", "b": "3"}),
        ({"a": "2", "b": "3"}, "4", {"a": "2", "b": "2"}),
        ({"a": "2", "b": "3"}, "1", {"a": "1", "b": "0"}),
        ({"a": "-2", "b": "-3"}, "1", {"a": "-1", "b": "0"}),
        ({"a": "-2", "b": "-3"}, "0", {"a": "0", "b": "0"}),
        # Who trades against the others keeps what it trades.
        ({"a": "5", "b": "-2"}, "1", {"a": "3", "b": "-2"}),
        ({"a": "-5", "b": "2"}, "1", {"a": "-3", "b": "2"}),
        # Units far below one, as bitcoin is traded in.
        ({"a": "0.4", "b": "0.3"}, "0.9", {"a": "0.4", "b": "0.3"}),
        ({"a": "0.4", "b": "0.3"}, "0.5", {"a": "0.4", "b": "0.1"}),
        ({"a": "-0.4", "b": "-0.3"}, "0.5", {"a": "-0.4", "b": "-0.1"}),
        ({"a": "0.4", "b": "0.3"}, "0.2", {"a": "0.2", "b": "0.0"}),
        ({"a": "0.5", "b": "-0.1"}, "0.3", {"a": "0.4", "b": "-0.1"}),
        ({}, "0", {}),
    ],
)
def test_a_cut_takes_from_the_last_slots_of_the_orders_side(
    parts: dict[str, str], most: str, left: dict[str, str]
) -> None:
    given_parts = {slot: Decimal(part) for slot, part in parts.items()}
    assert cut(given_parts, Decimal(most)) == {slot: Decimal(part) for slot, part in left.items()}


def test_a_slot_with_less_than_a_lot_keeps_its_place_in_a_flatten_that_is_sliced() -> None:
    for lots in (-7, 7):
        parts = sliced(Leg("flatten", "F", {"a": lots, "b": 0}), 5)
        assert [part.lots for part in parts] == [lots // 7 * 5, lots // 7 * 2]
        assert [part.shares.get("b") for part in parts] == [0, None], "closed once, with the first"
