"""What a bar may know of India VIX and funding: the last that had come, never stale."""

import datetime as dt

import numpy as np
import pytest

from markets.domain import exogenous
from markets.domain.calendar import NseCalendar, nse_sessions
from markets.domain.exogenous import (
    FUNDING,
    Readings,
    funding_columns,
    paid_between,
    volatility_columns,
)
from tests.exogenous import funding, since, until, volatility

NSE = NseCalendar(nse_sessions())
HOUR, DAY = 3_600, 86_400


def ist(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+05:30").timestamp())


def utc(text: str) -> int:
    return int(dt.datetime.fromisoformat(text + "+00:00").timestamp())


def levels(**closes: float) -> Readings:
    """Return India VIX at 15:30 of days of June 2026, like d01=15.0."""
    at = [ist(f"2026-06-{day[1:]} 15:30") for day in closes]
    return Readings(np.array(at, dtype=np.int64), np.array(list(closes.values())))


def vix(known: Readings, *closes_at: str) -> list[tuple[float, float]]:
    """Return level and change, as ratios, at the closes of bars of June 2026."""
    at = np.array([ist(f"2026-06-{each}") for each in closes_at], dtype=np.int64)
    found = volatility_columns(known, at, NSE)
    level, change = (np.exp(found[name]).round(9).tolist() for name in ("vix", "vix_change"))
    return list(zip(level, change, strict=True))


def test_a_close_of_the_volatility_index_is_known_from_the_next_session_on() -> None:
    known = levels(d01=15.0, d02=18.0, d03=12.0)
    # The bar that closes with the session does not know its VIX, which comes after it.
    assert vix(known, "02 15:15", "02 15:30", "03 09:30", "03 15:30", "04 09:30") == [
        (1.0, 1.0),
        (1.0, 1.0),
        (1.2, 1.2),
        (1.2, 1.2),
        (0.8, round(12 / 18, 9)),
    ]


def test_a_session_without_its_reading_is_bridged_and_a_second_one_is_not() -> None:
    known = levels(d01=18.0, d02=18.0)
    # Friday the 5th still goes by the second, for the third alone is missing; Monday does not.
    assert vix(known, "03 09:30", "04 09:30", "05 09:30") == [(1.2, 1.0), (1.2, 1.0), (1.0, 1.0)]
    over_a_weekend = levels(d04=15.0, d05=30.0)
    assert vix(over_a_weekend, "08 09:30", "08 15:30") == [(2.0, 2.0)] * 2
    over_a_hole = levels(d01=15.0, d04=30.0)
    assert vix(over_a_hole, "05 09:30") == [(2.0, 1.0)]


def test_no_reading_and_one_that_cannot_be_are_the_typical_level() -> None:
    assert vix(Readings.empty(), "03 09:30") == [(1.0, 1.0)]
    assert vix(levels(d02=0.0), "03 09:30") == [(1.0, 1.0)]
    assert vix(levels(d01=0.0, d02=30.0), "03 09:30") == [(2.0, 1.0)]


def hourly(start: str, rates: list[float], every: int = HOUR) -> Readings:
    at = utc(start) + every * np.arange(len(rates), dtype=np.int64)
    return Readings(at, np.array(rates))


def recent(known: Readings, *closes_at: str) -> list[float]:
    at = np.array([utc(each) for each in closes_at], dtype=np.int64)
    return [round(rate, 9) for rate in funding_columns(known, at)["funding"].tolist()]


def test_a_payment_is_known_from_the_next_bar_on_and_believed_for_eight_hours() -> None:
    known = hourly("2026-06-01 00:00", [0.0001, 0.0003], every=8 * HOUR)
    asked = ("2026-06-01 00:00", "2026-06-01 01:00", "2026-06-01 08:00", "2026-06-01 09:00")
    assert recent(known, *asked) == [0.0, 1.0, 1.0, 3.0]
    assert recent(known, "2026-06-01 16:00", "2026-06-01 17:00") == [3.0, 0.0]


def test_hourly_and_eight_hourly_payments_of_the_same_rate_are_the_same_number() -> None:
    day = hourly("2026-06-01 00:00", [1e-5] * 200)
    thirds = hourly("2026-06-01 00:00", [8e-5] * 25, every=8 * HOUR)
    at = np.array([utc("2026-06-09 01:00")], dtype=np.int64)
    for name in ("funding", "funding_mean"):
        one, other = (funding_columns(each, at)[name][0] for each in (day, thirds))
        assert one == pytest.approx(0.8) and other == pytest.approx(0.8)


def test_the_mean_waits_for_half_of_its_days() -> None:
    known = hourly("2026-06-01 00:00", [1e-5] * 200)
    at = utc("2026-06-01 00:00") + HOUR * np.arange(200, dtype=np.int64)
    means = funding_columns(known, at)["funding_mean"]
    assert not means[:28].any() and means[40:].all()
    assert funding_columns(known, at)["funding"][1:].all()


def test_what_is_paid_in_a_bar_is_the_sum_of_its_payments_its_close_included() -> None:
    known = hourly("2026-06-01 00:00", [1e-4, 2e-4, -3e-4, 4e-4, 5e-4])
    opens = utc("2026-06-01 00:00") + 2 * HOUR * np.arange(3, dtype=np.int64)
    paid = paid_between(known, opens, opens + 2 * HOUR)
    assert paid.tolist() == pytest.approx([-1e-4, 9e-4, 0.0])


def test_where_no_payment_is_known_holding_costs_the_rate_of_interest() -> None:
    opens = utc("2026-06-01 00:00") + 4 * HOUR * np.arange(6, dtype=np.int64)
    interest = exogenous.ASSUMED_RATE / 2
    nothing = paid_between(Readings.empty(), opens, opens + 4 * HOUR)
    assert nothing.tolist() == pytest.approx([interest] * 6)
    # Payments at 08:00 and at noon, believed for eight hours and ten minutes after the last.
    known = hourly("2026-06-01 08:00", [1e-3, 2e-3], every=4 * HOUR)
    paid = paid_between(known, opens, opens + 4 * HOUR)
    late = exogenous.ASSUMED_RATE * (4 * HOUR - 600) / (8 * HOUR)
    assert paid.tolist() == pytest.approx([interest, interest + 1e-3, 2e-3, 0.0, 0.0, late])
    # What comes later changes nothing of what was paid by then.
    for row in range(6):
        end = opens[row : row + 1] + 4 * HOUR
        part = paid_between(until(known, int(end[0])), opens[row : row + 1], end)
        assert part[0] == paid[row]


@pytest.mark.parametrize("every", [HOUR, 8 * HOUR])
def test_neither_the_past_cut_off_nor_the_future_changes_a_bit(every: int) -> None:
    at = np.arange(utc("2026-03-01 00:00"), utc("2026-06-01 00:00"), HOUR, dtype=np.int64)
    rates = funding(utc("2025-12-01 00:00"), int(at[-1]), every)
    # Holes of all sizes.
    kept = np.random.default_rng(6).random(len(rates)) < 0.9
    kept[400:460] = kept[700:720] = False
    rates = Readings(rates.at[kept], rates.value[kept])
    closes = NSE.edges()[1]
    closes = closes[(closes > at[0]) & (closes < at[-1])]
    level = volatility(utc("2025-12-01 00:00"), int(at[-1]))
    bulk, moods = funding_columns(rates, at), volatility_columns(level, closes, NSE)
    for row in np.random.default_rng(7).integers(0, len(at), 25).tolist():
        now = at[row : row + 1]
        near = until(since(rates, int(now[0]) - exogenous.HISTORY_SECONDS), int(now[0]))
        for name, values in funding_columns(near, now).items():
            assert values[0] == bulk[name][row]
    for row in range(len(closes)):
        now = closes[row : row + 1]
        near = until(since(level, int(now[0]) - exogenous.HISTORY_SECONDS), int(now[0]))
        for name, values in volatility_columns(near, now, NSE).items():
            assert values[0] == moods[name][row]


def test_a_series_that_was_not_loaded_is_named() -> None:
    at = np.array([utc("2026-06-01 00:00")], dtype=np.int64)
    with pytest.raises(ValueError, match="btc features need the readings of FUNDING too"):
        exogenous.columns("btc", {}, at, NSE)
    assert FUNDING in exogenous.SERIES_OF["btc"]
