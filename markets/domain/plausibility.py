"""Whether bars can be true: held against their neighbours and the market's other timeframes.

A bound on a value lets through what is a hundred times too large; what a market does from one bar
to the next, and what its other timeframes say of the same hour, does not. A doubt is not a proof: a
person may take such bars with a reason, which is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from markets.domain.bar_rule import format_ist
from markets.domain.bars import Bars, BoolArray, FloatArray, IntArray
from markets.domain.calendar import Calendar, ist_days
from markets.domain.timeframes import seconds
from tradingsite.clock import Epoch

LARGEST_MOVE = {"nifty": 0.22, "btc": 0.35}
"""From a bar to the next, as a logarithm. True since 2007: 0.17 from a day of NIFTY to the next,
whose exchange halts at 20 %."""
LARGEST_RANGE = {"nifty": 0.22, "btc": 0.6}
"""Between the high and the low of a bar. True: 0.42 in four hours of BTC on 13 March 2020."""
ANY_MOVE = 0.3
"""From a close to the next, of an asset that is no market of ours."""
LONG_HOLE_SECONDS = 15 * 86_400
"""After a longer hole a price may be any."""
AGREES_WITHIN = {"1d": 0.02}
"""How far closes of one instant may differ; a day's is the exchange's average of half an hour."""
AGREES_WITHIN_DAY = 0.004
MOSTLY_SHARE = 0.02
"""More of the bars that disagree than this, and the whole is doubted."""
FLAT_BARS = 4
_SPLITS = (2, 3, 4, 5, 10, 20)
_NEAR = 0.08


@dataclass(frozen=True, slots=True)
class Doubt:
    """Name a bar that can hardly be true, by its timeframe and open, and say why."""

    timeframe: str
    opens_at: Epoch
    why: str

    def __str__(self) -> str:
        return f"{self.timeframe} bar of {format_ist(self.opens_at)}: {self.why}"


def doubts(
    market: str,
    timeframe: str,
    bars: Bars,
    stored: Bars,
    others: Mapping[str, Bars],
    calendar: Calendar,
) -> list[Doubt]:
    """Return what can hardly be true of new bars, in order.

    `stored` are those there already of the same timeframe, `others` those of the market's other
    timeframes, stored or new.
    """
    if not len(bars):
        return []
    found = [
        *_ranges(timeframe, bars, LARGEST_RANGE[market]),
        *_jumps(timeframe, bars, stored, LARGEST_MOVE[market]),
        *_flats(timeframe, bars, calendar),
    ]
    for name, other in others.items():
        found += _disagreements(timeframe, bars, name, other)
    unique = {(each.opens_at, each.why): each for each in found}
    return sorted(unique.values(), key=lambda each: each.opens_at)


def leaps(prices: FloatArray, largest: float = ANY_MOVE) -> list[tuple[int, str]]:
    """Return the places at which a series of prices leaps, each with the likely cause."""
    moves = np.log(prices[1:] / prices[:-1])
    return [
        (int(row) + 1, _leap(float(moves[row]))) for row in np.flatnonzero(np.abs(moves) > largest)
    ]


def _ranges(timeframe: str, bars: Bars, largest: float) -> list[Doubt]:
    return [
        Doubt(
            timeframe,
            Epoch(bars.opens_at[row]),
            f"its high {bars.high[row]:g} and its low {bars.low[row]:g} are "
            f"{bars.high[row] / bars.low[row]:.1f} times apart",
        )
        for row in np.flatnonzero(np.log(bars.high / bars.low) > largest)
    ]


def _jumps(timeframe: str, bars: Bars, stored: Bars, largest: float) -> list[Doubt]:
    """Return bars that leap from the one before, those of what is stored between them included."""
    beside = stored.where(~np.isin(stored.opens_at, bars.opens_at))
    opens_at = np.concatenate((beside.opens_at, bars.opens_at))
    order = np.argsort(opens_at, kind="stable")
    is_new = np.concatenate((np.zeros(len(beside), bool), np.ones(len(bars), bool)))[order]
    opens_at, opened, closed = (
        np.concatenate((getattr(beside, name), getattr(bars, name)))[order]
        for name in ("opens_at", "open", "close")
    )
    moves = np.log(opened[1:] / closed[:-1])
    found = []
    leapt = (np.abs(moves) > largest) & (np.diff(opens_at) < LONG_HOLE_SECONDS)
    said = -2
    for row in np.flatnonzero(leapt & (is_new[1:] | is_new[:-1])):
        if row == said + 1 and moves[row] * moves[said] < 0:
            continue  # back from the bar that was named
        said = int(row)
        move = float(moves[row])
        returns = row + 1 < len(moves) and leapt[row + 1] and moves[row + 1] * move < 0
        shape = "this bar alone is of another scale" if returns else _leap(move)
        why = f"it opens at {opened[row + 1]:g} after a close of {closed[row]:g}: {shape}"
        at = opens_at[row + 1] if is_new[row + 1] else opens_at[row]
        found.append(Doubt(timeframe, Epoch(at), why))
    return found


def _leap(move: float) -> str:
    """Return what a leap, given as a logarithm, looks like."""
    factor = math.exp(abs(move))
    power = round(math.log10(factor))
    if power >= 1 and abs(math.log(factor / 10**power)) < _NEAR:
        scale = 10**power
        if power == 1:
            return f"x{scale}, or a 1:10 split that was not adjusted"
        return f"x{scale}: another scale, as rupees and paise are"
    for ratio in _SPLITS:
        if abs(math.log(factor / ratio)) < _NEAR:
            words = f"1:{ratio}" if move < 0 else f"{ratio}:1"
            return f"a {words} split or a bonus that was not adjusted"
    return f"a move of {math.expm1(move):+.0%} that this market has never made"


def _flats(timeframe: str, bars: Bars, calendar: Calendar) -> list[Doubt]:
    """Return the sessions in which no price moved at all: invented to fill a day."""
    if not len(calendar.edges()[0]):
        return []
    still = (bars.high == bars.low) & (bars.open == bars.close)
    before = np.concatenate((bars.close[:1], bars.close[:-1]))
    still &= bars.close == before
    still[0] = False
    days = ist_days(bars.opens_at)
    least = 1 if timeframe == "1d" else FLAT_BARS
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    counts = np.diff(np.append(starts, len(days)))
    flat = np.add.reduceat(still.astype(np.int64), starts)
    invented = (flat == counts) & (counts >= least)
    why = "nothing moved in the whole session: a day made up of the close before"
    return [Doubt(timeframe, Epoch(bars.opens_at[row]), why) for row in starts[invented]]


def _disagreements(timeframe: str, bars: Bars, name: str, other: Bars) -> list[Doubt]:
    """Return where another timeframe has another close at the same instant."""
    mine, theirs = _same_instants(bars, other)
    if not len(mine):
        return []
    within = max(AGREES_WITHIN.get(each, AGREES_WITHIN_DAY) for each in (timeframe, name))
    apart = np.abs(np.log(bars.close[mine] / other.close[theirs]))
    wrong = np.flatnonzero(apart > within)
    if len(wrong) > max(MOSTLY_SHARE * len(mine), 2):
        row = mine[wrong[0]]
        why = (
            f"{len(wrong):,} of {len(mine):,} closes are not those of the {name} bars"
            f"{_shifted(bars, mine, other, theirs, within)}"
        )
        return [Doubt(timeframe, Epoch(bars.opens_at[row]), why)]
    return [
        Doubt(
            timeframe,
            Epoch(bars.opens_at[mine[row]]),
            f"it closes at {bars.close[mine[row]]:g}, the {name} bar of that instant at "
            f"{other.close[theirs[row]]:g}",
        )
        for row in wrong
    ]


def _same_instants(bars: Bars, other: Bars) -> tuple[IntArray, IntArray]:
    """Return the rows of both that close at the same instants."""
    _, mine, theirs = np.intersect1d(
        bars.closes_at, other.closes_at, assume_unique=True, return_indices=True
    )
    return mine.astype(np.int64), theirs.astype(np.int64)


def _shifted(bars: Bars, mine: IntArray, other: Bars, theirs: IntArray, within: float) -> str:
    """Return in words what would make most closes agree, if something simple does."""
    own, said = bars.close[mine], other.close[theirs]
    for step, words in ((1, "early"), (-1, "late")):
        shifted = own[:-1] / said[1:] if step > 0 else own[1:] / said[:-1]
        if len(shifted) and _agree(shifted, within):
            return f": they look one bar {words}"
    ratio = float(np.median(own / said))
    if abs(math.log(ratio)) > within and _agree(own / said / ratio, within):
        return f": all are {ratio:g} times theirs, another scale or unadjusted"
    return ": another instrument, or adjusted otherwise"


def _agree(ratios: FloatArray, within: float) -> bool:
    close: BoolArray = np.abs(np.log(ratios)) <= within
    return bool(close.mean() > 1.0 - MOSTLY_SHARE)


def adjusted(bars: Bars, timeframe: str, splits: Mapping[int, float]) -> Bars:
    """Return bars with the prices before each instant divided by its ratio, volumes multiplied.

    `splits` maps the open of the first bar after a corporate action (epoch seconds) to its ratio.
    """
    prices = {name: getattr(bars, name).copy() for name in ("open", "high", "low", "close")}
    volume = bars.volume.copy()
    for at, ratio in splits.items():
        before = bars.opens_at + seconds(timeframe) <= at
        for column in prices.values():
            column[before] /= ratio
        volume[before] *= ratio
    return Bars(
        *(bars.opens_at, bars.closes_at),
        *(prices["open"], prices["high"], prices["low"], prices["close"]),
        volume,
    )
