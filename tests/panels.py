"""Panels and features made of numbers alone, so that a test owns every price it argues about."""

import numpy as np

from bots.decision.observation import Float32Array
from markets.domain.bars import FloatArray
from markets.domain.price_panel import PricePanel

FIRST_OPEN = 1_704_080_700
"""2024-01-01 09:15 IST."""


def make_panel(
    close: object,
    open_: object = None,
    *,
    roll_rows: tuple[int, ...] = (),
    basis: float = 0.0,
    lot_sizes: tuple[float, ...] = (50.0,),
    buy_rate: float = 0.0,
    sell_rate: float = 0.0,
    brokerage_rate: float = 0.0,
    brokerage_cap: float = float("inf"),
    funding_rate: object = 0.0,
    slippage: float = 0.0,
    bar_seconds: int = 900,
) -> PricePanel:
    """Return a panel of bars without gaps; opens default to the closes before them.

    At a roll row the contract changes: the old one is priced `basis` below the new one there, and
    the next of lot_sizes applies.
    """
    closes = np.asarray(close, dtype=np.float64)
    rows = len(closes)
    opens = np.concatenate((closes[:1], closes[:-1])) if open_ is None else np.asarray(open_)
    roll = np.zeros(rows, dtype=np.bool_)
    roll[list(roll_rows)] = True
    opens_at = FIRST_OPEN + bar_seconds * np.arange(rows, dtype=np.int64)
    contract = np.minimum(np.cumsum(roll), len(lot_sizes) - 1)
    return PricePanel(
        opens_at=opens_at,
        closes_at=opens_at + bar_seconds,
        open=opens.astype(np.float64),
        close=closes,
        previous_open=np.where(roll, opens * (1.0 - basis), opens),
        roll=roll,
        lot_size=np.asarray(lot_sizes)[contract],
        buy_rate=np.full(rows, buy_rate),
        sell_rate=np.full(rows, sell_rate),
        brokerage_rate=np.full(rows, brokerage_rate),
        brokerage_cap=np.full(rows, brokerage_cap),
        funding_rate=np.broadcast_to(np.asarray(funding_rate, dtype=np.float64), rows).copy(),
        slippage=slippage,
    )


def random_panel(
    rows: int, seed: int = 0, volatility: float = 0.002, **settings: object
) -> PricePanel:
    """Return a random walk near 22,000 with gaps between bars, costs, and a roll every 97 rows."""
    rng = np.random.default_rng(seed)
    opens, closes = np.empty(rows), np.empty(rows)
    moves = np.exp(volatility * rng.standard_normal((rows, 2)))
    price = 22_000.0
    for row in range(rows):
        opens[row] = price * moves[row, 0]
        closes[row] = price = opens[row] * moves[row, 1]
    defaults = {
        "roll_rows": tuple(range(97, rows, 97)),
        "basis": 0.004,
        "lot_sizes": (50.0, 25.0, 75.0, 65.0),
        "buy_rate": 0.00004,
        "sell_rate": 0.00025,
        "brokerage_rate": 0.0003,
        "brokerage_cap": 23.6,
        "slippage": 0.0001,
    }
    return make_panel(closes, opens, **(defaults | settings))  # type: ignore[arg-type]


def random_funding(rows: int, seed: int = 0) -> FloatArray:
    """Return rates of funding of both signs, paid in every third row."""
    rates = np.random.default_rng(seed).normal(1e-4, 3e-4, rows)
    return np.where(np.arange(rows) % 3 == 0, rates, 0.0)


def random_features(rows: int, features: int = 5, seed: int = 0) -> Float32Array:
    """Return feature rows (rows, features) of noise."""
    noise = np.random.default_rng(seed).standard_normal((rows, features))
    return noise.astype(np.float32)
