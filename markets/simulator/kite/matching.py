"""What the simulated exchange gives an order: the depth of the moment, which it shares."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markets.simulator.kite.orders import Ask
from markets.simulator.listing import Listed
from markets.simulator.world import World

# How far automatic protection reaches: from a price on, so many percent of it. The broker's support
# page on market price protection; of options, 3 % between 10 and 100 rupees is confirmed by a
# client's account of an exit that stayed behind (tradingqna.com 193460, 2026).
OPTION_PROTECTION = ((500.0, 1.0), (100.0, 2.0), (10.0, 3.0), (0.0, 5.0))
OTHER_PROTECTION = ((500.0, 0.5), (100.0, 1.0), (0.0, 2.0))


class Matcher:
    """Give out the depth of one step: what one order took, the next no longer finds."""

    def __init__(self, world: World, now: float) -> None:
        self._board = world.board()
        self._left: dict[tuple[str, int, float], int] = {}

    def fills(self, ask: Ask, most: int, limit: float) -> Iterator[tuple[int, float]]:
        """Yield the quantities and prices an order gets now up to its limit, best first."""
        place = self._board.listing.by_key.get(f"{ask.exchange}:{ask.symbol}")
        if place is None:
            return
        bids, offers = self._board.depth(place)
        for quantity, price, _ in offers if ask.side > 0 else bids:
            key = ask.symbol, ask.side, price
            taken = min(self._left.get(key, quantity), most)
            if taken <= 0 or ask.side * (price - limit) > 0.0:
                continue
            self._left[key] = self._left.get(key, quantity) - taken
            most -= taken
            yield taken, price


def protection_pct(ask: Ask, row: Listed, last: float) -> float:
    """Return how far a market order's protection reaches, in percent of the last price."""
    if ask.market_protection > 0:
        return ask.market_protection
    slabs = OPTION_PROTECTION if row.is_option else OTHER_PROTECTION
    return next(percent for price, percent in slabs if last >= price)


def worst_price(ask: Ask, row: Listed, last: float) -> float:
    """Return the worst price an order takes: its limit, or where its protection ends."""
    if ask.order_type in ("LIMIT", "SL"):
        return ask.price
    edge = last * (1.0 + ask.side * protection_pct(ask, row, last) / 100.0)
    # To the next tick outwards, or the protection of a premium of few ticks would allow none.
    steps = round(edge / row.tick_size, 6)
    whole = math.ceil(steps) if ask.side > 0 else max(math.floor(steps), 1)
    return round(whole * row.tick_size, 2)


def market_ask(row: Listed, side: int, quantity: int, product: str) -> Ask:
    """Return a plain market order without a tag, as a person or the broker gives it."""
    return Ask(
        variety="regular",
        exchange=row.exchange,
        symbol=row.symbol,
        side=side,
        quantity=quantity,
        product=product,
        order_type="MARKET",
        validity="DAY",
        price=0.0,
        trigger_price=0.0,
        disclosed_quantity=0,
        market_protection=-1.0,
        tag="",
    )
