"""What the broker itself says that executions cost: its virtual contract notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from markets.venues.base import VenueTrade
from markets.venues.kite.rows import Directory, side_of

PAISA = Decimal("0.01")
Ask = Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]]]


def charges(
    trades: Sequence[VenueTrade], directory: Directory, product: str, ask: Ask
) -> list[Decimal]:
    """Return the cost of each execution, by the notes that `ask` gets for whole orders.

    Brokerage is by order, so the executions of one order share its note by their turnover.
    """
    if not trades:
        return []
    together: dict[tuple[object, ...], list[int]] = {}
    for place, trade in enumerate(trades):
        key = (trade.tag or trade.trade_id, trade.instrument, trade.quantity > 0)
        together.setdefault(key, []).append(place)
    groups = [[trades[place] for place in places] for places in together.values()]
    notes = ask([_asked(group, directory, product) for group in groups])
    costs = [Decimal(0)] * len(trades)
    for places, group, note in zip(together.values(), groups, notes, strict=True):
        total = Decimal(str(note["charges"]["total"]))
        for place, share in zip(places, _shares(total, group), strict=True):
            costs[place] = share
    return costs


def _asked(group: Sequence[VenueTrade], directory: Directory, product: str) -> dict[str, Any]:
    exchange, symbol = directory.symbol_of(group[0].instrument).split(":", 1)
    quantity = sum((abs(trade.quantity) for trade in group), Decimal(0))
    turnover = sum((abs(trade.quantity) * trade.price for trade in group), Decimal(0))
    return {
        "order_id": group[0].trade_id,
        "exchange": exchange,
        "tradingsymbol": symbol,
        "transaction_type": side_of(group[0].quantity),
        "variety": "regular",
        "product": group[0].product or product,
        "order_type": "MARKET",
        "quantity": int(quantity),
        "average_price": float(turnover / quantity),
    }


def _shares(total: Decimal, group: Sequence[VenueTrade]) -> list[Decimal]:
    """Return an amount divided by turnover, to the paisa; the last one takes what is left over."""
    turnovers = [abs(trade.quantity) * trade.price for trade in group]
    whole = sum(turnovers, Decimal(0))
    shares = [
        (total * turnover / whole).quantize(PAISA, ROUND_HALF_EVEN) for turnover in turnovers[:-1]
    ]
    return [*shares, total - sum(shares, Decimal(0))]
