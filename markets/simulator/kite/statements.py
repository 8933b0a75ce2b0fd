"""The JSON of what the simulated account holds and owes: positions, holdings, funds, charges."""

from __future__ import annotations

import hashlib
from typing import Any

from markets.simulator.kite.charges import Items
from markets.simulator.kite.portfolio import Holding, Portfolio, Position, Worth
from markets.simulator.listing import Listed


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


def _ratio(value: float, quantity: int) -> float:
    return round(value / quantity, 4) if quantity else 0
