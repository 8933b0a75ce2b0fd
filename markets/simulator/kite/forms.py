"""The JSON of the simulated broker's answers: every key the real ones have, and no other."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from markets.simulator.board import Board
from markets.simulator.kite.orders import CANCELLED, Order, Trade
from markets.simulator.kite.packets import WHOLE_BOOK
from markets.simulator.listing import INDEX, Listed
from tradingsite.clock import IST

CSV_COLUMNS = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,"
    "lot_size,instrument_type,segment,exchange"
)
EXCHANGES = ["NSE", "BSE", "NFO", "BFO", "MF"]
ORDER_TYPES = ["MARKET", "LIMIT", "SL", "SL-M"]


_EMPTY_LEVELS = [{"price": 0, "quantity": 0, "orders": 0}] * 5
# An index has the same keys as anything else, and nothing in them.
_NOTHING_TRADED: dict[str, Any] = {
    **dict.fromkeys(("last_quantity", "buy_quantity", "sell_quantity", "volume"), 0),
    **dict.fromkeys(("average_price", "oi", "oi_day_high", "oi_day_low"), 0),
    **dict.fromkeys(("lower_circuit_limit", "upper_circuit_limit"), 0),
    "last_trade_time": None,
    "depth": {"buy": _EMPTY_LEVELS, "sell": _EMPTY_LEVELS},
}


def stamp(at: float | None) -> str | None:
    """Return a market instant as the broker writes it: Indian time without a zone."""
    if at is None:
        return None
    return dt.datetime.fromtimestamp(int(at), IST).strftime("%Y-%m-%d %H:%M:%S")


def profile(user_id: str) -> dict[str, Any]:
    """Return the user's profile."""
    return {
        "user_id": user_id,
        "user_type": "individual",
        "email": "owner@simulated.example",
        "user_name": "Simulated Owner",
        "user_shortname": "Simulated",
        "broker": "ZERODHA",
        "exchanges": EXCHANGES,
        "products": ["CNC", "NRML", "MIS", "BO", "CO"],
        "order_types": ORDER_TYPES,
        "avatar_url": None,
        "meta": {"demat_consent": "physical"},
    }


def instruments_csv(rows: Iterable[Listed]) -> str:
    """Return the list of instruments; every numeric column is filled, as clients expect."""
    lines = [CSV_COLUMNS]
    for row in rows:
        expiry = row.expiry.isoformat() if row.expiry else ""
        name = "" if row.kind == INDEX and row.symbol == "INDIA VIX" else row.name
        kind = "EQ" if row.kind == INDEX else row.kind
        lines.append(
            f'{row.token},{row.token >> 8},{row.symbol},"{name}",0,'
            f"{expiry},{row.strike:g},{row.tick_size:g},{row.lot_size},{kind},{row.segment},"
            f"{row.exchange}"
        )
    return "\n".join(lines) + "\n"


def ltp(board: Board, place: int) -> dict[str, Any]:
    """Return an instrument's last price."""
    return {
        "instrument_token": board.listing.rows[place].token,
        "last_price": round(float(board.last[place]), 4),
    }


def ohlc(board: Board, place: int) -> dict[str, Any]:
    """Return an instrument's last price and its day's prices, the close being the day before's."""
    names = ("open", "high", "low", "close")
    prices = {name: round(float(getattr(board, name)[place]), 4) for name in names}
    return {**ltp(board, place), "ohlc": prices}


def quotes(
    board: Board, places: list[int], circuit: Callable[[Listed], tuple[float, float]]
) -> list[dict[str, Any]]:
    """Return whole quotes of instruments, their depths worked out together."""
    sizes, prices, counts = (
        each.tolist() for each in board.depths(np.array(places, dtype=np.int64))
    )
    when = stamp(board.at)
    found = []
    for number, place in enumerate(places):
        row = board.listing.rows[place]
        sides = zip(sizes[number], prices[number], counts[number], strict=True)
        levels = [_levels(*side) for side in sides]
        found.append(_quote(board, place, when, circuit(row), levels))
    return found


def _levels(sizes: list[int], prices: list[float], counts: list[int]) -> list[dict[str, float]]:
    return [
        {"price": price, "quantity": size, "orders": count}
        for size, price, count in zip(sizes, prices, counts, strict=True)
    ]


