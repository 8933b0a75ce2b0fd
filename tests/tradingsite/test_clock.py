"""The two times."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tradingsite import clock
from tradingsite.clock import FROZEN_AFTER_SECONDS, Anchor, SimulatedClock

NOON = dt.datetime(2026, 6, 1, 12, 0, tzinfo=clock.IST)


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedClock]:
    """Return the process's simulated clock, at noon and 48 times as fast."""
    clock.simulate(tmp_path / "data" / "clock.json")
    made = clock.simulated()
    assert made is not None
    made.write(Anchor(NOON.timestamp(), time.time(), 48.0))
    yield made
    clock.simulate(None)


def test_an_anchor_runs_at_its_speed_and_then_stands_still() -> None:
    anchor = Anchor(1000.0, 50.0, 48.0)
    assert anchor.at(50.0) == 1000.0
    assert anchor.at(52.0) == 1096.0
    assert anchor.at(49.0) == 1000.0
    frozen = 1000.0 + 48.0 * FROZEN_AFTER_SECONDS
    assert anchor.at(50.0 + FROZEN_AFTER_SECONDS) == frozen
    assert anchor.at(1e9) == frozen


def test_without_a_simulation_both_times_are_one() -> None:
    assert clock.simulated() is None
    assert abs((clock.market() - clock.real()).total_seconds()) < 1
    assert clock.speed() == 1.0


def test_before_the_first_anchor_market_time_is_real_time(tmp_path: Path) -> None:
    clock.simulate(tmp_path / "none.json")
    try:
        assert abs((clock.market() - clock.real()).total_seconds()) < 1
        assert clock.speed() == 1.0
    finally:
        clock.simulate(None)


def test_the_simulated_market_has_its_own_day_and_speed(simulated: SimulatedClock) -> None:
    began = time.time()
    first = clock.market()
    assert 0 <= (first - NOON).total_seconds() < 48
    assert clock.speed() == 48.0
    time.sleep(0.05)
    passed = (clock.market() - first).total_seconds()
    assert 0.04 * 48 <= passed <= (time.time() - began) * 48 + 1
    assert abs(clock.real().timestamp() - time.time()) < 1


def test_a_rewritten_anchor_is_seen_at_once(simulated: SimulatedClock) -> None:
    assert clock.market() < NOON + dt.timedelta(hours=1)
    simulated.write(Anchor(NOON.timestamp() + 86_400, time.time(), 480.0))
    assert clock.market() >= NOON + dt.timedelta(days=1)
    assert clock.speed() == 480.0


def test_the_file_is_replaced_whole(simulated: SimulatedClock) -> None:
    assert set(json.loads(simulated.path.read_text())) == {"market", "real", "speed"}
    assert [path.name for path in simulated.path.parent.iterdir()] == ["clock.json"]


def test_times_are_aware_and_dates_are_indian() -> None:
    assert clock.real().tzinfo is clock.UTC
    assert clock.market().tzinfo is clock.UTC
    late = dt.datetime(2026, 6, 1, 20, 0, tzinfo=clock.UTC)
    assert clock.trading_date(late) == dt.date(2026, 6, 2)
    assert clock.from_seconds(0) == dt.datetime(1970, 1, 1, tzinfo=clock.UTC)
