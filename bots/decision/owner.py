"""What the owner held and decided by hand, bar by bar, in a bot's own terms.

His executions become a position at each daily close, the position becomes whole lots of the slot's
limit, and a change of lots from one close to the next becomes one of the seven actions, decided at
the first of the two: before the trade, so nothing of the future is in what he saw.

A future counts as it is. An option counts as half a future, long for a call bought or a put sold:
its delta at the money, a stated assumption, for he decides a direction and the strike is a detail.
What expires is gone with its date. His usual largest position is what the slot's limit stands for.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bots.decision.actions import DELTAS, HOLD, target_lots_array
from markets.domain.bars import FloatArray, IntArray
from markets.domain.calendar import epoch_day, ist_days
from tradingsite.clock import Epoch

UNDERLYING = "NIFTY"
OPTION_DELTA = 0.5
USUAL_QUANTILE = 0.9
"""Of the sizes he held, which one the slot's limit stands for: single bets are cut off."""


@dataclass(frozen=True, slots=True)
class OwnTrade:
    """One execution by hand: the desk's name of what, signed units, when in epoch seconds."""

    instrument: str
    quantity: float
    at: Epoch


@dataclass(frozen=True, slots=True)
class Owned:
    """What the owner held at the closes of some bars, in whole lots of a slot."""

    lots: IntArray
    """(T,): at each close."""
    actions: IntArray
    """(T - 1,): what he decided at the close of every bar but the last."""
    first: int
    """The bar of his first decision; before it nothing is known of him."""
    trades: int
    """Executions that count."""
    left_out: dict[str, int]
    """Those that do not, by reason."""

    def decisions(self, bars: range) -> int:
        """Return how many times he changed his position within some bars."""
        rows = range(max(bars.start, self.first), min(bars.stop, len(self.actions)))
        return int(np.count_nonzero(self.actions[rows.start : rows.stop] != HOLD))


def read(
    trades: Sequence[OwnTrade],
    closes_at: IntArray,
    lot_size: FloatArray,
    limit_lots: int,
    known_bars: int | None = None,
) -> Owned:
    """Return what the owner held at each close, (T,) epoch seconds ascending.

    Trades after the last close are left out: nothing later than the bars may be known. His usual
    size is that of the first `known_bars`, all where it is None: training may not look further.
    """
    units = np.zeros(len(closes_at))
    left_out: Counter[str] = Counter()
    days = ist_days(closes_at)
    used: list[int] = []
    for trade in trades:
        place = int(np.searchsorted(closes_at, trade.at))
        share, expiry, reason = _meaning(trade.instrument)
        if place >= len(closes_at):
            reason = "later than the last bar"
        if reason:
            left_out[reason] += 1
            continue
        stop = len(closes_at) if expiry is None else int(np.searchsorted(days, epoch_day(expiry)))
        units[place : max(stop, place)] += share * trade.quantity
        used.append(place)
    lots = _scaled(units / lot_size, limit_lots, known_bars)
    # His first decision was at the close before his first trade.
    first = max(min(used, default=len(closes_at)) - 1, 0)
    return Owned(lots, _actions(lots, limit_lots), first, len(used), dict(left_out))


def _meaning(instrument: str) -> tuple[float, dt.date | None, str]:
    """Return what a unit counts for, until which date, and why it does not count."""
    match instrument.split():
        case [underlying, *_] if underlying != UNDERLYING:
            return 0.0, None, f"not {UNDERLYING}"
        case [_, expiry, "FUT"]:
            return 1.0, dt.date.fromisoformat(expiry), ""
        case [_, expiry, _, "CE"]:
            return OPTION_DELTA, dt.date.fromisoformat(expiry), ""
        case [_, expiry, _, "PE"]:
            return -OPTION_DELTA, dt.date.fromisoformat(expiry), ""
        case _:
            return 0.0, None, "no contract the desk knows"


def _scaled(lots: FloatArray, limit_lots: int, known_bars: int | None) -> IntArray:
    known = lots[:known_bars]
    sizes = np.abs(known[known != 0.0])
    usual = float(np.quantile(sizes, USUAL_QUANTILE)) if len(sizes) else 1.0
    scaled = np.clip(np.rint(lots / usual * limit_lots), -limit_lots, limit_lots)
    whole: IntArray = scaled.astype(np.int64)
    return whole


def _actions(lots: IntArray, limit_lots: int) -> IntArray:
    """Return the actions (T - 1,) that come nearest to each change; of two, the smaller one."""
    held, wanted = lots[:-1].astype(np.float64), lots[1:]
    order = sorted(range(len(DELTAS)), key=lambda action: abs(DELTAS[action]))
    misses = np.stack(
        [
            np.abs(target_lots_array(held, np.full(len(held), DELTAS[action]), limit_lots) - wanted)
            for action in order
        ]
    )
    nearest: IntArray = np.array(order)[misses.argmin(axis=0)]
    return nearest
