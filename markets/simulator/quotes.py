"""The last prices of a simulated market, written together."""

import datetime as dt
from decimal import Decimal

from django.db import connections, transaction

from markets.domain.instruments import Instruments
from markets.store import save_quotes
from markets.venues.paper import open_instruments
from tradingsite import clock
from tradingsite.registry import MARKETS

STEP = Decimal("0.0001")


def put_quotes(instruments: Instruments, underlying: float, at: dt.datetime) -> dict[str, Decimal]:
    """Write the prices that follow from the underlying's, and return them by instrument.

    These are the market's own instrument (the front contract under its lasting name), the front
    contract, and whatever else orders are waiting in.
    """
    market, seconds = instruments.market, clock.epoch(at)
    front = instruments.front(seconds)
    wanted = [front, *map(instruments.parse, open_instruments(market) - {front.name})]
    prices = {
        each.name: Decimal(repr(price)).quantize(STEP)
        for each in wanted
        if (price := instruments.price(each, underlying, seconds)) is not None
    }
    rows = {MARKETS[market].instrument: prices[front.name], **prices}
    with transaction.atomic(using=market):
        with connections[market].cursor() as cursor:
            # A quote lost in a crash is replaced by the next: no need to wait for the disk.
            cursor.execute("SET LOCAL synchronous_commit TO off")
        save_quotes(market, rows, at)
    return prices
