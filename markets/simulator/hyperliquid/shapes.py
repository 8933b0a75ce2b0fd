"""The rows of the exchange's answers, in the real one's shapes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from markets.simulator.hyperliquid.account import OPEN, Account, Fill, Order
from markets.simulator.hyperliquid.market import BY_NAME, UNIVERSE
from markets.simulator.hyperliquid.wire import text

NO_HASH = "0x" + "0" * 64
SPOT_META = {
    "tokens": [
        {
            "name": "USDC",
            "szDecimals": 8,
            "weiDecimals": 8,
            "index": 0,
            "tokenId": "0x6d1e7cde53ba9467b783cb7c530ce054",
            "isCanonical": True,
            "evmContract": None,
            "fullName": None,
        }
    ],
    "universe": [],
}


def meta() -> dict[str, Any]:
    """Return the universe."""
    return {
        "universe": [
            {
                "name": asset.name,
                "szDecimals": asset.size_decimals,
                "maxLeverage": asset.most_leverage,
                "onlyIsolated": False,
            }
            for asset in UNIVERSE
        ]
    }


def short(amount: Decimal) -> Decimal:
    """Return an amount of USDC in its six decimals."""
    return round(amount, 6)


def position_row(account: Account, coin: str, mark: Decimal) -> dict[str, Any]:
    """Return a position as the clearinghouse shows it at a mark."""
    held, used = account.positions[coin], account.margin_of(coin, mark)
    profit = held.unrealised(mark)
    most = BY_NAME[coin].most_leverage
    # The mark at which this position alone would eat the account up to its maintenance margin.
    room = account.cash - held.size * held.entry
    liquidation = -room / (held.size - abs(held.size) / (2 * most))
    return {
        "type": "oneWay",
        "position": {
            "coin": coin,
            "szi": text(held.size),
            "entryPx": text(round(held.entry, 5)),
            "leverage": {"type": "cross", "value": account.leverage_of(coin)},
            "maxLeverage": most,
            "liquidationPx": text(round(liquidation, 5)) if liquidation > 0 else None,
            "marginUsed": text(short(used)),
            "positionValue": text(short(abs(held.size) * mark)),
            "returnOnEquity": text(short(profit / used)),
            "unrealizedPnl": text(short(profit)),
            "cumFunding": {
                # The exchange counts what was paid, not what was received.
                "allTime": text(-account.funding),
                "sinceOpen": text(-held.funding),
                "sinceChange": text(-held.funding),
            },
        },
    }


def order_row(order: Order) -> dict[str, Any]:
    """Return an order as every list of orders shows it."""
    return {
        "coin": order.coin,
        "side": "B" if order.is_buy else "A",
        "limitPx": text(order.limit),
        "sz": text(order.left),
        "origSz": text(order.size),
        "oid": order.oid,
        "cloid": order.cloid,
        "timestamp": order.placed_ms,
        "orderType": "Market" if order.tif == "LiquidationMarket" else "Limit",
        "tif": order.tif,
        "reduceOnly": order.reduce_only,
        "isTrigger": False,
        "isPositionTpsl": False,
        "triggerCondition": "N/A",
        "triggerPx": "0.0",
        "children": [],
    }


def status_row(order: Order) -> dict[str, Any]:
    """Return an order with the last that happened to it.

    What is left of an open order is told as it was when it came: the exchange brings `sz` up to
    date only where the status changes (hyperliquid-python-sdk, issue 141).
    """
    row = order_row(order)
    if order.status == OPEN:
        row["sz"] = text(order.size)
    return {
        "order": row,
        "status": order.status,
        "statusTimestamp": order.status_ms or order.placed_ms,
    }


def fill_row(fill: Fill, wallet: str) -> dict[str, Any]:
    """Return an execution of a wallet's."""
    row: dict[str, Any] = {
        "coin": fill.coin,
        "px": text(fill.price),
        "sz": text(fill.size),
        "side": "B" if fill.is_buy else "A",
        "time": fill.time_ms,
        "startPosition": text(fill.start_position),
        "dir": fill.direction,
        "closedPnl": text(fill.closed_pnl),
        "hash": NO_HASH,
        "oid": fill.oid,
        "crossed": fill.crossed,
        "fee": text(fill.fee),
        "tid": fill.tid,
        "feeToken": "USDC",
        "twapId": None,
    }
    if fill.cloid:
        row["cloid"] = fill.cloid
    if fill.liquidation_mark is not None:
        mark = text(fill.liquidation_mark)
        method = fill.liquidation_method
        row["liquidation"] = {"liquidatedUser": wallet, "markPx": mark, "method": method}
    return row
