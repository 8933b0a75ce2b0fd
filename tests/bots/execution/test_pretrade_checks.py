"""Every refusal of an order, from both sides of its boundary: pure, a row each."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from bots.execution import pretrade_checks
from bots.execution.netting import CLOSE, CROSS, FLATTEN, OPEN, ROLL_CLOSE, ROLL_OPEN
from bots.execution.pretrade_checks import AccountSnapshot, Limits, Refusal, check
from bots.execution.states import State

BAR = dt.datetime(2026, 6, 1, 4, 0, tzinfo=dt.UTC)
BAR_BEFORE = BAR - dt.timedelta(minutes=15)
NAME, OTHER_NAME = "NIFTY 2026-06-30 FUT", "NIFTY 2026-07-28 FUT"
SLOT, OTHER_SLOT = "nifty-15m", "nifty-1h"
LOT = 65
PRICE = Decimal(24_000)
WITHIN = Limits(lots=4, notional=Decimal(20_000_000), quantity=Decimal(12 * LOT))
"""What the orders of this table stay within, unless a row says otherwise."""

Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asking:
    """An order to buy two lots, unless a row says otherwise."""

    tag: str = "T1ITSELF"
    bot: str = "nifty"
    instrument: str = NAME
    quantity: Decimal = Decimal(2 * LOT)
    state: str = State.INTENT
    leg: str = OPEN
    shares: Mapping[str, int] = field(default_factory=lambda: {SLOT: 2})
    bar_closes_at: dt.datetime = BAR
    reference_price: Decimal = PRICE


def trading(lots: int, leg: str = OPEN, slot: str = SLOT, **others: Any) -> Asking:
    """Return an order of one slot's lots."""
    return Asking(quantity=Decimal(lots * LOT), leg=leg, shares={slot: lots}, **others)


def sibling(lots: int, state: str = State.ACKED, **others: Any) -> Asking:
    """Return another order of the bot: a leg of the same decision, unless told otherwise."""
    return trading(lots, **{"tag": "T1SIBLING", "leg": CLOSE, **others}, state=state)


def of_another(state: str, instrument: str = NAME) -> Asking:
    """Return an order of another bot of the same account."""
    return Asking(tag="T1ANOTHER", bot="personal", state=state, instrument=instrument)


def standing(**changes: Any) -> AccountSnapshot:
    """Return the standing of an account where all is well and nothing is held."""
    return AccountSnapshot(
        **{
            "halted": "",
            "flattens": False,
            "reduces_only": False,
            "stopped": {},
            "in_flight": [],
            "lots": {},
            "held": Decimal(0),
            "sent_this_second": 0,
            "sent_this_minute": 0,
            "sent_today": 0,
            "price": PRICE,
            **changes,
        }
    )


def holding(lots: int, **changes: Any) -> Changes:
    """Return what differs where one slot holds lots."""
    return {"lots": {SLOT: lots}, "held": Decimal(lots * LOT), **changes}


def moved_to(price: str) -> Changes:
    """Return what differs where the venue shows another price than the one decided at."""
    return {"price": Decimal(price)}


def dust(quantity: int | str, leg: str = OPEN) -> Asking:
    """Return an order of less than a lot, which counts for none of its slot's."""
    return Asking(quantity=Decimal(quantity), leg=leg, shares={SLOT: 0})


BUY, SELL = trading(2), trading(-2)
HALTED = {"halted": "by a person"}
FLATTENS = {"halted": "by a person", "flattens": True}
LATCHED = {"reduces_only": True}
FAR = {"price": PRICE * 2, "margin": (Decimal(2), Decimal(1))}
"""A price beyond the collar, and no margin either: only what reduces may pass."""
HALTS, LATCH, DOES_NOT_CLOSE = "halted: by a person", "daily loss limit", "does not close"
COLLAR, OPPOSITE = "the collar is 3%", "would only close that"


