"""The arithmetic of money, written once: floats, float64 columns and Decimal all go through it.

Plain operators only, so that the training environment (columns), the replay and the bots (floats)
and the ledger (Decimal) cannot drift apart; `minimum` and `maximum` are passed in where columns
need numpy's. Quantities are signed, positive is long. Every change of a position is at most two
orders, first closing, then opening: a reduction only closes, an increase only opens, a flip and a
roll do both, and each order pays its own charges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from markets.domain.bars import FloatArray

Value = Any
"""A float, a Decimal or a float64 column; one call never mixes floats with Decimals."""


def split(
    held: Value,
    wanted: Value,
    carried: Value,
    minimum: Callable[..., Any] = min,
    maximum: Callable[..., Any] = max,
) -> tuple[Value, Value]:
    """Return the quantities of the closing and the opening order that turn held into wanted.

    carried is 1 where both are in the same contract and 0 at a roll, where nothing is kept.
    """
    staying = carried * kept(held, wanted, minimum, maximum)
    return staying - held, wanted - staying


def kept(
    held: Value,
    wanted: Value,
    minimum: Callable[..., Any] = min,
    maximum: Callable[..., Any] = max,
) -> Value:
    """Return what stays of held, in lots or units, on the way to wanted in the same contract."""
    return maximum(minimum(wanted, maximum(held, 0)), minimum(held, 0))


def fill_price(price: Value, side: Value, slippage: Value) -> Value:
    """Return the price paid: side is 1 for a buy and -1 for a sale, slippage is against us."""
    return price * (1 + side * slippage)


def order_charges(
    turnover: Value,
    side_rate: Value,
    brokerage_rate: Value,
    brokerage_cap: Value,
    minimum: Callable[..., Any] = min,
) -> Value:
    """Return the charges of one executed order: its side's rate, and the capped brokerage."""
    return turnover * side_rate + minimum(turnover * brokerage_rate, brokerage_cap)


def settle(cash: Value, quantity: Value, price: Value, charges: Value) -> Value:
    """Return the cash left after a fill."""
    return pay(cash, quantity * price, charges)


def pay(cash: Value, value: Value, charges: Value) -> Value:
    """Return the cash left after a fill of a signed value, quantity times price."""
    return cash - value - charges


def funding_per_unit(price: Value, rate: Value) -> Value:
    """Return what a unit held long pays at a price by a rate of funding; a short receives it."""
    return price * rate


def pay_funding(cash: Value, quantity: Value, per_unit: Value) -> Value:
    """Return the cash left after funding: longs pay a positive rate, shorts receive it."""
    return cash - quantity * per_unit


def equity(cash: Value, quantity: Value, mark_price: Value) -> Value:
    """Return what the account is worth at a mark."""
    return cash + quantity * mark_price


def drawdown(equity_now: Value, peak_equity: Value) -> Value:
    """Return the loss from the highest equity so far as a ratio of it."""
    return 1 - equity_now / peak_equity


def slippage_cost(quantity: Value, price: Value, reference_price: Value) -> Value:
    """Return what a fill lost against the price it was decided on; positive is a loss."""
    return quantity * (price - reference_price)


def max_drawdown(equity_path: FloatArray) -> float:
    """Return the largest drawdown along a path of equities, as a ratio."""
    return float(np.max(drawdown(equity_path, np.maximum.accumulate(equity_path))))
