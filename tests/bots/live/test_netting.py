"""Netting: the fewest orders, and sleeves that add up to them exactly."""

from hypothesis import given
from hypothesis import strategies as st

from bots.live.netting import Leg, Target, plan, sliced

FRONT, OLD = "JUL", "JUN"
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