def row(
    name: str,
    order: Asking,
    changes: Changes | None = None,
    reason: str = "",
    allowed: Limits = WITHIN,
) -> ParameterSet:
    """Return one row: an order, how its account differs from one where all is well, and why not."""
    return pytest.param(order, changes or {}, allowed, reason, id=name)


ROWS = [
    row("nothing held and nothing wrong", BUY),
    # A halt, and a person's word to flatten all the same.
    row("halted, a buy", BUY, HALTED, HALTS),
    row("halted, an exit", trading(-2, CLOSE), holding(2) | HALTED, HALTS),
    row("halted, a flatten unasked", trading(-2, FLATTEN), holding(2) | HALTED, HALTS),
    row("flattening, an exit", trading(-2, CLOSE), holding(2) | FLATTENS, HALTS),
    row("flattening, a flatten", trading(-2, FLATTEN), holding(2) | FLATTENS),
    # A stopped instrument.
    row("stopped", BUY, {"stopped": {NAME: "differs"}}, f"{NAME} is stopped: differs"),
    row("stopped, an exit", trading(-2), holding(2, stopped={NAME: "x"}), "is stopped"),
    row("another is stopped", BUY, {"stopped": {OTHER_NAME: "differs"}}),
    row("stopped, a flatten", trading(-2, FLATTEN), holding(2, stopped={NAME: "x"})),
    # Counts of orders: of the bot a day and a minute, of the account a second.
    row("99 orders today", BUY, {"sent_today": 99}),
    row("100 orders today", BUY, {"sent_today": 100}, "100 orders today"),
    row("101 orders today", BUY, {"sent_today": 101}, "101 orders today"),
    row("9 orders in a minute", BUY, {"sent_this_minute": 9}),
    row("10 orders in a minute", BUY, {"sent_this_minute": 10}, "10 orders within one minute"),
    row("7 orders in a second", BUY, {"sent_this_second": 7}),
    row("8 orders in a second", BUY, {"sent_this_second": 8}, "within one second"),
    row("counts bind exits", trading(-2), holding(2, sent_today=100), "100 orders today"),
    # Orders in flight of the same bot.
    *(
        row(f"own {state}", BUY, {"in_flight": [sibling(2, state)]}, f"T1SIBLING is {state}")
        for state in (State.SUBMITTING, State.UNKNOWN, State.LATE, State.PARTIAL)
    ),
    row("own acked of the same bar", BUY, {"in_flight": [sibling(-2)]}),
    row(
        "own acked of the bar before",
        BUY,
        {"in_flight": [sibling(2, bar_closes_at=BAR_BEFORE)]},
        "T1SIBLING is acked",
    ),
    row(
        "own unknown elsewhere",
        BUY,
        {"in_flight": [sibling(2, State.UNKNOWN, instrument=OTHER_NAME)]},
        "is unknown",
    ),
    row("itself in flight", BUY, {"in_flight": [Asking(state=State.UNKNOWN)]}),
    row(
        "itself and a doubtful one",
        BUY,
        {"in_flight": [Asking(state=State.SUBMITTING), sibling(2, State.LATE)]},
        "T1SIBLING is late",
    ),
    # Orders in flight of the account's other bots.
    *(
        row(
            f"another's {state}",
            BUY,
            {"in_flight": [of_another(state)]},
            f"T1ANOTHER of personal is {state}",
        )
        for state in (State.SUBMITTING, State.UNKNOWN, State.LATE)
    ),
    *(
        row(f"another's {state}", BUY, {"in_flight": [of_another(state)]})
        for state in (State.ACKED, State.PARTIAL)
    ),
    row("another's unknown elsewhere", BUY, {"in_flight": [of_another(State.UNKNOWN, OTHER_NAME)]}),
    row(
        "another's acked, then an own unknown",
        BUY,
        {"in_flight": [of_another(State.ACKED), sibling(2, State.UNKNOWN)]},
        "T1SIBLING is unknown",
    ),
    row(
        "a leg of the decision, then another's unknown",
        BUY,
        {"in_flight": [sibling(-2), of_another(State.UNKNOWN)]},
        "T1ANOTHER of personal is unknown",
    ),
    # Legs of the same decision count as filled already.
    row("a flip's second leg", trading(-4), holding(4, in_flight=[sibling(-4)])),
    row("and one lot more", trading(-5), holding(4, in_flight=[sibling(-4)]), "-5 lots"),
    row("two legs up to the limit", trading(1), {"in_flight": [sibling(3)]}),
    row("two legs beyond it", trading(2), {"in_flight": [sibling(3)]}, "hold 5 lots"),
    row("a leg of another slot", trading(4), {"in_flight": [sibling(4, slot=OTHER_SLOT)]}),
    row("and a sale", trading(-4), {"in_flight": [sibling(-4, slot=OTHER_SLOT)]}),
    row("a second leg is new risk", SELL, holding(2, in_flight=[sibling(-2)]) | FAR, COLLAR),
    row("a second leg that closes", trading(-2), holding(0, in_flight=[sibling(2)]) | FAR),
    # The day's loss: only what reduces, and the second half of a roll.
    row("latched, a buy", BUY, LATCHED, LATCH),
    row("latched, a sale", SELL, LATCHED, LATCH),
    row("latched, an increase", trading(1), holding(2) | LATCHED, LATCH),
    row("latched, a reduction", trading(-1), holding(2) | LATCHED),
    # The owner has narrowed the limit while more is held: each exit is a step towards it.
    row(
        "a reduction above a lowered limit",
        trading(-1, CLOSE),
        holding(4),
        allowed=Limits(2, Decimal(10**9)),
    ),
    row("latched, a close", trading(-2), holding(2) | LATCHED),
    row("latched, a short's close", trading(2), holding(-2) | LATCHED),
    row("latched, through zero", trading(-3), holding(2) | LATCHED, LATCH),
    row("latched, a roll's close", trading(-2, ROLL_CLOSE), holding(2) | LATCHED),
    row(
        "latched, a roll's second leg",
        trading(2, ROLL_OPEN, instrument=OTHER_NAME),
        holding(2, in_flight=[sibling(-2, leg=ROLL_CLOSE)]) | LATCHED,
    ),
    row(
        "latched, one slot of two adds",
        Asking(quantity=Decimal(-LOT), shares={SLOT: -2, OTHER_SLOT: 1}),
        holding(2) | LATCHED,
        LATCH,
    ),
    # A flatten closes, and no more.
    row("a flatten of less", trading(-1, FLATTEN), holding(2)),
    row("a flatten of all", trading(-2, FLATTEN), holding(2)),
    row("a flatten of more", trading(-3, FLATTEN), holding(2), DOES_NOT_CLOSE),
    row("a flatten of nothing", trading(-1, FLATTEN), holding(0), DOES_NOT_CLOSE),
    row("a flatten that adds", trading(1, FLATTEN), holding(2), DOES_NOT_CLOSE),
    row(
        "a flatten of more than its slot's",
        trading(-3, FLATTEN),
        {"lots": {SLOT: 2, OTHER_SLOT: 2}, "held": Decimal(4 * LOT)},
        f"{SLOT} holds 2 lots: -3 {DOES_NOT_CLOSE}",
    ),
    row("a flatten at any price", trading(-2, FLATTEN), holding(2) | FAR),
    # Less than a lot, which no slot counts.
    row("a flatten of dust", dust(-20, FLATTEN), {"held": Decimal(20)} | FAR),
    row("a flatten of dust there is not", dust(-20, FLATTEN), {}, f"-20 {DOES_NOT_CLOSE} that"),
    row("a flatten of too much dust", dust(-20, FLATTEN), {"held": Decimal(19)}, DOES_NOT_CLOSE),
    row("latched, dust", dust(-20), {"held": Decimal(20)} | LATCHED),
    # Units far below one, as bitcoin is traded in.
    row("a little more", dust("0.01"), {"held": Decimal("0.5")} | FAR, COLLAR),
    row("a little less", dust("-0.01"), {"held": Decimal("0.5")} | FAR),
    row("against a little", dust("0.01"), {"owners": Decimal("-0.5")}, OPPOSITE),
    # Whole lots of a slot, long and short.
    row("4 lots", trading(4)),
    row("5 lots", trading(5), {}, f"{SLOT} would hold 5 lots, its limit is 4"),
    row("4 lots short", trading(-4)),
    row("5 lots short", trading(-5), {}, "hold -5 lots, its limit is 4"),
    row("3 lots and 1 more", trading(1), holding(3)),
    row("3 lots and 2 more", trading(2), holding(3), "hold 5 lots"),
    row("3 lots and 7 off", trading(-7), holding(3)),
    row("3 lots and 8 off", trading(-8), holding(3), "hold -5 lots"),
    row(
        "slots that cross at their limits",
        Asking(quantity=Decimal(0), leg=CROSS, shares={SLOT: 4, OTHER_SLOT: -4}),
        FAR,
    ),
    row(
        "a slot that crosses beyond its limit",
        Asking(quantity=Decimal(0), leg=CROSS, shares={SLOT: 4, OTHER_SLOT: -5}),
        {},
        f"{OTHER_SLOT} would hold -5 lots",
    ),
    # What reduces passes the limits on price and size; what goes through zero does not.
    row("an exit at any price", trading(-1), holding(2) | FAR),
    row("a close at any price", trading(-2), holding(2) | FAR),
    row("through zero at any price", trading(-3), holding(2) | FAR, COLLAR),
    row("an increase at any price", trading(1), holding(2) | FAR, COLLAR),
    row("a short's close at any price", trading(2), holding(-2) | FAR),
    row("an exit above the notional", trading(-1), holding(4), allowed=Limits(4, Decimal(1))),
    # The collar, from the price of the decision.
    row("3 % up", BUY, moved_to("24720")),
    row("more than 3 % up", BUY, moved_to("24720.01"), COLLAR),
    row("3 % down", BUY, moved_to("23280")),
    row("more than 3 % down", BUY, moved_to("23279.99"), COLLAR),
    row("more than 3 %, a sale", SELL, moved_to("24720.01"), COLLAR),
    row("no price is known", BUY, {"price": None}),
    row("nor was one", trading(2, reference_price=Decimal(0))),
    # Units of the whole bot.
    row("780 units", BUY, {"held": Decimal(650)}),
    row("781 units", BUY, {"held": Decimal(651)}, "would hold 781, its limit is 780"),
    row("780 units short", SELL, {"held": Decimal(-650)}),
    row("781 units short", SELL, {"held": Decimal(-651)}, "would hold 781"),
    row("no limit of units", BUY, {"held": Decimal(651)}, allowed=Limits(4, Decimal(10**9))),
    # What the whole bot is worth, at the venue's price, with the owner's share.
    row("worth its limit", BUY, allowed=Limits(4, 130 * PRICE)),
    row(
        "worth more",
        BUY,
        {},
        "the bot would hold 3120000, its limit",
        allowed=Limits(4, 130 * PRICE - 1),
    ),
    row("short, worth its limit", SELL, allowed=Limits(4, 130 * PRICE)),
    row(
        "short, worth more",
        SELL,
        {},
        "the bot would hold 3120000",
        allowed=Limits(4, 130 * PRICE - 1),
    ),
    row(
        "at the venue's price",
        BUY,
        moved_to("24001"),
        "hold 3120130",
        allowed=Limits(4, 130 * PRICE),
    ),
    row(
        "at the price decided at",
        BUY,
        {"price": None},
        "3120000",
        allowed=Limits(4, 130 * PRICE - 1),
    ),
    row("with what is held", BUY, holding(1), allowed=Limits(4, 195 * PRICE)),
    row(
        "and more",
        BUY,
        holding(1),
        "the bot would hold 4680000",
        allowed=Limits(4, 195 * PRICE - 1),
    ),
    row("with the owner's", BUY, {"owners": Decimal(65)}, allowed=Limits(4, 195 * PRICE)),
    row(
        "and more than that",
        BUY,
        {"owners": Decimal(65)},
        "with the owner's +65 it would hold 4680000, its limit is 4679999",
        allowed=Limits(4, 195 * PRICE - 1),
    ),
    row("no limit at all", BUY, {}, "its limit is 0", allowed=Limits(4, Decimal(0))),
    # Against what the owner holds in the same account.
    row("the owner is short", BUY, {"owners": Decimal(-1)}, OPPOSITE),
    row("the owner is long", SELL, {"owners": Decimal(1)}, OPPOSITE),
    row("an increase beside it", BUY, holding(1, owners=Decimal(-1)), OPPOSITE),
    row("an exit beside it", trading(-1), holding(2, owners=Decimal(-1))),
    row("on the owner's side", SELL, {"owners": Decimal(-1)}),
    # Margin, where the venue says what it needs.
    row("all that is free", BUY, {"margin": (Decimal(100), Decimal(100))}),
    row(
        "more than is free",
        BUY,
        {"margin": (Decimal("100.01"), Decimal(100))},
        "it needs a margin of 100, and 100 is free",
    ),
    row("no margin is said", BUY, {"margin": None}),
]


