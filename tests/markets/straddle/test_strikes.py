"""Which strikes are wanted, for any chain and any path of spot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.straddle.strikes import Legs, centre_of, nearest, wanted

STEP = 5_000
EVEN = tuple(range(2_000_000, 3_000_000, STEP))
chains = st.lists(st.integers(1, 10**7), min_size=1, max_size=40, unique=True).map(sorted)
spots = st.integers(1, 2 * 10**7)


@given(chains, spots)
def test_the_nearest_is_the_nearest(strikes: list[int], spot: int) -> None:
    found = nearest(strikes, spot)
    assert found in strikes
    assert abs(found - spot) == min(abs(strike - spot) for strike in strikes)


@given(chains, spots, st.data())
def test_the_money_is_listed_and_looking_again_changes_nothing(
    strikes: list[int], spot: int, data: st.DataObject
) -> None:
    held = data.draw(st.none() | st.sampled_from(strikes) | st.integers(1, 10**7))
    found = centre_of(strikes, spot, held)
    assert found in {held, nearest(strikes, spot)} & set(strikes)
    assert centre_of(strikes, spot, found) == found


@given(st.lists(st.integers(EVEN[1], EVEN[-2]), min_size=1, max_size=50), st.floats(0.0, 0.45))
def test_the_money_is_never_far_and_never_moves_without_need(path: list[int], ratio: float) -> None:
    held: int | None = None
    for spot in path:
        found = centre_of(EVEN, spot, held, ratio)
        assert abs(found - spot) <= STEP * (0.5 + ratio)
        if held is not None and abs(spot - held) <= STEP / 2:
            assert found == held
        held = found


@given(st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=60), st.sampled_from(EVEN[5:-5]))
def test_a_spot_that_swings_about_a_middle_moves_the_money_once(
    swings: list[float], strike: int
) -> None:
    middle = strike + STEP / 2
    held: int | None = None
    moves = 0
    for swing in swings:
        found = centre_of(EVEN, round(middle + swing * 0.19 * STEP), held, 0.2)
        moves += held is not None and found != held
        held = found
    assert moves == 0


@given(chains, st.lists(st.integers(0, 30), unique=True), st.data())
def test_legs_are_so_many_strikes_from_the_money(
    strikes: list[int], widths: list[int], data: st.DataObject
) -> None:
    centre = data.draw(st.sampled_from(strikes))
    found = wanted(strikes, centre, widths)
    for width in widths:
        below = sum(strike < centre for strike in strikes)
        has_room = below >= width and len(strikes) - 1 - below >= width
        assert (width in found) == has_room
        if has_room:
            legs = found[width]
            assert sum(centre < strike <= legs.call for strike in strikes) == width
            assert sum(legs.put <= strike < centre for strike in strikes) == width
            assert legs.call in strikes and legs.put in strikes


def test_a_strike_that_is_gone_holds_nothing() -> None:
    assert centre_of((100, 200), 120, held=150) == 100
    assert wanted((100, 200, 300), 200, (0, 1, 2)) == {0: Legs(200, 200), 1: Legs(300, 100)}
    with pytest.raises(ValueError, match="no money"):
        nearest((), 100)
