"""A sleeve: the account of one slot, the same object in the environment, the replay and the bots.

Fills may come late, in parts or not at all: a sleeve believes only what it is told. Its equity and
peak move at marks, once a closed bar; its cash and quantity move at fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bots.decision import accounting
from bots.decision.observation import Float32Array, account_state, limit_notional

# Floats like 0.01 + 0.02 miss a whole number of lots by less than this share of a lot.
LOT_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class SleeveState:
    """Hold what a sleeve must remember over a restart; money in the market's currency."""

    limit_lots: int
    lot_size: float
    quantity: float
    cash: float
    equity: float
    entry_equity: float
    peak_equity: float
    bars_held: int
    rolled_side: int = 0


class Sleeve:
    """Keep one slot's position, cash and history in floats.

    entry_equity is the cash at the moment the position was opened from flat, so that equity less
    entry_equity is the open profit after its charges; a roll continues the position.
    """

    __slots__ = (
        "_rolled_side",
        "bars_held",
        "cash",
        "entry_equity",
        "equity",
        "limit_lots",
        "lot_size",
        "peak_equity",
        "quantity",
    )

    def __init__(self, limit_lots: int, capital: float, lot_size: float) -> None:
        if limit_lots < 1:
            raise ValueError(f"limit_lots must be at least 1, not {limit_lots}")
        self.limit_lots = limit_lots
        self.lot_size = lot_size
        self.quantity = 0.0
        self.cash = capital
        self.equity = capital
        self.entry_equity = capital
        self.peak_equity = capital
        self.bars_held = 0
        self._rolled_side = 0

    @classmethod
    def from_state(cls, state: SleeveState) -> Sleeve:
        """Return the sleeve that `state` was taken from."""
        sleeve = cls(state.limit_lots, state.cash, state.lot_size)
        sleeve.quantity = state.quantity
        sleeve.equity = state.equity
        sleeve.entry_equity = state.entry_equity
        sleeve.peak_equity = state.peak_equity
        sleeve.bars_held = state.bars_held
        sleeve._rolled_side = state.rolled_side
        return sleeve

    def state(self) -> SleeveState:
        """Return everything needed to go on after a restart."""
        return SleeveState(
            self.limit_lots,
            self.lot_size,
            self.quantity,
            self.cash,
            self.equity,
            self.entry_equity,
            self.peak_equity,
            self.bars_held,
            self._rolled_side,
        )

    @property
    def lots(self) -> int:
        """Return the whole lots held; a part of a lot, from a partial fill, does not count."""
        lots = self.quantity / self.lot_size
        return int(lots + LOT_TOLERANCE if lots > 0.0 else lots - LOT_TOLERANCE)

    def mark(self, mark_price: float, lot_size: float) -> None:
        """Take the close of a bar: once for each bar, and before its decision."""
        self.lot_size = lot_size
        self.equity = accounting.equity(self.cash, self.quantity, mark_price)
        if self.equity > self.peak_equity:
            self.peak_equity = self.equity
        if self.quantity:
            self.bars_held += 1
        else:
            self._forget_entry()
        self._rolled_side = 0

    def account(self, mark_price: float) -> tuple[float, float, float, float]:
        """Return the account state at a mark, as observation.account_state orders it."""
        return account_state(
            self.lots,
            self.limit_lots,
            self.equity - self.entry_equity,
            self.bars_held,
            self.peak_equity - self.equity,
            limit_notional(self.limit_lots, self.lot_size, mark_price),
        )

    def observe(self, mark_price: float, lot_size: float) -> Float32Array:
        """Mark the sleeve at the close of a bar and return the policy's account input (1, 4)."""
        self.mark(mark_price, lot_size)
        return np.array((self.account(mark_price),), dtype=np.float32)

    def fill(self, quantity: float, price: float, charges: float) -> None:
        """Take a fill: quantity is signed, charges are the fill's own, price includes slippage."""
        held = self.quantity
        after = self._snapped(held + quantity)
        if held * after < 0.0:
            # One fill through zero is a closing and an opening one; charges go by quantity.
            closing_charges = charges * (-held / quantity)
            self.fill(-held, price, closing_charges)
            self.fill(after, price, charges - closing_charges)
            return
        continues_roll = self._rolled_side != 0 and self._rolled_side * quantity >= 0.0
        if held == 0.0 and not continues_roll:
            self._forget_entry()
        self.cash = accounting.settle(self.cash, quantity, price, charges)
        self.quantity = after
        if after == 0.0 and not self._rolled_side:
            self._forget_entry()

    def pay_funding(self, per_unit: float) -> None:
        """Pay or receive the funding of a bar on what is held at its close, before its mark."""
        self.cash = accounting.pay_funding(self.cash, self.quantity, per_unit)

    def roll(self, lot_size: float) -> None:
        """Say that the position moves to a contract of another lot size until the next mark.

        Its closing fill, whole, and then its opening fill follow; if both are on the same side the
        position's entry and age are kept.
        """
        self.lot_size = lot_size
        self._rolled_side = (self.quantity > 0.0) - (self.quantity < 0.0)

    def _forget_entry(self) -> None:
        self.entry_equity = self.cash
        self.bars_held = 0

    def _snapped(self, quantity: float) -> float:
        # Sums of floats leave dust; whole lots are exact, so that flat is exactly flat.
        whole = round(quantity / self.lot_size) * self.lot_size
        return whole if abs(quantity - whole) <= LOT_TOLERANCE * self.lot_size else quantity
