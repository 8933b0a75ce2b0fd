"""From messages to rows: what is stored, what is counted, and when the money moves."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markets.straddle.premium import Refusal
from markets.straddle.roller import (
    Began,
    Ended,
    Event,
    Follower,
    Missed,
    Resumed,
    Row,
    chain_of,
)
from markets.venues.base import Tick
from tests.markets.straddle.chains import (
    EXPIRY,
    STRIKES,
    TEN,
    chain,
    follower,
    key,
    listed,
    option,
    spot,
)
from tradingsite.errors import Degraded

SECOND = dt.timedelta(seconds=1)


def take(found: Follower, *ticks: Tick, late: float = 0.0) -> list[Event]:
    """Let a follower take a message on its time."""
    expected = max(tick.at for tick in ticks).timestamp() + late
    return found.take(ticks, expected, 30.0)


def rows(events: list[Event]) -> list[tuple[int, int, int, int]]:
    """Return width, number, premium and spot of the rows among events."""
    return [
        (each.series.width, each.number, each.call + each.put, each.spot)
        for each in events
        if isinstance(each, Row)
    ]


def test_the_chain_is_of_the_nearest_expiry_and_of_whole_pairs() -> None:
    found = chain()
    assert found.expiry == EXPIRY
    assert found.strikes == tuple(strike * 100 for strike in STRIKES)
    assert chain_of("NIFTY", listed(), EXPIRY).expiry == EXPIRY
    assert chain_of("NIFTY", listed(), EXPIRY + 86_400 * SECOND).expiry > EXPIRY
    with pytest.raises(Degraded, match="no options that expire later of NIFTY"):
        chain_of("NIFTY", listed(), dt.date(2027, 1, 1))
    with pytest.raises(Degraded, match="no index of SENSEX"):
        chain_of("SENSEX", listed(), TEN.date())


def test_a_series_begins_with_spot_and_has_a_row_for_each_message_with_a_leg() -> None:
    nifty = follower()
    assert list(nifty.instruments.values()) == ["NIFTY"]
    assert take(nifty, spot(25_010.0)) == [Began(key(width=0)), Began(key(width=2))]
    assert set(nifty.instruments.values()) == {
        "NIFTY",
        *(f"NIFTY {EXPIRY} {name}" for name in ("25000 CE", "25000 PE", "25100 CE", "24900 PE")),
    }
    assert take(nifty, option(25_000, "CE", 100.05)) == []  # one leg is no straddle
    assert rows(take(nifty, option(25_000, "PE", 90.1))) == [(0, 0, 19_015, 2_501_000)]
    both = take(nifty, spot(25_012.0), option(25_000, "CE", 101.0), option(25_000, "PE", 89.0))
    assert rows(both) == [(0, 1, 19_000, 2_501_200)]
    later = option(25_000, "CE", 102.0, TEN + SECOND)
    assert rows(take(nifty, later)) == [(0, 0, 19_100, 2_501_200)]
    assert take(nifty, spot(25_013.0, TEN + SECOND)) == []  # the premium has not moved


def test_the_money_moves_with_spot_and_the_series_say_when() -> None:
    nifty = follower(0)
    take(nifty, spot(25_000.0))
    assert take(nifty, spot(25_034.0, TEN + SECOND)) == []  # past the middle, not by enough
    moved = TEN + 2 * SECOND
    assert take(nifty, spot(25_036.0, moved)) == [
        Ended(key(), moved, "re-centred"),
        Began(key(25_050, since=moved)),
    ]
    assert nifty.end(TEN + 3 * SECOND) == [
        Ended(key(25_050, since=moved), TEN + 3 * SECOND, "stopped")
    ]


def test_what_is_not_believed_is_counted_and_moves_nothing() -> None:
    nifty = follower(0)
    take(nifty, spot(25_000.0), option(25_000, "CE", 100.0), option(25_000, "PE", 90.0))
    take(nifty, option(25_000, "CE", 100.0), option(25_000, "PE", 90.0))
    absurd = Tick(f"NIFTY {EXPIRY} 25000 CE", 1_000.0, 99.0, 101.0, 1, 1, TEN)
    assert take(nifty, spot(250_000.0), absurd, option(25_000, "PE", 0.0)) == []
    assert nifty.centre == 2_500_000
    assert nifty.refused == {"absurd": 2, "empty": 1}
    # The put has said nothing for longer than a premium may be old.
    late = TEN + 40 * SECOND
    assert rows(take(nifty, spot(25_001.0, late), option(25_000, "CE", 99.0, late))) == []
    assert nifty.refused[Refusal.STALE] == 1
    # A feed that repeats itself: time goes on, its ticks do not.
    assert take(nifty, spot(25_001.0, late), option(25_000, "CE", 99.0, late), late=31.0) == []
    assert nifty.refused[Refusal.STALE] == 3


def seconds_of(nifty: Follower, start: int, stop: int, deaf: str = "none") -> list[Event]:
    """Let all that is followed tick each second, but for some legs; return what is no row."""
    events: list[Event] = []
    for second in range(start, stop):
        at = TEN + second * SECOND
        ticks = [spot(25_010.0, at)]
        for name in nifty.instruments.values():
            if name != "NIFTY" and not name.endswith(deaf):
                strike, kind = name.split(" ")[2:]
                ticks.append(option(int(strike), kind, 100.0, at))
        events += [each for each in take(nifty, *ticks) if not isinstance(each, Row)]
    return events


def gaps(events: list[Event]) -> list[tuple[str, float, float]]:
    """Return the legs of the gaps among events, and when they began and ended."""
    return [
        (
            each.reason.removeprefix(f"no ticks of NIFTY {EXPIRY} ").partition(" came")[0],
            (each.began_at - TEN).total_seconds(),
            (each.ended_at - TEN).total_seconds(),
        )
        for each in events
        if isinstance(each, Missed)
    ]


def test_a_leg_that_falls_silent_while_its_siblings_tick_is_a_gap() -> None:
    nifty = follower()
    assert gaps(seconds_of(nifty, 0, 60)) == []
    found = gaps(seconds_of(nifty, 60, 300, "25000 CE"))
    # From its last tick on; the row grows by the minute, and no other leg is concerned.
    assert found[0] == ("25000 CE", 59.0, 90.0)
    assert {each[:2] for each in found} == {("25000 CE", 59.0)} and found[-1][2] >= 210.0
    assert nifty.alarming(30.0) == [f"NIFTY {EXPIRY} 25000 CE"]
    assert gaps(seconds_of(nifty, 300, 310)) == [("25000 CE", 59.0, 300.0)]
    assert nifty.alarming(30.0) == [] and nifty.silent == {}


def test_a_leg_that_never_ticked_is_silent_from_its_series_on() -> None:
    nifty = follower(0)
    assert gaps(seconds_of(nifty, 0, 50, "PE")) == [("25000 PE", 0.0, 31.0)]
    assert nifty.alarming(30.0) == []  # a gap at once, and an alarm later
    assert gaps(nifty.end(TEN + 60 * SECOND)) == [("25000 PE", 0.0, 60.0)]


def test_a_stream_that_was_away_makes_no_leg_silent() -> None:
    nifty = follower()
    seconds_of(nifty, 0, 5)
    # The first messages after five minutes have one instrument only.
    back = [TEN + second * SECOND for second in range(300, 320)]
    events = [each for at in back for each in take(nifty, spot(25_010.0, at))]
    assert gaps(events + seconds_of(nifty, 320, 400)) == []


def test_a_silence_ends_with_its_series() -> None:
    nifty = follower(0)
    seconds_of(nifty, 0, 40, "CE")
    moved = take(nifty, spot(25_090.0, TEN + 40 * SECOND))
    assert gaps(moved) == [("25000 CE", 0.0, 40.0)] and nifty.silent == {}


def test_the_series_of_a_tracker_before_go_on_only_where_all_fits() -> None:
    last = TEN + 5 * SECOND
    found = [Resumed(key(width=width), last, 3) for width in (0, 2)]
    nifty = follower()
    nifty.resume(found)
    assert nifty.centre == 2_500_000
    message = [spot(25_030.0, last), option(25_000, "CE", 99.0, last)]
    assert take(nifty, *message) == []  # still the money, by its hysteresis
    assert rows(take(nifty, option(25_000, "PE", 91.0, last))) == [(0, 4, 19_000, 2_503_000)]
    for wrong in (found[:1], [*found[:1], Resumed(key(25_100, 2), last, 0)]):
        other = follower()
        other.resume(wrong)
        assert other.centre is None


moves = st.lists(
    st.tuples(
        st.integers(-300, 300),  # paise of spot's next step, times 10
        st.integers(0, 3),  # seconds
        st.sampled_from(["spot", "call", "put", "all"]),
    ),
    min_size=1,
    max_size=60,
)


@given(moves)
def test_whatever_comes_places_are_unique_and_ordered_and_series_join(
    path: list[tuple[int, int, str]],
) -> None:
    nifty, level, at = follower(0, 1), 25_000.0, TEN
    events: list[Event] = []
    for step, seconds, what in path:
        level, at = level + step / 10, at + seconds * SECOND
        message = [spot(level, at)] if what in ("spot", "all") else []
        for name in list(nifty.instruments.values())[1:]:
            kind = name[-2:]
            if what == "all" or (what, kind) in {("call", "CE"), ("put", "PE")}:
                message.append(Tick(name, 100.0, 99.0, 101.0, 1, 1, at))
        if message:
            events += take(nifty, *message)
    events += nifty.end(at)
    open_now: set[object] = set()
    last: dict[object, tuple[dt.datetime, int]] = {}
    for event in events:
        if isinstance(event, Began):
            assert event.series not in last
            open_now.add(event.series)
            last[event.series] = (event.series.since, -1)
        elif isinstance(event, Row):
            assert event.series in open_now
            assert (event.ts, event.number) > last[event.series]
            last[event.series] = (event.ts, event.number)
        elif isinstance(event, Ended):
            assert event.until >= last[event.series][0]
            open_now.remove(event.series)
    assert not open_now
