"""The order protocol under thousands of random schedules of crashes and faults."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from bots.execution import protocol, states
from bots.execution.states import State
from bots.models import Order
from markets.venues.base import Venue
from tests.bots.execution.model import MemoryLedger, Violation, World

SCHEDULES = int(os.environ.get("NIGHTDESK_SCHEDULES", "4000"))
# A wrong protocol must be found out long before that.
TRIES = 1_000


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep thousands of expected errors out of the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def run_all(seeds: range) -> Counter[str]:
    """Run schedules; return how often each state was reached, and crashes."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed, sessions=seed % 3 > 0)
        try:
            world.run()
        except (Violation, states.IllegalMove) as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
        seen["crash"] += world.crashes
        seen["closed for it"] += len(world.ledger.closed)
        seen["told"] += world.ledger.told
        seen.update(f"act {act}" for act, times in world.acts.items() for _ in range(times))
        for story in world.stories().values():
            seen.update(story)
    return seen


def test_the_states_in_the_ledger_are_those_of_the_protocol() -> None:
    assert {str(state) for state in State} == set(Order.State.values)


def test_thousands_of_schedules_keep_every_invariant() -> None:
    seen = run_all(range(SCHEDULES))
    # A schedule that reaches nothing proves nothing.
    assert seen["crash"] > SCHEDULES / 8
    for state in State:
        assert state == State.LATE or seen[state] > SCHEDULES / 200, (state, seen)
    for what in ("closed for it", "told", "act owner", "act convert", "act modify", "act person"):
        assert seen[what] > SCHEDULES / 40, (what, seen)


def outcomes(worlds: Iterator[World]) -> Counter[str]:
    """Run schedules; return how often each invariant was broken."""
    found: Counter[str] = Counter()
    for world in worlds:
        try:
            world.run()
        except Violation as error:
            found[str(error).partition(":")[0]] += 1
    return found


def unfitted(ledger: MemoryLedger, order: Any, legs: Any) -> None:
    """Let an exit out as it is, as the desk did."""


def every_order(ledger: MemoryLedger) -> bool:
    """Compare nothing while any order is in flight, as the desk did."""
    return bool(ledger.in_flight())


def never(ledger: MemoryLedger, order: Any) -> bool:
    """Take no order's day for over, as the desk did of accepted ones."""
    return False


@pytest.mark.parametrize(
    ("method", "wrong", "broken"),
    [
        ("_fit", unfitted, "I11"),
        ("_is_moving", every_order, "I9"),
        ("has_ended", never, "I9"),
    ],
)
def test_what_the_desk_did_before_is_found_out(
    monkeypatch: pytest.MonkeyPatch, method: str, wrong: Any, broken: str
) -> None:
    monkeypatch.setattr(MemoryLedger, method, wrong)
    found = outcomes(World(seed) for seed in range(TRIES))
    assert found[broken], found


def retry_on_timeout(ledger: Any, venue: Venue, order: Any, slippage_bps: float) -> None:
    """Send again what timed out, as many do."""
    if not ledger.begin(order):
        return
    for _ in range(3):
        try:
            venue.place(order.tag, order.instrument, order.quantity, slippage_bps)
        except TimeoutError:
            continue
        except Exception as error:  # noqa: BLE001
            ledger.move(order, State.REJECTED, str(error))
            return
        ledger.move(order, State.ACKED, "")
        return
    ledger.move(order, State.REJECTED, "no answer")


def send_then_store(ledger: Any, venue: Venue, order: Any, slippage_bps: float) -> None:
    """Write down what was sent once it was, as many do."""
    venue.place(order.tag, order.instrument, order.quantity, slippage_bps)
    protocol.fail_at("after_send")
    ledger.begin(order)
    ledger.move(order, State.ACKED, "")


def refuse_on_timeout(ledger: Any, venue: Venue, order: Any, slippage_bps: float) -> None:
    """Take every error for a refusal."""
    if not ledger.begin(order):
        return
    try:
        venue.place(order.tag, order.instrument, order.quantity, slippage_bps)
    except Exception as error:  # noqa: BLE001
        ledger.move(order, State.REJECTED, str(error))
        return
    ledger.move(order, State.ACKED, "")


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [(retry_on_timeout, "I3"), (send_then_store, "I2"), (refuse_on_timeout, "I4")],
)
def test_a_wrong_protocol_is_found_out(wrong: Any, broken: str) -> None:
    found = outcomes(World(seed, wrong) for seed in range(TRIES))
    assert found[broken], found


def test_giving_up_after_two_minutes_is_found_out() -> None:
    def impatient(seed: int) -> World:
        world = World(seed, sessions=False)
        world.broker.rules_out = False
        world.ledger.gives_up_after = 120.0
        return world

    found = outcomes(impatient(seed) for seed in range(TRIES))
    assert found["I4"], found


def test_the_limit_is_what_the_schedules_reach() -> None:
    reached = set()
    for seed in range(100):
        world = World(seed)
        world.run()
        reached.add(abs(world.broker.net()))
    assert Decimal("0.04") in reached
