"""Whether India VIX or funding can be true: judged by the median, and by what is stored.

A bound on one value lets 0.01 per cent pass as a ratio of 0.01, a hundred times too much; the
median of a file does not, and neither does what a venue said of the same hours. Each doubt names
the likely cause. A doubt is not a proof: a person may take such readings with a reason.
"""

from __future__ import annotations

import numpy as np

from markets.domain.bars import FloatArray, IntArray
from markets.domain.exogenous import ASSUMED_RATE, LONGEST_INTERVAL_SECONDS, Readings

HOUR = 3_600
FEWEST = 10
"""Fewer readings have no median worth the name."""
FEWEST_COMMON = 5
# True medians of BTC's funding for eight hours: of a week up to 0.0005 since 2022 and near 0.001 in
# early 2021, of ninety days 0.00003 to 0.0006.
LARGEST_MEDIAN, LONG = 0.001, 90
LARGEST_SHORT_MEDIAN = 0.002
LARGEST_HOURLY_MEDIAN, MONTH_OF_HOURS = 0.00008, 720
SIGN_ROWS, SIGN_MEDIAN = 270, -0.00001
# The exchanges' own rate of interest is what they pay in a quiet hour: a third of all since 2022.
MODE_SHARE = 0.05
HOURS_A_YEAR = 8_760
EIGHT = "the rates are those of eight hours, but there is one each hour: divide by 8"
ONE = "the rates are those of one hour, but there is one each eight hours: sum up each eight"
SIGN = "the sign is turned: a rate is positive where longs pay, and mostly they do"
# India VIX since 2010: medians of three weeks from 11 to 63.
VIX_MEDIANS = (8.0, 70.0)
VIX_AGREES, VIX_SHIFTED = 0.02, 0.004


def cause(kind: str, new: Readings) -> str:
    """Return what readings look like instead of what is wanted, "" where they can be true."""
    return _of_vix(new.value) if kind == "vix" else _of_funding(new)


def doubt(kind: str, new: Readings, stored: Readings) -> str:
    """Return why new readings can hardly be true, "" where they can.

    `stored` are those of the same series that are there already.
    """
    if found := cause(kind, new):
        return found
    return _against_vix(new, stored) if kind == "vix" else _against_funding(new, stored)


# --- Funding -------------------------------------------------------------------------------------


def _of_funding(new: Readings) -> str:
    rates, count = new.value, len(new)
    if count < FEWEST:
        return ""
    interval = _interval(new.at)
    median, usual = float(np.median(np.abs(rates))), ASSUMED_RATE * interval / (8 * HOUR)
    limit = LARGEST_MEDIAN if count >= LONG else LARGEST_SHORT_MEDIAN
    if median > limit:
        what = _nearest(median / usual, interval)
        return f"their median is {median:g}, {median / usual:,.0f} times the usual: {what}"
    if _is_common(rates, -ASSUMED_RATE) or _is_common(rates, -usual):
        return f"{-usual:g} is their commonest value: {SIGN}"
    if count * interval >= SIGN_ROWS * 8 * HOUR and np.median(rates) < SIGN_MEDIAN:
        return f"their median over {count:,} payments is {np.median(rates):g}: {SIGN}"
    is_long = count >= MONTH_OF_HOURS and median > LARGEST_HOURLY_MEDIAN
    if interval <= HOUR and (is_long or _is_common(rates, ASSUMED_RATE)):
        return f"their median is {median:g}: {EIGHT}"
    if interval >= 8 * HOUR and _is_common(rates, ASSUMED_RATE / 8):
        return f"their median is {median:g}: {ONE}"
    return ""


