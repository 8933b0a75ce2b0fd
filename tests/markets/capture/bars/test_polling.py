"""Polling a venue: from when, how often, until when."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from markets.capture.bars import polling
from markets.capture.bars.polling import BarRequest, poll
from markets.domain.bars import Bars
from markets.domain.calendar import CryptoCalendar
from markets.venues.base import DataVenue, RateLimited, TokenRefused
from tests.histories import hours
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded, Retry

BARS = hours(3)
REQUEST = BarRequest(
    "BTC-PERP", "1h", Epoch(BARS.opens_at[0]), Epoch(BARS.closes_at[2]), Epoch(BARS.opens_at[2])
)
Said = Bars | Exception


class Scripted:
    """A venue that says one thing after the other, and the last one for ever."""

    name = "scripted"

    def __init__(self, *said: Said) -> None:
        self._said = list(said)
        self.reads = 0

    def reach_seconds(self, timeframe: str) -> int:
        return 86_400

    def bars(self, instrument: str, timeframe: str, start: int, end: int) -> Bars:
        said = self._said[min(self.reads, len(self._said) - 1)]
        self.reads += 1
        if isinstance(said, Exception):
            raise said
        return said


def other(change: float = 1.0) -> Bars:
    """Return the bars with another last close."""
    close = BARS.close.copy()
    close[2] += change
    high = np.maximum(BARS.high, close)
    return Bars(BARS.opens_at, BARS.closes_at, BARS.open, high, BARS.low, close, BARS.volume)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Sequence[float]:
    """Let no time really pass, and return what was waited for."""
    waited: list[float] = []
    monotonic = time.monotonic
    monkeypatch.setattr(polling.time, "monotonic", lambda: monotonic() + sum(waited))
    monkeypatch.setattr(polling, "pause", waited.append)
    return waited


def ask(*said: Said) -> tuple[polling.PollResult, Scripted]:
    venue = Scripted(*said)
    as_venue: DataVenue = venue  # type: ignore[assignment]  # it has what is read here
    return poll(as_venue, CryptoCalendar(), [REQUEST])[REQUEST], venue


def test_two_equal_reads_a_second_apart_are_enough(waits: Sequence[float]) -> None:
    result, venue = ask(BARS)
    assert result.is_settled and result.problem == "" and len(result.bars) == 3
    assert venue.reads == 2
    assert waits == [pytest.approx(1.0, abs=0.2)]


@pytest.mark.parametrize(
    ("said", "reads"),
    [
        ((other(1), other(2), BARS, BARS), 4),  # it still changes
        ((BARS, other(), BARS, BARS), 4),
        ((BARS.slice(0, 2), BARS.slice(0, 2), BARS, BARS), 4),  # it comes late
        ((Retry("x"), BARS, RateLimited("x"), BARS), 4),
        ((BARS, Degraded("x"), BARS), 3),
        ((Bars.empty(), BARS, BARS), 3),
    ],
)
def test_it_is_asked_until_it_is_said_twice(
    waits: Sequence[float], said: Sequence[Said], reads: int
) -> None:
    result, venue = ask(*said)
    assert (result.is_settled, venue.reads) == (True, reads)
    assert result.bars.close[2] == BARS.close[2]


@pytest.mark.parametrize(
    ("said", "problem", "bars"),
    [
        ((Retry("no answer"),), "no answer", 0),
        ((BARS.slice(0, 2),), "scripted gives no such bar", 2),
        (tuple(map(other, range(20))), "scripted did not say it twice", 3),
    ],
)
def test_after_ten_seconds_it_is_as_it_is(
    waits: Sequence[float], said: Sequence[Said], problem: str, bars: int
) -> None:
    result, venue = ask(*said)
    assert (result.is_settled, result.problem, len(result.bars)) == (False, problem, bars)
    assert venue.reads in (10, 11)
    assert sum(waits) <= polling.PATIENCE_SECONDS


def test_a_refused_token_is_not_asked_again(waits: Sequence[float]) -> None:
    result, venue = ask(TokenRefused("sign in"))
    assert (venue.reads, result.problem, list(waits)) == (1, "sign in", [])


def test_bars_that_are_no_bars_are_not_taken(waits: Sequence[float]) -> None:
    bad = Bars(*(BARS.opens_at, BARS.closes_at, -BARS.open, BARS.high, BARS.low, BARS.close),
               BARS.volume)  # fmt: skip
    result, _ = ask(bad)
    assert "cannot be used" in result.problem and not len(result.bars)


def test_one_want_that_is_late_costs_the_others_nothing(waits: Sequence[float]) -> None:
    class Half(Scripted):
        def bars(self, instrument: str, timeframe: str, start: int, end: int) -> Bars:
            found = super().bars(instrument, timeframe, start, end)
            return found if timeframe == "1h" else Bars.empty()

    venue = Half(BARS)
    as_venue: DataVenue = venue  # type: ignore[assignment]  # it has what is read here
    late = BarRequest("BTC-PERP", "4h", REQUEST.start, REQUEST.end, REQUEST.newest)
    results = poll(as_venue, CryptoCalendar(), [REQUEST, late])
    assert (results[REQUEST].reads, results[REQUEST].is_settled) == (2, True)
    assert results[late].reads >= 10 and results[late].problem


def test_the_constants_are_the_promise() -> None:
    promise = (polling.AFTER_CLOSE_SECONDS, polling.PATIENCE_SECONDS, polling.PAUSE_SECONDS)
    assert promise == (1.0, 10.0, 1.0)


def test_the_job_waits_a_real_second_after_the_close(
    monkeypatch: pytest.MonkeyPatch, set_market: Callable[..., None]
) -> None:
    from markets.capture.bars import job as bars_job
    from markets.capture.bars.due import Due
    from tests.desk import ist

    waited: list[float] = []
    monkeypatch.setattr(polling, "pause", waited.append)
    close = int(ist("2026-06-01 10:15").timestamp())
    set_market(ist("2026-06-01 10:15"), 48.0)
    bars_job._wait_for_close([Due("nifty", Epoch(close), {}, {}, Epoch(close))])
    assert waited == [pytest.approx(1.0, abs=0.3)]  # of real time, however fast the market runs
    set_market(ist("2026-06-01 10:17"), 48.0)
    bars_job._wait_for_close([Due("nifty", Epoch(close), {}, {}, Epoch(close))])
    assert len(waited) == 1