def _quote(
    board: Board,
    place: int,
    when: str | None,
    circuit: tuple[float, float],
    levels: list[list[dict[str, float]]],
) -> dict[str, Any]:
    """Return an instrument's whole quote; an index has no depth, volume or interest."""
    row = board.listing.rows[place]
    found: dict[str, Any] = ohlc(board, place)
    change = round(found["last_price"] - found["ohlc"]["close"], 4)
    if row.kind == INDEX:
        return {**found, **_NOTHING_TRADED, "timestamp": when, "net_change": change}
    bids, offers = levels
    opening, interest = int(board.interest_at_open[place]), int(board.interest[place])
    prices = found["ohlc"]
    return {
        **found,
        "timestamp": when,
        "last_trade_time": when,
        "last_quantity": row.lot_size,
        "buy_quantity": int(sum(each["quantity"] for each in bids) * WHOLE_BOOK),
        "sell_quantity": int(sum(each["quantity"] for each in offers) * WHOLE_BOOK),
        "volume": int(board.volume[place]),
        "average_price": round(
            (prices["open"] + prices["high"] + prices["low"] + found["last_price"]) / 4, 2
        ),
        "oi": interest,
        "oi_day_high": max(opening, interest),
        "oi_day_low": min(opening, interest),
        "net_change": change,
        "lower_circuit_limit": circuit[0],
        "upper_circuit_limit": circuit[1],
        "depth": {"buy": bids, "sell": offers},
    }


def order(each: Order) -> dict[str, Any]:
    """Return an order of the day's book."""
    ask = each.ask
    tags = ([ask.tag] if ask.tag else []) + each.extra_tags
    found: dict[str, Any] = {
        "placed_by": each.placed_by,
        "order_id": each.order_id,
        "exchange_order_id": each.exchange_order_id,
        "parent_order_id": each.parent_id,
        "status": each.status,
        "status_message": each.message,
        "status_message_raw": each.message,
        "order_timestamp": stamp(each.history[-1][1]),
        "exchange_update_timestamp": stamp(each.exchange_at),
        "exchange_timestamp": stamp(each.exchange_at),
        "variety": ask.variety,
        "modified": each.modified,
        "exchange": ask.exchange,
        "tradingsymbol": ask.symbol,
        "instrument_token": each.token,
        "order_type": ask.order_type,
        "transaction_type": _side(ask.side),
        "validity": ask.validity,
        "product": ask.product,
        "quantity": ask.quantity,
        "disclosed_quantity": ask.disclosed_quantity,
        "price": ask.price,
        "trigger_price": ask.trigger_price,
        "average_price": each.average_price,
        "filled_quantity": each.filled,
        "pending_quantity": 0 if each.is_over else each.pending,
        "cancelled_quantity": each.cancelled,
        "market_protection": ask.market_protection,
        "meta": {},
        "tag": ask.tag or None,
        "guid": uuid.uuid5(uuid.NAMESPACE_OID, each.order_id).hex[:14],
    }
    if ask.validity == "TTL":
        found["validity_ttl"] = ask.ttl_minutes
    return {**found, "tags": tags} if tags else found


def order_history(each: Order) -> list[dict[str, Any]]:
    """Return one row for each state an order has been in."""
    rows = []
    now = order(each)
    for status, at, filled, message in each.history:
        known = each.exchange_order_id if status not in ("PUT ORDER REQ RECEIVED",) else None
        cancelled = each.cancelled if status == CANCELLED else 0
        rows.append(
            {
                **now,
                "status": status,
                "status_message": message,
                "status_message_raw": message,
                "order_timestamp": stamp(at),
                "exchange_timestamp": stamp(at) if known else None,
                "exchange_update_timestamp": stamp(at) if known else None,
                "exchange_order_id": known,
                "filled_quantity": filled,
                "average_price": each.average_price if filled else 0,
                "cancelled_quantity": cancelled,
                "pending_quantity": max(each.ask.quantity - filled - cancelled, 0),
            }
        )
    return rows


def trade(each: Trade) -> dict[str, Any]:
    """Return an execution; its order's time is a time of day only, as at the real broker."""
    ordered = stamp(each.ordered_at) or ""
    return {
        "trade_id": each.trade_id,
        "order_id": each.order_id,
        "exchange": each.exchange,
        "tradingsymbol": each.symbol,
        "instrument_token": each.token,
        "product": each.product,
        "average_price": each.price,
        "quantity": each.quantity,
        "exchange_order_id": each.exchange_order_id,
        "transaction_type": _side(each.side),
        "fill_timestamp": stamp(each.at),
        "order_timestamp": ordered[11:],
        "exchange_timestamp": stamp(each.at),
    }


def _side(side: int) -> str:
    return "BUY" if side > 0 else "SELL"