def _against_funding(new: Readings, stored: Readings) -> str:
    inside = (stored.at >= new.at[0] - HOUR // 2) & (stored.at <= new.at[-1] + HOUR // 2)
    beside = Readings(stored.at[inside], stored.value[inside])
    if len(beside) < FEWEST_COMMON:
        return ""
    interval, other = _interval(new.at), _interval(beside.at)
    if not 0.6 < interval / other < 1.6:
        return (
            f"they are payments each {_hours(interval)} where each {_hours(other)} one is stored: "
            f"two exchanges' payments would both be paid; end the file before the stored ones begin"
        )
    ours, theirs = _common(new.at // HOUR, beside.at // HOUR)
    mine, there = new.value[ours], beside.value[theirs]
    tells = np.abs(there) > ASSUMED_RATE / 100
    if tells.sum() < FEWEST_COMMON:
        return ""
    ratio = float(np.median(mine[tells] / there[tells]))
    if 0.4 < ratio < 2.5:
        return ""
    said = f"of {int(tells.sum()):,} stored payments of the same hours they are {ratio:,.3g} times"
    if ratio < 0:
        return f"{said}: in one of the two {SIGN}"
    if 5.0 < ratio < 12.0:
        return f"{said}: {EIGHT}"
    if 1 / 12.0 < ratio < 1 / 5.0:
        return f"{said}: they look like one hour's, and what is stored like eight hours'"
    if ratio < 1.0:
        return f"{said}: what is stored looks like {_nearest(1.0 / ratio, interval)}"
    return f"{said}: {_nearest(ratio, interval)}"


def _nearest(times: float, interval: int) -> str:
    """Return which wrong units are near to being so many times the usual."""
    a_year = HOURS_A_YEAR * HOUR / interval
    scales = {
        "per cent, where a ratio is wanted: divide by 100": 100.0,
        "a year's rate, where that of one payment is wanted": a_year,
        "basis points, where a ratio is wanted: divide by 10,000": 10_000.0,
        "a year's rate in per cent, where the ratio of one payment is wanted": 100.0 * a_year,
    }
    near = [what for what, scale in scales.items() if 1 / 3 < times / scale < 3.0]
    return ", or ".join(near) or "no known unit is that, so is it another series?"


def _is_common(rates: FloatArray, value: float) -> bool:
    near = np.abs(rates - value) <= abs(value) * 1e-3
    return bool(near.sum() >= max(FEWEST, MODE_SHARE * len(rates)))


def _interval(at: IntArray) -> int:
    """Return how many seconds lie between most payments, in whole hours."""
    if len(at) < 2:
        return LONGEST_INTERVAL_SECONDS
    return max(HOUR, round(float(np.median(np.diff(at))) / HOUR) * HOUR)


def _hours(interval: int) -> str:
    return f"{interval // HOUR} h"


# --- India VIX -----------------------------------------------------------------------------------


def _of_vix(levels: FloatArray) -> str:
    if len(levels) < FEWEST:
        return ""
    low, high = VIX_MEDIANS
    median = float(np.median(levels))
    if low <= median <= high:
        return ""
    said = f"their median is {median:,.4g}, and India VIX's lies between {low:g} and {high:g}"
    for factor, what in ((0.01, "a hundred times too large"), (100.0, "ratios, not per cent")):
        if low <= median * factor <= high:
            return f"{said}: they look like {what}"
    return f"{said}: is it another series?"


def _against_vix(new: Readings, stored: Readings) -> str:
    ours, theirs = _common(new.at, stored.at)
    if len(ours) < FEWEST_COMMON:
        return ""
    apart = _apart(new.value[ours], stored.value[theirs])
    if apart <= VIX_AGREES:
        return ""
    for shift, what in ((1, "one session early"), (-1, "one session late")):
        place = theirs + shift
        known = (place >= 0) & (place < len(stored))
        if known.sum() >= FEWEST_COMMON:
            moved = _apart(new.value[ours[known]], stored.value[place[known]])
            if moved <= VIX_SHIFTED:
                return f"they are {what} against {int(known.sum()):,} stored closes"
    return (
        f"of {len(ours):,} stored closes of the same days they are {apart:.1%} apart: another "
        f"series, or another scale"
    )


def _apart(mine: FloatArray, there: FloatArray) -> float:
    return float(np.median(np.abs(mine / there - 1.0)))


def _common(mine: IntArray, there: IntArray) -> tuple[IntArray, IntArray]:
    """Return the places, in each of two ascending series, of the instants that both have."""
    _, ours, theirs = np.intersect1d(mine, there, return_indices=True)
    return ours, theirs
