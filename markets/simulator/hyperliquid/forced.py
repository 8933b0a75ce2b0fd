"""Positions closed by force: liquidation, the backstop, deleveraging, settlement of a delisting.

An account below its maintenance margin loses its orders and is sold into the book, a fifth of a
large position first; below two thirds of that margin the exchange's own backstop takes over the
positions at the mark. A liquidation through the book is an order in the account's history, without
a client's id; the others are orders of somebody else's, which only the executions name.

Source: the exchange's documentation, "Liquidations", "Auto-deleveraging", "Delisting". That what
meets no book costs no fee is our reading of others' captures.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from markets.simulator.hyperliquid.account import (
    CANCELED,
    DELISTED_CANCELED,
    LIQUIDATED,
    LIQUIDATED_CANCELED,
    Account,
    Forced,
    Marks,
    Order,
)
from markets.simulator.hyperliquid.market import BY_NAME, HOUR
from markets.simulator.hyperliquid.wire import milliseconds

if TYPE_CHECKING:
    from markets.simulator.hyperliquid.matching import Engine

LIQUIDATION = "LiquidationMarket"
LARGE_USDC = Decimal(100_000)
FIRST_SHARE = Decimal("0.2")
PAUSE_SECONDS = 30.0
BACKSTOP_SHARE = Decimal(2) / 3
_MINUTE = 60


def close_out(engine: Engine, account: Account, marks: Marks) -> None:
    """Liquidate an account that is below its maintenance margin, as far as is done at once."""
    is_lost = account.equity(marks) < account.maintenance(marks) * BACKSTOP_SHARE
    in_pause = engine.at < account.liquidation_pause_until
    for coin, held in list(account.positions.items()):
        size, step = abs(held.size), BY_NAME[coin].size_step
        if is_lost:
            backstop(engine, account, coin, size)
        elif size * marks[coin] > LARGE_USDC and not in_pause:
            account.liquidation_pause_until = engine.at + PAUSE_SECONDS
            part = size * FIRST_SHARE
            liquidate(engine, account, coin, part - part % step)
        else:
            liquidate(engine, account, coin, size)


def liquidate(engine: Engine, account: Account, coin: str, size: Decimal) -> None:
    """Cancel the account's orders and sell, or buy back, a part of a position in the book."""
    asset, mark = BY_NAME[coin], engine.market.mark(BY_NAME[coin], engine.at)
    account.end_all(LIQUIDATED_CANCELED, milliseconds(engine.at))
    book = engine.market.book(asset, engine.at)
    order = _order(engine, account, coin, size, mark)
    account.add(order)
    for level in book.asks if order.is_buy else book.bids:
        part = min(level.size, order.left)
        if part:
            _fill(engine, account, order, level.price, part, Forced(LIQUIDATED, mark))
    if order.left:
        account.end(order, CANCELED, milliseconds(engine.at))


def backstop(engine: Engine, account: Account, coin: str, size: Decimal) -> None:
    """Cancel the account's orders and let the exchange take over a part of a position."""
    mark = engine.market.mark(BY_NAME[coin], engine.at)
    account.end_all(LIQUIDATED_CANCELED, milliseconds(engine.at))
    order = _order(engine, account, coin, size, mark)
    _fill(engine, account, order, mark, size, Forced(LIQUIDATED, mark, "backstop"))


def deleverage(engine: Engine, account: Account, coin: str, size: Decimal) -> None:
    """Close a part of a position at the mark before, for one whose loss nobody else bears."""
    price = engine.market.mark(BY_NAME[coin], engine.at - _MINUTE)
    order = _order(engine, account, coin, size, price)
    _fill(engine, account, order, price, size, Forced("Auto-Deleveraging"))


def settle(engine: Engine, account: Account, coin: str, size: Decimal) -> None:
    """Delist an asset: cancel its orders, close at the average of the index over an hour."""
    asset = BY_NAME[coin]
    instants = (engine.at - second for second in range(0, HOUR, _MINUTE))
    index = [engine.market.oracle(asset, at) for at in instants]
    price = round(sum(index, Decimal(0)) / len(index), 6 - asset.size_decimals)
    account.end_all(DELISTED_CANCELED, milliseconds(engine.at), coin)
    order = _order(engine, account, coin, size, price)
    _fill(engine, account, order, price, size, Forced("Settlement"))


def _order(engine: Engine, account: Account, coin: str, size: Decimal, price: Decimal) -> Order:
    is_buy, at_ms = account.size_of(coin) < 0, milliseconds(engine.at)
    return Order(engine.next_number(), coin, is_buy, price, size, LIQUIDATION, True, at_ms)


def _fill(
    engine: Engine, account: Account, order: Order, price: Decimal, size: Decimal, forced: Forced
) -> None:
    at_ms = milliseconds(engine.at)
    account.fill(order, engine.next_number(), price, size, at_ms, crossed=True, forced=forced)
