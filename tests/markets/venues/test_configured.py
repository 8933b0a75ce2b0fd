"""The venues as the settings describe them."""

import pytest
from django.conf import settings

from markets.venues.configured import kite_limiter
from markets.venues.limiter import KITE_RULES


@pytest.mark.parametrize(("mode", "speed"), [("simulated", 48.0), ("paper", 1.0), ("live", 1.0)])
def test_a_quicker_market_has_a_quicker_broker(
    mode: str, speed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MODE", mode)
    monkeypatch.setattr(settings, "SIM_SPEED", 48.0)
    rules = kite_limiter().rules
    assert [rule.limit for rule in rules] == [rule.limit for rule in KITE_RULES]
    assert [rule.seconds for rule in rules] == [rule.seconds / speed for rule in KITE_RULES]
