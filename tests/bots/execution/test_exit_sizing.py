"""An exit is fitted to what the account holds, product by product, and never crosses zero.

Without a database: orders and rows are the models' own objects, unsaved.
"""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.execution import exit_sizing
from bots.models import Order, Position
from markets.venues.base import Venue

LOT = Decimal(75)
NAME = "NIFTY 2026-06-30 FUT"
SLOTS = ("nifty-15m", "nifty-1h", "nifty-1d")


def venue(*, honours_reduce_only: bool = False) -> Venue:
    return cast(Venue, SimpleNamespace(name="Kite", honours_reduce_only=honours_reduce_only))


def exit_of(lots: dict[str, int], product: str = "NRML") -> Order:
    """Return an order that closes each slot's lots."""
    quantity = -sum(lots.values()) * LOT
    return Order.on("nifty")(
        bot="nifty",
        instrument=NAME,
        quantity=quantity,
        leg="reduce",
        shares={slot: -count for slot, count in lots.items()},
        rests={},
        product=product,
    )


def row(bot: str, quantity: int, product: str = "NRML") -> Position:
    return Position.on("nifty")(
        bot=bot, slot=f"{bot}-1d", venue="Kite", instrument=NAME, quantity=quantity, product=product
    )


def fit(order: Order, legs: dict[str, int] | None, rows: tuple[Position, ...] = ()) -> Any:
    held = None if legs is None else {name: Decimal(each) for name, each in legs.items()}
    return exit_sizing.fit_exit(order, venue(), rows, held, LOT)


def test_an_exit_that_the_account_covers_goes_as_it_is() -> None:
    order = exit_of({"nifty-1h": 2})
    assert fit(order, {"NRML": 150}) is None
    assert (order.quantity, order.product) == (Decimal(-150), "NRML")


def test_one_of_more_than_the_account_holds_is_cut_and_its_slots_with_it() -> None:
    order = exit_of({"nifty-15m": 2, "nifty-1h": 2})
    assert fit(order, {"NRML": 150}) is None
    assert order.quantity == Decimal(-150)
    assert sum(order.shares.values()) * LOT + sum(map(Decimal, order.rests.values())) == -150


@pytest.mark.parametrize("held", [0, -75, -300])
def test_where_nothing_is_left_to_close_nothing_is_sent(held: int) -> None:
    refused = fit(exit_of({"nifty-1h": 1}), {"NRML": held})
    assert refused is not None and refused.is_told
    assert "would open the other side" in refused.reason


def test_what_another_bot_holds_in_the_account_is_not_closed() -> None:
    order = exit_of({"nifty-1h": 2})
    refused = fit(order, {"NRML": 150}, (row("personal", 150), row("nifty", 150)))
    assert refused is not None
    order = exit_of({"nifty-1h": 2})
    assert fit(order, {"NRML": 225}, (row("personal", 75), row("nifty", 150))) is None
    assert order.quantity == -150


def test_a_conversion_by_the_owner_is_followed_to_the_other_product() -> None:
    order = exit_of({"nifty-1h": 2}, product="NRML")
    assert fit(order, {"MIS": 150}) is None
    assert (order.quantity, order.product) == (Decimal(-150), "MIS")


def test_an_account_that_cannot_be_read_closes_nothing_unless_the_venue_cuts_itself() -> None:
    refused = fit(exit_of({"nifty-1h": 1}), None)
    assert refused is not None and "could not be read" in refused.reason
    order = exit_of({"nifty-1h": 1})
    assert exit_sizing.fit_exit(order, venue(honours_reduce_only=True), (), None, LOT) is None
    assert order.quantity == -75


@settings(deadline=None)
@given(
    wanted=st.dictionaries(st.sampled_from(SLOTS), st.integers(1, 6), min_size=1),
    side=st.sampled_from((1, -1)),
    legs=st.dictionaries(st.sampled_from(("NRML", "MIS")), st.integers(-900, 900), max_size=2),
    others=st.integers(-600, 600),
)
def test_no_exit_crosses_zero_whatever_the_account_holds(
    wanted: dict[str, int], side: int, legs: dict[str, int], others: int
) -> None:
    order = exit_of({slot: side * count for slot, count in wanted.items()})
    asked = order.quantity
    refused = fit(order, legs, (row("personal", others),))
    if refused is not None:
        return
    # It never grows and never turns.
    assert abs(order.quantity) <= abs(asked) and order.quantity * asked > 0
    ours = legs.get(order.product, 0) - (others if order.product == "NRML" else 0)
    after = ours + order.quantity
    assert after * ours >= 0, "an exit opened the other side"
    parts = sum(order.shares.values()) * LOT + sum(map(Decimal, order.rests.values()))
    assert parts == order.quantity
