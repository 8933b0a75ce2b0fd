"""The one decision path: account, policy, risk, lots; and the replay of it over stored bars.

Live, a bot calls `sleeve.observe`, `policy.act`, `decide` and later `sleeve.fill`. The replay calls
the very same functions, with a panel for a broker: a decision at the close of a row, from that row
and the ones before it, is filled at the open of the next and marked at its close.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from bots.decision import accounting
from bots.decision.actions import DELTAS, target_lots
from bots.decision.observation import WINDOW, Float32Array, limit_notional, windows
from bots.decision.risk import RiskGate, bounded_lots
from bots.decision.sleeve import Sleeve
from markets.domain.bars import FloatArray, IntArray
from markets.domain.price_panel import PricePanel
from tradingsite.clock import Epoch
from tradingsite.errors import Degraded

__all__ = [
    *("Decision", "EquityCurve", "PanelBroker", "Policy", "ReplayResult", "Sleeve", "SleeveState"),
    *("SlotInputs", "Trade", "align_to_features", "decide", "replay", "replay_slot"),
]

ENCODE_ROWS = 128
"""Windows encoded in one call of a replay: enough for speed, few enough for a core's cache."""


class Policy(Protocol):
    """Answer for one slot; bots.modelstore.bundle loads one from a model bundle."""

    def encode(self, windows: Float32Array) -> Float32Array:
        """Return the codes (B, H) of feature windows (B, WINDOW, F); raise Degraded for a NaN."""

    def act(self, code: Float32Array, account: Float32Array) -> Float32Array:
        """Return the logits (1, 7) of one code (1, H) and one account state (1, 4)."""


class Decision(NamedTuple):
    """Record what was decided: lots_after is what to hold next, after the risk gate."""

    action: int
    lots_before: int
    lots_after: int
    logits: tuple[float, ...]


def decide(sleeve: Sleeve, logits: Float32Array, gate: RiskGate | None = None) -> Decision:
    """Return the decision of logits (1, 7); raise Degraded (hold) when they are not finite."""
    (row,) = logits.tolist()
    # A NaN or an infinity anywhere makes the sum one.
    if not math.isfinite(sum(row)):
        raise Degraded("the policy's logits are not finite: hold, and look at the model")
    action = row.index(max(row))
    lots = sleeve.lots
    limit_lots = sleeve.limit_lots
    wanted = target_lots(lots, DELTAS[action], limit_lots)
    if gate is None:
        lots_after = bounded_lots(lots, wanted, limit_lots, reduce_only=False)
    else:
        lots_after = gate.bound(lots, wanted, limit_lots)
    return Decision(action, lots, lots_after, tuple(row))


def probabilities(logits: Sequence[float]) -> list[float]:
    """Return how likely a policy's logits make each action, to five decimals."""
    highest = max(logits)
    odds = [math.exp(each - highest) for each in logits]
    total = sum(odds)
    return [round(each / total, 5) for each in odds]


class Trade(NamedTuple):
    """Record one simulated order: slippage is what its price lost against the open, in currency."""

    opens_at: Epoch
    quantity: float
    price: float
    charges: float
    slippage: float


class PanelBroker:
    """Fill sleeves' orders at the opens of a panel, at once and whole."""

    __slots__ = (
        "_brokerage_cap",
        "_brokerage_rate",
        "_buy_rate",
        "_funding",
        "_lot_size",
        "_open",
        "_opens_at",
        "_previous_open",
        "_roll",
        "_sell_rate",
        "_slippage",
    )

    def __init__(self, panel: PricePanel) -> None:
        # A memoryview gives plain Python numbers, several times quicker than numpy's scalars.
        self._opens_at = panel.opens_at.data
        self._open = panel.open.data
        self._previous_open = panel.previous_open.data
        self._roll = panel.roll.data
        self._lot_size = panel.lot_size.data
        self._buy_rate = panel.buy_rate.data
        self._sell_rate = panel.sell_rate.data
        self._brokerage_rate = panel.brokerage_rate.data
        self._brokerage_cap = panel.brokerage_cap.data
        self._slippage = panel.slippage
        self._funding = accounting.funding_per_unit(panel.close, panel.funding_rate).data

    def rebalance(self, sleeve: Sleeve, row: int, lots: int) -> Sequence[Trade]:
        """Bring a sleeve to whole lots at the open of a row and return the orders it took.

        At a roll the old contract is closed at its own price and the new one opened.
        """
        lot_size = self._lot_size[row]
        wanted = lots * lot_size
        rolled = self._roll[row]
        if rolled:
            sleeve.roll(lot_size)
        elif wanted == sleeve.quantity:
            return ()
        closing, opening = accounting.split(sleeve.quantity, wanted, 0 if rolled else 1)
        trades = []
        if closing:
            trades.append(self._fill(sleeve, row, closing, self._previous_open[row]))
        if opening:
            trades.append(self._fill(sleeve, row, opening, self._open[row]))
        return trades

    def fund(self, sleeve: Sleeve, row: int) -> float:
        """Settle the funding of a row's bar, before its mark; return what was paid."""
        per_unit: float = self._funding[row]
        if not per_unit or not sleeve.quantity:
            return 0.0
        before = sleeve.cash
        sleeve.pay_funding(per_unit)
        return before - sleeve.cash

    def _fill(self, sleeve: Sleeve, row: int, quantity: float, reference_price: float) -> Trade:
        if quantity > 0.0:
            side, side_rate = 1, self._buy_rate[row]
        else:
            side, side_rate = -1, self._sell_rate[row]
        price = accounting.fill_price(reference_price, side, self._slippage)
        turnover = abs(quantity) * price
        charges = accounting.order_charges(
            turnover, side_rate, self._brokerage_rate[row], self._brokerage_cap[row]
        )
        sleeve.fill(quantity, price, charges)
        lost = accounting.slippage_cost(quantity, price, reference_price)
        return Trade(Epoch(self._opens_at[row]), quantity, price, charges, lost)


