"""The tables of markets, bots and slots."""

import pytest

from tradingsite.registry import BOTS, CONTEXTS, MARKETS, SLOTS, find_slot


def test_there_are_six_slots() -> None:
    assert list(SLOTS) == ["nifty-15m", "nifty-1h", "nifty-1d", "btc-1h", "btc-4h", "personal-1d"]


def test_every_slot_trades_a_timeframe_of_its_market() -> None:
    for slug, slot in SLOTS.items():
        assert slug == slot.slug
        assert slot.timeframe in MARKETS[slot.market].timeframes
        assert (slot.market, slot.timeframe) in CONTEXTS


def test_contexts_are_higher_timeframes_of_the_same_market() -> None:
    for (market, timeframe), higher in CONTEXTS.items():
        order = MARKETS[market].timeframes
        assert all(order.index(each) > order.index(timeframe) for each in higher)


def test_bots_hold_enough_lots_for_every_action() -> None:
    assert all(bot.limit_lots >= 4 for bot in BOTS.values())
    assert all(bot.daily_loss_limit > 0 for bot in BOTS.values())


def test_an_unknown_slot_is_answered_with_the_known_ones() -> None:
    assert find_slot("btc", "4h") is SLOTS["btc-4h"]
    with pytest.raises(ValueError, match="no slot btc 15m; the slots are: nifty 15m"):
        find_slot("btc", "15m")
