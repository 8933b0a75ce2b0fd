"""Readings that can hardly be true, each with its cause; and true ones, which pass."""

from collections.abc import Callable

import numpy as np
import pytest

from markets.domain.exogenous import Readings
from markets.domain.exogenous_plausibility import doubt

HOUR, DAY = 3_600, 86_400
FIRST = 1_700_006_400  # a multiple of eight hours
NOTHING = Readings.empty()


def funding(count: int = 300, every: int = 8, seed: int = 1, first: int = FIRST) -> Readings:
    """Return payments as an exchange makes them: a third of them its own rate of interest."""
    random = np.random.default_rng(seed)
    usual = 1e-4 * every / 8
    rates = random.normal(0.8, 0.6, count) * usual
    rates[random.random(count) < 1 / 3] = usual
    return Readings(first + every * HOUR * np.arange(count), np.round(rates, 10))


def vix(count: int = 60, seed: int = 1) -> Readings:
    random = np.random.default_rng(seed)
    levels = 15.0 * np.exp(np.cumsum(random.normal(0.0, 0.05, count)))
    return Readings(FIRST + DAY * np.arange(count), np.round(levels, 4))


def times(readings: Readings, factor: float) -> Readings:
    return Readings(readings.at, readings.value * factor)


@pytest.mark.parametrize("every", [1, 4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_true_funding_passes(every: int, seed: int) -> None:
    new = funding(every=every, seed=seed)
    assert not doubt("funding", new, NOTHING)
    assert not doubt("funding", new, funding(every=every, seed=seed + 9))
    busy = times(new, 4.0)  # weeks in which all are long
    assert not doubt("funding", busy, NOTHING)
    assert not doubt("funding", times(new, -0.2), NOTHING) or len(new) * every >= 270 * 8


@pytest.mark.parametrize("length", [10, 30, 90, 290])
def test_every_stretch_of_a_true_series_passes(length: int) -> None:
    for kind, whole in {"funding": funding(), "vix": vix(110)}.items():
        for start in range(0, len(whole) - length, 7):
            part = Readings(whole.at[start : start + length], whole.value[start : start + length])
            assert not doubt(kind, part, whole), (kind, start)


@pytest.mark.parametrize("every", [1, 8])
@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (100.0, "per cent, where a ratio is wanted: divide by 100"),
        (10_000.0, "basis points, where a ratio is wanted"),
        (1_095.0, "a year's rate, where that of one payment is wanted"),
        (-1.0, "the sign is turned"),
    ],
)
def test_the_wrong_unit_is_named_by_the_file_alone(every: int, factor: float, cause: str) -> None:
    if factor == 1_095.0:
        factor *= 8 / every  # payments a year
    assert cause in doubt("funding", times(funding(every=every), factor), NOTHING)


def test_eight_hours_rates_at_each_hour_and_the_other_way_round() -> None:
    assert "those of eight hours" in doubt("funding", times(funding(every=1), 8.0), NOTHING)
    assert "those of one hour" in doubt("funding", times(funding(), 1 / 8), NOTHING)


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (100.0, "per cent"),
        (-1.0, "the sign is turned"),
        (0.01, "what is stored looks like per cent"),
        (8.0, "those of eight hours"),
        (1 / 8, "they look like one hour's"),
    ],
)
def test_a_few_payments_are_told_by_what_is_stored(factor: float, cause: str) -> None:
    whole = funding(count=300, every=1)
    few = Readings(whole.at[40:48], times(whole, factor).value[40:48])
    assert not doubt("funding", few, NOTHING), "too few to have a median"
    assert cause in doubt("funding", few, whole)


def test_payments_of_two_exchanges_are_not_mixed() -> None:
    said = doubt("funding", funding(), funding(every=1, first=FIRST + 100 * 8 * HOUR))
    assert "payments each 8 h where each 1 h one is stored" in said
    # One after the other is no mixing.
    assert not doubt("funding", funding(), funding(every=1, first=FIRST + 300 * 8 * HOUR))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda new: times(new, 100.0), "a hundred times too large"),
        (lambda new: times(new, 0.01), "ratios, not per cent"),
        (lambda new: times(new, 1_600.0), "is it another series?"),
    ],
)
def test_levels_that_are_none_of_india_vix(
    change: Callable[[Readings], Readings], cause: str
) -> None:
    assert not doubt("vix", vix(), NOTHING)
    assert cause in doubt("vix", change(vix()), NOTHING)


def test_levels_are_held_against_the_stored_days() -> None:
    new = vix()
    assert not doubt("vix", Readings(new.at, new.value * 1.004), new)
    assert "another series" in doubt("vix", vix(seed=2), new)
    early = Readings(new.at[:-1], new.value[1:])
    assert "one session early against 59 stored closes" in doubt("vix", early, new)
    late = Readings(new.at[1:], new.value[:-1])
    assert "one session late against 59 stored closes" in doubt("vix", late, new)