def align_to_features(panel: PricePanel, opens_at: IntArray) -> PricePanel:
    """Return the rows of a panel that have features, those of opens_at; ValueError if one has none.

    A bar without features has no decision and is passed over: an order given before it is filled
    at the open of the next row kept. A roll in a bar passed over moves to that row too, the old
    contract keeping the ratio to the new one that it had at its roll, and so does its funding.
    """
    rows = np.searchsorted(panel.opens_at, opens_at)
    known = rows < len(panel)
    known[known] = panel.opens_at[rows[known]] == opens_at[known]
    if not known.all():
        missing = int(np.flatnonzero(~known)[0])
        raise ValueError(
            f"feature row {missing} opens at {int(opens_at[missing])}, where the panel has no bar: "
            "build the panel from the bars the features were computed from"
        )
    columns = {
        name: getattr(panel, name)[rows]
        for name in PricePanel.__dataclass_fields__
        if name not in ("slippage", "roll", "previous_open", "funding_rate")
    }
    first = np.concatenate((rows[:1], rows[:-1] + 1))
    stop = int(rows[-1]) + 1 if len(rows) else 0
    roll = np.logical_or.reduceat(panel.roll[:stop], first) if stop else panel.roll[rows]
    ratio = (panel.previous_open / panel.open)[:stop]
    moved = np.multiply.reduceat(ratio, first) * panel.open[rows] if stop else ratio
    previous_open = np.where(first == rows, panel.previous_open[rows], moved)
    funding = np.add.reduceat(panel.funding_rate[:stop], first) if stop else ratio
    return replace(panel, **columns, roll=roll, previous_open=previous_open, funding_rate=funding)


@dataclass(frozen=True, slots=True)
class SlotInputs:
    """Hold what one slot's replay needs; values (rows, F) float32 has one row a row of the panel.

    start is the row of the first decision. capital defaults to the value of the limit there.
    """

    slot: str
    panel: PricePanel
    values: Float32Array
    policy: Policy
    limit_lots: int
    start: int = WINDOW - 1
    capital: float | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.panel):
            raise ValueError(
                f"{self.slot}: {len(self.values)} feature rows for {len(self.panel)} bars; "
                "align the panel first"
            )
        if not WINDOW - 1 <= self.start < len(self.panel) - 1:
            raise ValueError(
                f"{self.slot}: the first decision cannot be at row {self.start}: it needs "
                f"{WINDOW} rows up to it and one after it, of {len(self.panel)}"
            )


