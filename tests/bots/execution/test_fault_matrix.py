"""The matrix of what goes wrong with orders: each fault by its number, and the tests that prove it.

A test that is renamed or removed fails here, so that no row is ever covered by a memory.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
KILLED = (
    "bots/live/test_killed.py::"
    "test_killed_at_every_failpoint_the_bot_is_never_wrong_about_its_orders"
)
SCHEDULES = "bots/execution/test_protocol.py::test_thousands_of_schedules_keep_every_invariant"
BROKER, EXCHANGE = (
    "bots/execution/test_kite_orders.py::",
    "bots/execution/test_exchange_orders.py::",
)
FAULTS, RECONCILE = "bots/execution/test_broker_faults.py::", "bots/execution/test_reconcile.py::"
ORDERS, RUNNER = "bots/execution/test_orders.py::", "bots/live/test_runner.py::"

MATRIX: dict[str, tuple[str, ...]] = {
    # Killed before the intent, after it, before and after sending, before and during the fills.
    "F01": (KILLED, SCHEDULES),
    "F02": (KILLED, SCHEDULES),
    "F03": (KILLED, SCHEDULES),
    "F04": (
        KILLED,
        SCHEDULES,
        f"{RECONCILE}test_a_crash_anywhere_leaves_no_duplicate_and_no_orphan",
    ),
    "F05": (KILLED, SCHEDULES, f"{ORDERS}test_a_fill_told_twice_is_booked_once"),
    # Time-out, reset, 5xx, a body that is no JSON.
    "F06": (
        f"{BROKER}test_what_is_lost_is_unknown_sent_once_and_ends_when_the_day_is_over",
        f"{BROKER}test_what_arrived_without_an_answer_is_found_by_its_tag",
        f"{EXCHANGE}test_what_is_lost_is_unknown_sent_once_and_ends_as_its_nonce_is_used_up",
        f"{EXCHANGE}test_what_arrived_without_an_answer_is_found_by_its_own_id",
        "markets/venues/kite/test_trading.py::test_what_may_have_arrived_is_uncertain_and_sent_once",
    ),
    # A 400 that says nothing for sure.
    "F07": (f"{BROKER}test_what_arrived_without_an_answer_is_found_by_its_tag",),
    # Stuck on its way, for long.
    "F08": (
        f"{FAULTS}test_an_order_stuck_on_its_way_blocks_the_next_and_fills_once",
        f"{RECONCILE}test_an_order_the_book_does_not_show_stays_unknown_until_it_does",
        f"{ORDERS}test_an_accepted_order_blocks_new_risk_until_it_is_filled",
    ),
    # Later than any window.
    "F09": (
        SCHEDULES,
        "bots/execution/test_protocol.py::test_giving_up_after_two_minutes_is_found_out",
        f"{RECONCILE}test_an_order_given_up_that_arrives_is_taken_in",
    ),
    # The book fails, or is empty.
    "F10": (
        f"{BROKER}test_a_book_that_reads_empty_changes_nothing",
        f"{RECONCILE}test_a_book_that_cannot_be_read_proves_nothing",
        f"{EXCHANGE}test_a_book_that_cannot_be_read_proves_nothing",
    ),
    # A definite refusal.
    "F11": (
        f"{BROKER}test_a_known_refusal_is_final_and_never_sent_again",
        f"{EXCHANGE}test_a_known_refusal_is_final_and_never_sent_again",
        f"{ORDERS}test_refusals_are_final_and_three_in_a_row_halt",
    ),
    # Too fast.
    "F12": (
        f"{BROKER}test_a_known_refusal_is_final_and_never_sent_again",
        f"{EXCHANGE}test_what_is_lost_is_unknown_sent_once_and_ends_as_its_nonce_is_used_up",
        "markets/venues/kite/test_trading.py::test_too_fast_is_a_refusal_and_everybody_slows_down",
        "markets/venues/kite/test_venue.py::test_by_the_real_rules_the_broker_refuses_nothing",
    ),
    # Filled in part, then over.
    "F13": (
        f"{BROKER}test_a_partial_fill_is_kept_and_the_rest_follows",
        f"{EXCHANGE}test_what_fills_in_part_is_cancelled_and_the_rest_is_traded_with_the_next",
    ),
    # A cancellation that fails.
    "F14": (f"{FAULTS}test_a_cancellation_that_fails_is_asked_again",),
    # The position is another: by hand, squared off, liquidated.
    "F16": (
        f"{FAULTS}test_what_the_broker_squares_off_without_a_trace_stops_the_instrument",
        f"{RECONCILE}test_a_position_that_differs_stops_its_instrument_and_a_person_adopts_it",
        f"{BROKER}test_the_owner_closes_what_the_bot_held_and_no_exit_opens_the_other_side",
        f"{EXCHANGE}test_an_exit_can_only_reduce",
    ),
    # The token dies in the middle of the day.
    "F17": (f"{FAULTS}test_a_token_that_dies_at_noon_ends_trading_until_somebody_signs_in",),
    "F18": (
        "markets/venues/kite/test_ticker.py::test_a_refused_token_is_not_offered_again",
        "markets/venues/kite/test_ticker.py::test_a_token_refused_after_the_handshake_is_refused_all_the_same",
        "markets/venues/kite/test_ticker.py::test_a_refusal_may_be_a_mistake",
    ),
    # The login job fails.
    "F19": (
        "markets/capture/test_token_refresh.py::"
        "test_it_tries_until_the_deadline_and_then_says_that_there_is_no_trading",
        "markets/capture/test_token_refresh.py::test_a_refused_login_is_never_repeated",
    ),
    # Two bots.
    "F20": (f"{RUNNER}test_a_second_process_of_a_bot_waits_and_names_the_first",),
    # The kill switch.
    "F21": (
        SCHEDULES,
        f"{ORDERS}test_a_halted_bot_places_nothing",
        f"{RECONCILE}test_a_halted_bots_open_orders_are_cancelled",
        "bots/execution/test_kill_switch.py::"
        "test_a_halted_bot_that_is_to_flatten_closes_what_is_its_own_and_nothing_else",
    ),
    # A runaway loop.
    "F22": (
        f"{ORDERS}test_a_runaway_bot_is_halted",
        f"{ORDERS}test_no_slot_goes_over_its_limit",
        f"{ORDERS}test_parts_of_lots_count_against_the_bots_limit",
    ),
    # Old code left on one process.
    "F23": (
        "monitoring/test_deciding.py::test_code_left_behind_is_told_until_it_is_restarted",
        "monitoring/test_deciding.py::test_settings_that_differ_are_told",
    ),
    # The list of the day changed, or is stale.
    "F24": (
        f"{FAULTS}test_an_order_is_held_against_todays_list_and_not_yesterdays_lot",
        f"{FAULTS}test_a_contract_that_left_the_list_is_not_traded",
        "markets/capture/instruments/test_daily.py::test_mondays_list_is_stale_when_tuesdays_is_due",
    ),
    # Expiry, rollover, a holiday that moves it.
    "F25": (
        f"{RUNNER}test_a_day_over_a_roll_trades_as_the_replay_does",
        f"{ORDERS}test_a_roll_keeps_the_positions_entry_and_age",
        "markets/capture/instruments/test_daily.py::test_an_expiry_moved_by_a_holiday_is_the_lists_own",
    ),
    # Holidays, half days, years nobody knows.
    "F26": (
        "markets/domain/test_calendar.py::test_orders_fail_closed_where_a_day_is_not_confirmed",
        "markets/domain/test_calendar.py::test_the_calendar_ends_instead_of_guessing",
        f"{RUNNER}test_a_market_without_a_feed_is_not_decided_on",
    ),
    # A market order without protection.
    "F27": (f"{FAULTS}test_every_market_order_asks_for_the_brokers_protection",),
}
NOT_DONE = {"F15": "no protective stop is placed at the broker, so none can be missing"}


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of a file's tests."""
    # Only what stands at the top of a file is collected, and none of these may be marked to skip.
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not any("skip" in ast.unparse(each) for each in node.decorator_list)
    )


def test_every_row_is_covered_or_said_not_to_be() -> None:
    rows = {f"F{number:02}" for number in range(1, 28)}
    assert MATRIX.keys() | NOT_DONE.keys() == rows
    assert not MATRIX.keys() & NOT_DONE.keys()
    assert NOT_DONE.keys() == {"F15"}, "a row is not given up in passing"
    assert all(MATRIX.values())


@pytest.mark.parametrize("row", sorted(MATRIX))
def test_what_covers_it_is_there(row: str) -> None:
    for name in MATRIX[row]:
        file, _, test = name.partition("::")
        assert test in names_in(TESTS / file), name
