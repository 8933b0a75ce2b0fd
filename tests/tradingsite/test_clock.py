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


class Watches:
    """A real clock that can be set, and the time since the boot, which cannot."""

    def __init__(self) -> None:
        self.boot = 1_000.0
        self.set_by = 0.0
        self.steadiness = clock.Steadiness(lambda: (1e9 + self.boot + self.set_by, self.boot))

    def after(self, seconds: float) -> float:
        self.boot += seconds
        return self.steadiness.jump()


def test_a_jump_is_believed_once_it_has_stood_for_a_minute() -> None:
    watches = Watches()
    assert watches.after(3600) == 0.0
    watches.set_by = 86_400.0
    assert watches.after(1) == watches.after(50) == 86_400.0
    assert watches.after(61) == 0.0
    watches.set_by = 86_403.0
    assert watches.after(1) == 0.0


def test_a_clock_that_comes_back_is_believed_at_once_and_its_jump_never_again() -> None:
    watches = Watches()
    for _ in range(2):
        watches.set_by = 86_400.0
        assert watches.after(1) and watches.after(30)
        watches.set_by = 2.0
        assert watches.after(1) == 0.0 and not watches.steadiness.came_back
        watches.set_by = 86_400.0
        watches.after(1)
        assert watches.after(61) == 0.0  # believed for a while
        watches.set_by = 3.0
        assert watches.after(1) == 0.0 and watches.steadiness.came_back
        watches.steadiness.came_back = False


def test_slow_corrections_are_no_jump() -> None:
    watches = Watches()
    for _ in range(100):
        watches.set_by -= 5.0
        assert watches.after(60) == 0.0


def test_this_machines_clock_is_steady() -> None:
    assert clock.Steadiness().jump() == 0.0


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
