import pytest

from markets.domain.timeframes import SECONDS, seconds
from tradingsite.registry import CONTEXTS, MARKETS


def test_every_timeframe_of_the_registry_has_a_length() -> None:
    used = {timeframe for market in MARKETS.values() for timeframe in market.timeframes}
    used |= {timeframe for contexts in CONTEXTS.values() for timeframe in contexts}
    assert used <= set(SECONDS)


def test_contexts_are_longer_than_the_timeframe_they_join() -> None:
    for (_, timeframe), contexts in CONTEXTS.items():
        assert all(seconds(context) > seconds(timeframe) for context in contexts)


def test_unknown_timeframe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'7m'.*15m, 1h, 4h, 1d"):
        seconds("7m")
