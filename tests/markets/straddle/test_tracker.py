"""What the child says is missing: before its first message, between two, and at its end."""

import datetime as dt
import json
import os
import threading
import time
from collections.abc import Callable

import pytest

from markets.straddle import tracker
from markets.straddle.reports import Report
from markets.straddle.roller import Began, Ended, Follower, Missed
from markets.straddle.tracker import Tracker
from markets.straddle.underlyings import Underlying
from markets.venues.kite.ticker import State
from tests.markets.straddle.chains import TEN, chain, key, option, spot
from tradingsite import clock

SECOND = dt.timedelta(seconds=1)
CLOSES_AT = TEN + 3_600 * SECOND


@pytest.fixture
def child(
    set_market: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Tracker]:
    """Return a function that makes a child whose session opened at ten, without a stream."""
    set_market(TEN)
    monkeypatch.setattr(tracker.clock, "speed", lambda: 1.0)

    def make() -> Tracker:
        opens_at, closes_at = (clock.epoch(each) for each in (TEN, CLOSES_AT))
        found = Tracker(opens_at, closes_at, threading.Event())
        found.followers["NIFTY"] = Follower(Underlying("NIFTY", (0,)), chain())
        monkeypatch.setattr(found.writer, "finish", lambda seconds: 0)
        return found

    return make


def missed(found: Tracker) -> list[Missed]:
    """Return what is said to be missing."""
    return [each for each in found.buffer.peek() if isinstance(each, Missed)]


def test_what_came_before_the_first_message_is_missing_from_the_open_on(
    child: Callable[..., Tracker],
) -> None:
    found = child()
    found._take(0.0, [spot(25_000.0, TEN + 2 * SECOND)])
    assert missed(found) == []
    late = child()
    at = TEN + 10 * SECOND
    late._take(0.0, [spot(25_000.0, at)])
    assert missed(late) == [Missed(TEN, at, None, "nothing followed the straddle")]
    assert Began(key(since=at)) in late.buffer.peek()


def test_a_silence_is_a_gap_with_its_reason(child: Callable[..., Tracker]) -> None:
    found = child()
    found._take(100.0, [spot(25_000.0, TEN)])
    found._take(102.0, [spot(25_000.0, TEN + 2 * SECOND)])
    assert missed(found) == []
    found._worst = State.WAITING
    found._take(109.0, [spot(25_000.0, TEN + 9 * SECOND)])
    found._take(117.0, [spot(25_000.0, TEN + 17 * SECOND)])
    waiting = "no ticks came for 7 s; the stream: waiting for a new token"
    assert missed(found) == [
        Missed(TEN + 2 * SECOND, TEN + 9 * SECOND, None, waiting),
        Missed(
            *(TEN + 9 * SECOND, TEN + 17 * SECOND, None),
            "no ticks came for 8 s; the stream: connected",
        ),
    ]


def test_a_feed_that_never_came_back_is_missing_until_the_end_but_not_beyond_the_close(
    child: Callable[..., Tracker], set_market: Callable[..., None]
) -> None:
    found = child()
    found._take(time.monotonic() - 60.0, [spot(25_000.0, TEN)])
    set_market(CLOSES_AT + 30 * SECOND)
    found._finish()
    reason = "no ticks came until the tracker stopped; the stream: connected"
    assert missed(found) == [Missed(TEN, CLOSES_AT, None, reason)]
    assert found.buffer.peek()[-1] == Ended(key(), TEN, "stopped")
    # One that was there until the close misses nothing, though it stops a little later.
    well = child()
    well._take(time.monotonic() - 60.0, [spot(25_000.0, CLOSES_AT - SECOND)])
    well.buffer.drop(1)
    well._finish()
    assert [each for each in missed(well) if each.began_at > TEN] == []


def test_the_report_says_how_the_child_stands(child: Callable[..., Tracker]) -> None:
    found = child()
    assert found.report().sentence == "follows NIFTY not yet"
    found._take(time.monotonic(), [spot(25_000.0), option(25_000, "CE", 0.0)])
    found.writer.trouble = "connection refused"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    found.report().send(writer)
    line = os.read(reader, 4_096)
    report = Report.read(line)
    assert report is not None
    assert report == found.report()
    assert report.empty == 1
    assert report.sentence == (
        "follows NIFTY 25000; 1 ticks wait for PostgreSQL: connection refused"
    )
    # Whoever does not read holds nobody up, and what is no report is none.
    for _ in range(1_000):
        report.send(writer)
    os.close(reader)
    report.send(writer)
    os.close(writer)
    assert Report.read(b"Unhandled error in Deferred") is None
    assert Report.read(json.dumps({"colour": "red"}).encode()) is None