@pytest.mark.parametrize(("order", "changes", "allowed", "reason"), ROWS)
def test_an_order_is_refused_exactly_beyond_its_limit(
    order: Asking, changes: Changes, allowed: Limits, reason: str
) -> None:
    refused = check(order, standing(**changes), allowed)
    if not reason:
        assert refused is None
    else:
        assert refused is not None and reason in refused.reason


@pytest.mark.parametrize(
    ("changes", "is_loop"),
    [
        ({"sent_today": 100}, True),
        ({"sent_this_minute": 10}, True),
        ({"sent_this_second": 8}, False),
        (HALTED, False),
    ],
)
def test_only_a_bot_that_runs_away_is_taken_for_one(changes: Changes, is_loop: bool) -> None:
    refused = check(BUY, standing(**changes), WITHIN)
    assert refused is not None and refused.is_loop is is_loop


def test_a_bot_may_be_given_other_limits() -> None:
    tight = Limits(4, Decimal(10**9), None, 3, 2, 1, Decimal("0.01"))
    assert check(BUY, standing(sent_today=2, sent_this_minute=1), tight) is None
    for changes in ({"sent_today": 3}, {"sent_this_minute": 2}, {"sent_this_second": 1}):
        assert check(BUY, standing(**changes), tight) is not None
    assert check(BUY, standing(price=PRICE * Decimal("1.01")), tight) is None
    assert check(BUY, standing(price=PRICE * Decimal("1.0101")), tight) is not None


def test_the_limits_of_every_bot_are_these() -> None:
    assert (
        pretrade_checks.ORDERS_A_DAY,
        pretrade_checks.ORDERS_A_MINUTE,
        pretrade_checks.ORDERS_A_SECOND,
    ) == (100, 10, 8)
    assert pretrade_checks.REFUSALS_IN_A_ROW == 3
    assert Decimal("0.03") == pretrade_checks.COLLAR
    assert Limits(4, Decimal(1)) == Limits(4, Decimal(1), None, 100, 10, 8, Decimal("0.03"))


def test_a_refusal_is_quiet_unless_it_says_otherwise() -> None:
    assert Refusal("no") == Refusal("no", is_loop=False, is_told=False)
    assert standing().owners == 0 and standing().margin is None
