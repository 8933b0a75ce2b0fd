"""What an account covers of what its bots believe to hold: the arithmetic, at its boundaries."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.execution import cover
from bots.execution.netting import cut, in_lots, portions
from markets.venues.base import VenueTrade

LOT = Decimal(65)
AT = dt.datetime(2026, 6, 1, 10, tzinfo=dt.UTC)


def execution(number: str, quantity: int, minute: int = 0, tag: str = "") -> VenueTrade:
    at = AT + dt.timedelta(minutes=minute)
    return VenueTrade(number, tag, "NIFTY", Decimal(quantity), Decimal(24_000), at)


@pytest.mark.parametrize(
    ("bots", "there", "missing"),
    [
        (65, 65, 0),
        (65, 130, 0),
        (65, 64, 1),
        (65, 0, 65),
        (65, -65, 65),
        (-65, -65, 0),
        (-65, -130, 0),
        (-65, -64, 1),
        (-65, 0, 65),
        (-65, 65, 65),
        (0, 0, 0),
        (0, 65, 0),
        (0, -65, 0),
    ],
)
def test_what_an_account_does_not_cover_in_units(bots: int, there: int, missing: int) -> None:
    assert cover.lacking(Decimal(bots), Decimal(there)) == missing


@pytest.mark.parametrize("size", ["0.01", "0.5", "1"])
def test_what_it_does_not_cover_in_small_sizes(size: str) -> None:
    held = Decimal(size)
    for side in (1, -1):
        assert cover.lacking(side * held, side * held) == 0
        assert cover.lacking(side * held, -side * held) == held


@pytest.mark.parametrize(
    ("quantity", "product", "legs", "others", "fits"),
    [
        (-65, "NRML", {"NRML": 65}, {}, ("NRML", 65)),
        (-65, "NRML", {"NRML": 130}, {}, ("NRML", 65)),
        (-130, "NRML", {"NRML": 65}, {}, ("NRML", 65)),
        (65, "NRML", {"NRML": -65}, {}, ("NRML", 65)),
        # Nothing there, or the other side: nothing goes out.
        (-65, "NRML", {}, {}, ("NRML", 0)),
        (-65, "NRML", {"NRML": -65}, {}, ("NRML", 0)),
        (65, "NRML", {"NRML": 65}, {}, ("NRML", 0)),
        # Whole lots only.
        (-130, "NRML", {"NRML": 129}, {}, ("NRML", 65)),
        (-65, "NRML", {"NRML": 64}, {}, ("NRML", 0)),
        # The product that covers it; the one that was asked for where both do, or neither more.
        (-65, "NRML", {"MIS": 65}, {}, ("MIS", 65)),
        (-65, "NRML", {"NRML": 65, "MIS": 130}, {}, ("NRML", 65)),
        (-130, "NRML", {"NRML": 65, "MIS": 65}, {}, ("NRML", 65)),
        (-130, "NRML", {"NRML": 65, "MIS": 130}, {}, ("MIS", 130)),
        (-65, "NRML", {"NRML": 0, "MIS": -65}, {}, ("NRML", 0)),
        # What other bots hold is theirs, on either side.
        (-65, "NRML", {"NRML": 130}, {"NRML": 65}, ("NRML", 65)),
        (-65, "NRML", {"NRML": 65}, {"NRML": 65}, ("NRML", 0)),
        (-65, "NRML", {"NRML": 0}, {"NRML": -65}, ("NRML", 65)),
    ],
)
def test_an_exit_is_fitted_to_the_legs(
    quantity: int,
    product: str,
    legs: dict[str, int],
    others: dict[str, int],
    fits: tuple[str, int],
) -> None:
    held = {name: Decimal(units) for name, units in legs.items()}
    theirs = {name: Decimal(units) for name, units in others.items()}
    assert cover.fit(Decimal(quantity), product, held, theirs, LOT) == fits


def test_steps_of_less_than_a_unit_are_not_cut_to_lots() -> None:
    legs = {"": Decimal("0.0163")}
    assert cover.fit(Decimal("-0.02"), "", legs, {}, Decimal("0.01")) == ("", Decimal("0.0163"))
    assert cover.fit(Decimal(-3), "", {"": Decimal(2)}, {}, Decimal(1)) == ("", 2)
    assert cover.fit(Decimal(-3), "", {"": Decimal("2.5")}, {}, Decimal(1)) == ("", 2)
    for quantity in ("1", "0.5", "-0.5", "-1"):
        wanted = Decimal(quantity)
        legs = {"": -wanted}
        assert cover.fit(wanted, "", legs, {}, Decimal("0.01")) == ("", abs(wanted))


@given(
    st.integers(-6, 6).filter(bool),
    st.dictionaries(st.sampled_from(("NRML", "MIS")), st.integers(-6, 6)),
    st.dictionaries(st.sampled_from(("NRML", "MIS")), st.integers(-3, 3)),
)
def test_no_exit_takes_a_leg_through_zero(
    lots: int, legs: dict[str, int], others: dict[str, int]
) -> None:
    held = {name: units * LOT for name, units in legs.items()}
    theirs = {name: units * LOT for name, units in others.items()}
    product, allowed = cover.fit(lots * LOT, "NRML", held, theirs, LOT)
    own = held.get(product, cover.ZERO) - theirs.get(product, cover.ZERO)
    after = own + (allowed if lots > 0 else -allowed)
    assert 0 <= allowed <= abs(lots) * LOT
    assert own * after >= 0 and abs(after) <= abs(own)


def test_the_newest_executions_closed_it_and_older_ones_did_not() -> None:
    trades = [execution("a", -65, 0), execution("b", -65, 2), execution("c", -65, 1)]
    parts = cover.closings(Decimal(130), -1, trades, {})
    assert [(part.trade_id, part.quantity) for part in parts] == [("b", -65), ("c", -65)]


def test_a_part_of_an_execution_closes_and_only_what_is_left_of_it() -> None:
    trades = [execution("a", -195)]
    [part] = cover.closings(Decimal(65), -1, trades, {})
    assert part.quantity == -65
    [part] = cover.closings(Decimal(65), -1, trades, {"a": Decimal(-130)})
    assert part.quantity == -65
    assert cover.closings(Decimal(66), -1, trades, {"a": Decimal(-130)}) == []
    assert cover.closings(Decimal(1), -1, trades, {"a": Decimal(-195)}) == []


def test_an_execution_that_is_used_up_does_not_hide_the_one_before_it() -> None:
    trades = [execution("a", -65, 0), execution("b", -65, 1)]
    [part] = cover.closings(Decimal(65), -1, trades, {"b": Decimal(-65)})
    assert part.trade_id == "a"
    # Nor one that was booked for more than it is, by a hair.
    [part] = cover.closings(Decimal(65), -1, trades, {"b": Decimal("-65.5")})
    assert part.trade_id == "a"


def test_executions_of_less_than_a_unit_close_too() -> None:
    half = VenueTrade("a", "", "BTC", Decimal("-0.5"), Decimal(60_000), AT)
    [part] = cover.closings(Decimal("0.5"), -1, [half], {})
    assert part.quantity == Decimal("-0.5")


def test_what_does_not_account_for_all_of_it_accounts_for_nothing() -> None:
    assert cover.closings(Decimal(130), -1, [execution("a", -65)], {}) == []
    assert cover.closings(Decimal(65), -1, [], {}) == []
    assert cover.closings(Decimal(65), -1, [execution("a", 65)], {}) == [], "the other side"
    assert cover.closings(Decimal(65), 1, [execution("a", 65)], {})[0].quantity == 65
    own = execution("a", -65, tag="T1AAAAAAAAAAAAAAAA")
    assert cover.closings(Decimal(65), -1, [own], {}) == [], "a bot's own closes nothing over it"
    assert cover.closings(Decimal(0), -1, [execution("a", -65)], {}) == []


@pytest.mark.parametrize(
    ("parts", "most", "left"),
    [
        ({"a": -130, "b": -65}, 195, {"a": -130, "b": -65}),
        ({"a": -130, "b": -65}, 130, {"a": -130, "b": 0}),
        ({"a": -130, "b": -65}, 65, {"a": -65, "b": 0}),
        ({"a": -195, "b": 65}, 130, {"a": -195, "b": 65}),
        ({"a": -195, "b": 65}, 65, {"a": -130, "b": 65}),
        ({"a": 130, "b": 65}, 65, {"a": 65, "b": 0}),
    ],
)
def test_an_order_is_cut_from_its_last_slots_on(
    parts: dict[str, int], most: int, left: dict[str, int]
) -> None:
    given_parts = {slot: Decimal(part) for slot, part in parts.items()}
    assert cut(given_parts, Decimal(most)) == left


def test_portions_and_lots_are_each_others_inverse() -> None:
    lot = Decimal("0.01")
    parts = {"a": Decimal("-0.0137"), "b": Decimal("0.02"), "c": Decimal("0.004")}
    shares, rests = in_lots(parts, lot)
    assert shares == {"a": -1, "b": 2, "c": 0}
    assert set(rests) == {"a", "c"}
    assert portions(shares, rests, lot) == parts
