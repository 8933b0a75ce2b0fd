"""What the simulated exchange gives an order: the depth of the moment, which it shares."""

from __future__ import annotations

from collections.abc import Iterator

from markets.simulator.kite.orders import AUTOMATIC_PROTECTION_PCT, Ask
from markets.simulator.listing import Listed
from markets.simulator.world import World


class Matcher:
    """Give out the depth of one step: what one order took, the next no longer finds."""

    def __init__(self, world: World, now: float) -> None:
        self._board = world.board()
        self._left: dict[tuple[str, int, float], int] = {}

    def fills(self, ask: Ask, most: int) -> Iterator[tuple[int, float]]:
        """Yield the quantities and prices an order gets now, best first."""
        place = self._board.listing.by_key.get(f"{ask.exchange}:{ask.symbol}")
        if place is None:
            return
        bids, offers = self._board.depth(place)
        limit = worst_price(ask, float(self._board.last[place]))
        for quantity, price, _ in offers if ask.side > 0 else bids:
            key = ask.symbol, ask.side, price
            taken = min(self._left.get(key, quantity), most)
            if taken <= 0 or ask.side * (price - limit) > 0.0:
                continue
            self._left[key] = self._left.get(key, quantity) - taken
            most -= taken
            yield taken, price


def worst_price(ask: Ask, last: float) -> float:
    """Return the worst price an order takes: its limit, or as far as its protection reaches."""
    if ask.order_type in ("LIMIT", "SL"):
        return ask.price
    percent = ask.market_protection if ask.market_protection > 0 else AUTOMATIC_PROTECTION_PCT
    # A rupee more, because the tick of a small premium is a large part of it.
    return last * (1.0 + ask.side * percent / 100.0) + ask.side


def square_off_ask(row: Listed, quantity: int) -> Ask:
    """Return the order by which the broker closes an intraday position, or a part of it."""
    return market_ask(
        row, -1 if quantity > 0 else 1, min(abs(quantity), row.freeze_quantity), "MIS"
    )


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
