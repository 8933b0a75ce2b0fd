"""The JSON of the simulated broker's answers: every key the real ones have, and no other."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from markets.simulator.board import Board
from markets.simulator.kite.charges import Items
from markets.simulator.kite.orders import CANCELLED, Order, Trade
from markets.simulator.kite.portfolio import Holding, Portfolio, Position, Worth
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
    sizes, prices, counts = (each.tolist() for each in board.depths(np.array(places, dtype=np.int64)))
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
        "buy_quantity": int(sum(each["quantity"] for each in bids) * 40),
        "sell_quantity": int(sum(each["quantity"] for each in offers) * 40),
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


def positions(portfolio: Portfolio, worth: Worth) -> dict[str, list[dict[str, Any]]]:
    """Return the net positions and those of today's trades alone."""
    net = [_position(each, worth) for each in portfolio.positions.values()]
    traded = [
        Position(
            each.row,
            each.product,
            buy_quantity=each.buy_quantity,
            buy_value=each.buy_value,
            sell_quantity=each.sell_quantity,
            sell_value=each.sell_value,
        )
        for each in portfolio.positions.values()
        if each.buy_quantity or each.sell_quantity
    ]
    return {"net": net, "day": [_position(each, worth) for each in traded]}


def _position(each: Position, worth: Worth) -> dict[str, Any]:
    last, close = worth(each.row.exchange, each.row.symbol)
    pnl = each.pnl(last)
    # Of today alone: what was held overnight counts from the last close.
    gain = each.overnight * (close - each.overnight_price) if each.overnight else 0.0
    day = {
        "day_buy_quantity": each.buy_quantity,
        "day_buy_price": _ratio(each.buy_value, each.buy_quantity),
        "day_buy_value": round(each.buy_value, 2),
        "day_sell_quantity": each.sell_quantity,
        "day_sell_price": _ratio(each.sell_value, each.sell_quantity),
        "day_sell_value": round(each.sell_value, 2),
    }
    return {
        "tradingsymbol": each.row.symbol,
        "exchange": each.row.exchange,
        "instrument_token": each.row.token,
        "product": each.product,
        "quantity": each.quantity,
        "overnight_quantity": each.overnight,
        "multiplier": 1,
        "average_price": round(each.average_price, 4),
        "close_price": close if each.overnight else 0,
        "last_price": last,
        "value": round(each.sold_value - each.bought_value, 2),
        "pnl": round(pnl, 2),
        "m2m": round(pnl - gain, 2),
        "unrealised": round(pnl - each.realised(), 2),
        "realised": round(each.realised(), 2),
        "buy_quantity": each.bought,
        "buy_price": _ratio(each.bought_value, each.bought),
        "buy_value": round(each.bought_value, 2),
        "buy_m2m": round(each.bought_value, 2),
        "sell_quantity": each.sold,
        "sell_price": _ratio(each.sold_value, each.sold),
        "sell_value": round(each.sold_value, 2),
        "sell_m2m": round(each.sold_value, 2),
        **day,
    }


def holding(each: Holding, worth: Worth) -> dict[str, Any]:
    """Return shares kept for delivery."""
    last, close = worth(each.row.exchange, each.row.symbol)
    change = last - close
    return {
        "tradingsymbol": each.row.symbol,
        "exchange": each.row.exchange,
        "instrument_token": each.row.token,
        "isin": f"INE{hashlib.sha256(each.row.symbol.encode()).hexdigest()[:9].upper()}",
        "product": "CNC",
        "price": 0,
        "quantity": each.quantity,
        "used_quantity": 0,
        "t1_quantity": 0,
        "realised_quantity": each.quantity,
        "authorised_quantity": 0,
        "authorised_date": f"{each.since} 00:00:00",
        "authorisation": {},
        "opening_quantity": each.quantity,
        "short_quantity": 0,
        "collateral_quantity": 0,
        "collateral_type": "",
        "discrepancy": False,
        "average_price": round(each.average_price, 4),
        "last_price": last,
        "close_price": close,
        "pnl": round((last - each.average_price) * each.quantity, 2),
        "day_change": round(change, 2),
        "day_change_percentage": round(100.0 * change / close, 4) if close else 0.0,
        "mtf": {
            "quantity": 0,
            "used_quantity": 0,
            "average_price": 0,
            "value": 0,
            "initial_margin": 0,
        },
    }


def margins(portfolio: Portfolio, worth: Worth) -> dict[str, Any]:
    """Return the funds of the equity segment, where all of this account's money is."""
    used = portfolio.used(worth)
    realised, unrealised = portfolio.futures_gain(worth)
    available = portfolio.available(worth)
    utilised = {
        "debits": round(sum(used.values()), 2),
        "exposure": round(used["exposure"], 2),
        "m2m_realised": round(realised, 2),
        "m2m_unrealised": round(unrealised, 2),
        "option_premium": round(used["option_premium"], 2),
        "payout": 0,
        "span": round(used["span"], 2),
        "holding_sales": 0,
        "turnover": 0,
        "liquid_collateral": 0,
        "stock_collateral": 0,
        "delivery": round(used["delivery"], 2),
    }
    return _funds(available, portfolio.cash, utilised)


def no_margins() -> dict[str, Any]:
    """Return the funds of a segment that is not used."""
    names = (
        *("debits", "exposure", "m2m_realised", "m2m_unrealised", "option_premium", "payout"),
        *("span", "holding_sales", "turnover", "liquid_collateral", "stock_collateral", "delivery"),
    )
    return _funds(0.0, 0.0, dict.fromkeys(names, 0))


def _funds(available: float, cash: float, utilised: dict[str, Any]) -> dict[str, Any]:
    return {
        "enabled": True,
        "net": round(available, 2),
        "available": {
            "adhoc_margin": 0,
            "cash": round(cash, 2),
            "opening_balance": round(cash, 2),
            "live_balance": round(available, 2),
            "collateral": 0,
            "intraday_payin": 0,
        },
        "utilised": utilised,
    }


def charges(items: Items) -> dict[str, Any]:
    """Return the items of a contract note."""
    return {
        "transaction_tax": items.transaction_tax,
        "transaction_tax_type": "stt",
        "exchange_turnover_charge": items.exchange,
        "sebi_turnover_charge": items.sebi,
        "brokerage": items.brokerage,
        "stamp_duty": items.stamp_duty,
        "gst": {"igst": items.gst, "cgst": 0, "sgst": 0, "total": items.gst},
        "total": items.total,
    }


def order_margin(
    row: Listed, need: dict[str, float], paid: Items, leverage: int = 1
) -> dict[str, Any]:
    """Return the margin an order asks for."""
    return {
        "type": "equity",
        "tradingsymbol": row.symbol,
        "exchange": row.exchange,
        "span": round(need["span"], 2),
        "exposure": round(need["exposure"], 2),
        "option_premium": round(need["option_premium"], 2),
        "additional": 0,
        "bo": 0,
        "cash": 0,
        "var": round(need["var"], 2),
        "pnl": {"realised": 0, "unrealised": 0},
        "leverage": leverage,
        "charges": charges(paid),
        "total": round(sum(need.values()), 2),
    }


def _side(side: int) -> str:
    return "BUY" if side > 0 else "SELL"


def _ratio(value: float, quantity: int) -> float:
    return round(value / quantity, 4) if quantity else 0
