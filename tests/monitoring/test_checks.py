"""What the monitor thinks of its measurements."""

import pytest

from monitoring import checks


@pytest.mark.parametrize(
    ("used_pct", "level"),
    [(0, ""), (84.9, ""), (85, "warning"), (89.9, "warning"), (90, "critical"), (100, "critical")],
)
def test_a_disk_is_judged_by_how_full_it_is(used_pct: float, level: str) -> None:
    assert checks.disk_level(used_pct) == level


def test_silence_begins_after_half_a_minute() -> None:
    assert not checks.is_silent(29)
    assert checks.is_silent(31)
    assert checks.is_silent(-31) and not checks.is_silent(-1)  # a beat that lies ahead


def test_missing_jobs_are_judged_by_the_market_s_speed() -> None:
    assert not checks.jobs_missing(1800, speed=1)
    assert checks.jobs_missing(1861, speed=1)
    assert not checks.jobs_missing(119, speed=48)
    assert checks.jobs_missing(121, speed=48)