@dataclass(frozen=True, slots=True)
class EquityCurve:
    """Hold how one account went: equity at the close of each row, every order, its funding."""

    equity: FloatArray
    trades: tuple[Trade, ...]
    funding: float = 0.0
    """What was paid for holding a perpetual, less what was received, in currency."""

    @property
    def net_pnl(self) -> float:
        """Return what was won after charges, slippage and funding, in currency."""
        return float(self.equity[-1] - self.equity[0])

    @property
    def turnover(self) -> float:
        """Return the value of all orders together."""
        return math.fsum(abs(trade.quantity) * trade.price for trade in self.trades)

    @property
    def charges(self) -> float:
        """Return the charges of all orders together."""
        return math.fsum(trade.charges for trade in self.trades)

    @property
    def slippage(self) -> float:
        """Return what all orders together lost against the opens."""
        return math.fsum(trade.slippage for trade in self.trades)

    @property
    def max_drawdown(self) -> float:
        """Return the largest loss from a peak as a ratio of the peak."""
        return accounting.max_drawdown(self.equity)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Hold a slot's replay and the same span held flat and fully long, by the same accounting.

    All columns begin at the row of the first decision; the last row has a mark but no decision,
    so actions and lots (held after the decision) are one shorter than the equities.
    """

    slot: str
    opens_at: IntArray
    closes_at: IntArray
    path: EquityCurve
    actions: IntArray
    lots: IntArray
    flat: EquityCurve
    buy_and_hold: EquityCurve


@dataclass(slots=True)
class _Account:
    """Play one sleeve along a panel, row by row, and keep what is asked for in the end."""

    slot: SlotInputs
    broker: PanelBroker
    sleeve: Sleeve
    equity: list[float] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    lots: list[int] = field(default_factory=list)
    funding: float = 0.0

    @classmethod
    def open(cls, slot: SlotInputs) -> _Account:
        lot_size = float(slot.panel.lot_size[slot.start])
        price = float(slot.panel.close[slot.start])
        capital = slot.capital
        if capital is None:
            capital = limit_notional(slot.limit_lots, lot_size, price)
        return cls(slot, PanelBroker(slot.panel), Sleeve(slot.limit_lots, capital, lot_size))

    def play(self, lots: int) -> EquityCurve:
        """Hold the same lots from the first decision to the end: it trades first and at rolls."""
        panel, sleeve, first = self.slot.panel, self.sleeve, self.slot.start + 1
        per_unit = accounting.funding_per_unit(panel.close, panel.funding_rate)
        traded = [first, *(np.flatnonzero(panel.roll[first + 1 :]) + first + 1).tolist()]
        self.equity.append(sleeve.equity)
        for row, stop in zip(traded, [*traded[1:], len(panel)], strict=True):
            self.trades += self.broker.rebalance(sleeve, row, lots)
            marks = panel.close[row:stop]
            paid = np.concatenate(([sleeve.cash], sleeve.quantity * per_unit[row:stop]))
            cash = np.subtract.accumulate(paid)[1:]
            self.equity += accounting.equity(cash, sleeve.quantity, marks).tolist()
            self.funding += sleeve.cash - float(cash[-1])
            sleeve.cash = float(cash[-1])
            sleeve.mark(float(marks[-1]), float(panel.lot_size[row]))
        return self.path()

    def path(self) -> EquityCurve:
        return EquityCurve(np.array(self.equity), tuple(self.trades), self.funding)


def replay_slot(
    slot: SlotInputs, gate: RiskGate | None = None, *, sequential: bool = False
) -> ReplayResult:
    """Return how one slot would have traded its panel."""
    return replay([slot], gate, sequential=sequential)[0]


def replay(
    slots: Sequence[SlotInputs], gate: RiskGate | None = None, *, sequential: bool = False
) -> tuple[ReplayResult, ...]:
    """Return how a bot's slots would have traded, decided in order of time, one gate for them all.

    The market code of every bar is computed ahead in batches, as no account enters it; sequential
    encodes each bar alone when its turn comes, as a live bot does.
    """
    accounts = [_Account.open(slot) for slot in slots]
    codes = [_codes(slot, ENCODE_ROWS if not sequential else 1) for slot in slots]
    marks = [(slot.panel.close.data, slot.panel.lot_size.data) for slot in slots]
    total = sum(account.sleeve.equity for account in accounts)
    for at, index, row in _in_time_order(slots):
        account, slot = accounts[index], slots[index]
        sleeve = account.sleeve
        close, lot_size = marks[index]
        before = sleeve.equity
        account.funding += account.broker.fund(sleeve, row)
        observed = sleeve.observe(close[row], lot_size[row])
        account.equity.append(sleeve.equity)
        if gate is not None:
            total += sleeve.equity - before
            gate.observe(Epoch(at), total)
        if row + 1 == len(slot.panel):
            continue
        decision = decide(sleeve, slot.policy.act(next(codes[index]), observed), gate)
        account.actions.append(decision.action)
        account.lots.append(decision.lots_after)
        account.trades += account.broker.rebalance(sleeve, row + 1, decision.lots_after)
    return tuple(_result(account) for account in accounts)


def _in_time_order(slots: Sequence[SlotInputs]) -> Iterator[tuple[int, int, int]]:
    closes = [slot.panel.closes_at[slot.start :] for slot in slots]
    index = np.repeat(np.arange(len(slots)), [len(each) for each in closes])
    row = np.concatenate(
        [
            np.arange(slot.start, slot.start + len(each))
            for slot, each in zip(slots, closes, strict=True)
        ]
    )
    at = np.concatenate(closes)
    order = np.argsort(at, kind="stable")
    return zip(at[order].tolist(), index[order].tolist(), row[order].tolist(), strict=True)


def _codes(slot: SlotInputs, rows_at_once: int) -> Iterator[Float32Array]:
    view = windows(slot.values)[slot.start - WINDOW + 1 : -1]
    for first in range(0, len(view), rows_at_once):
        codes = slot.policy.encode(np.ascontiguousarray(view[first : first + rows_at_once]))
        for each in range(len(codes)):
            yield codes[each : each + 1]


def _result(account: _Account) -> ReplayResult:
    slot = account.slot
    return ReplayResult(
        slot.slot,
        slot.panel.opens_at[slot.start :],
        slot.panel.closes_at[slot.start :],
        account.path(),
        np.array(account.actions, dtype=np.int64),
        np.array(account.lots, dtype=np.int64),
        _Account.open(slot).play(0),
        _Account.open(slot).play(slot.limit_lots),
    )
