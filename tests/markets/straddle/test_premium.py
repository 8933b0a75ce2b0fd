"""Which ticks are believed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.straddle.premium import BELIEVED_AFTER, LARGEST_PAISE, MessageTime, Price, paise
from markets.venues.base import Tick
from tradingsite import clock

NOW = 1_780_000_000.0


def tick(last: float, at: float = NOW, bid: float = 0.0, ask: float = 0.0) -> Tick:
    """Return a tick."""
    return Tick("NIFTY", last, bid, ask, 0, 0, clock.from_seconds(at))


@pytest.mark.parametrize("last", [0.0, -1.0, math.nan, math.inf, -math.inf, 0.001, 3e7])
def test_what_is_no_price_is_none(last: float) -> None:
    assert paise(last) is None
    price = Price(is_index=False)
    assert price.take(tick(last), NOW, 30.0) == "empty"
    assert price.paise == 0


@given(st.integers(1, LARGEST_PAISE))
def test_whole_paise_stay_what_they_are(value: int) -> None:
    assert paise(value / 100) == value


def test_a_price_ten_times_the_last_is_absurd_once_and_true_when_it_stays() -> None:
    price = Price(is_index=True)
    assert price.take(tick(25_000.0), NOW, 30.0) is None
    assert price.take(tick(250_000.0), NOW, 30.0) == "absurd"
    assert price.take(tick(25_010.0), NOW, 30.0) is None
    for _ in range(BELIEVED_AFTER - 1):
        assert price.take(tick(28_000.0), NOW, 30.0) == "absurd"
    assert price.take(tick(28_000.0), NOW, 30.0) is None
    assert price.paise == 2_800_000


def test_an_option_is_judged_by_its_book_where_it_has_one() -> None:
    price = Price(is_index=False)
    assert price.take(tick(100.0, bid=99.9, ask=100.1), NOW, 30.0) is None
    assert price.take(tick(1_000.0, bid=99.9, ask=100.1), NOW, 30.0) == "absurd"
    # The book went along: that is a fast market.
    assert price.take(tick(900.0, bid=899.0, ask=901.0), NOW, 30.0) is None
    assert price.take(tick(0.05, bid=0.05, ask=12.0), NOW, 30.0) is None


def test_old_misdated_and_late_ticks_are_stale() -> None:
    price = Price(is_index=True)
    assert price.take(tick(25_000.0), NOW, 30.0) is None
    assert price.take(tick(25_001.0, NOW - 31), NOW, 30.0) == "stale"
    assert price.take(tick(25_001.0, NOW + 31), NOW, 30.0) == "stale"
    assert price.take(tick(25_001.0, NOW - 1), NOW, 30.0) == "stale"
    assert price.paise == 2_500_000
    assert price.is_fresh(NOW + 30, 30.0)
    assert not price.is_fresh(NOW + 31, 30.0)
    assert not Price(is_index=True).is_fresh(NOW, 30.0)


def test_the_exchanges_time_goes_on_between_messages_and_is_no_one_packets() -> None:
    time = MessageTime()
    assert time.hear([NOW, NOW, NOW + 9_999], 100.0, 1.0) == NOW
    # A feed that repeats itself grows old.
    assert time.hear([NOW, NOW], 140.0, 1.0) == NOW + 40
    assert time.hear([NOW + 41], 141.0, 48.0) == NOW + 41
    assert time.hear([NOW + 41], 142.0, 48.0) == NOW + 89
