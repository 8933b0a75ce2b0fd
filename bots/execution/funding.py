"""What a perpetual pays for being held, booked into the ledger once a payment and slot.

A rate is known a little after its instant, when the position may be another one already, so a
payment is on what the slot's fills say it held then. Whatever came late, while the bot was down or
the collector was, is booked as soon as it is there; what was booked stays.
"""

import datetime as dt
from decimal import Decimal

from django.db import transaction

from bots.decision import accounting
from bots.execution import ledger
from bots.models import Fill, FundingPayment, Order, Position
from markets.domain.contracts import lot_size
from markets.domain.exogenous import FUNDING, SERIES_OF
from markets.models import Bar, Reading
from tradingsite import clock
from tradingsite.registry import Bot

REACH, REACH_AT_START = dt.timedelta(days=7), dt.timedelta(days=60)
"""How late a rate may come and still be booked: while the bot runs, and when it starts anew."""


def book(bot: Bot, now: dt.datetime, reach: dt.timedelta = REACH) -> int:
    """Book the payments of the last days that have not been; return how many.

    They go into the cash of their slots, so that equity, drawdown and the daily loss know of them.
    """
    if FUNDING not in SERIES_OF[bot.market]:
        return 0
    rates = dict(
        Reading.on(bot.market)
        .objects.filter(series=FUNDING, at__gt=now - reach, at__lte=now)
        .values_list("at", "value")
    )
    if not rates:
        return 0
    with transaction.atomic(using=bot.market, durable=True):
        rows = ledger.positions(bot, lock=True)
        made = [payment for row in rows.values() for payment in _payments(bot, row, rates)]
        FundingPayment.on(bot.market).objects.bulk_create(made)
        for slot in {payment.slot for payment in made}:
            row = rows[slot]
            for payment in made:
                if payment.slot == slot:
                    row.cash -= payment.amount
                    row.funding += payment.amount
            row.save(update_fields=["cash", "funding"])
    return len(made)


def _payments(bot: Bot, row: Position, rates: dict[dt.datetime, Decimal]) -> list[FundingPayment]:
    """Return a slot's payments that are not booked yet, for instants at which it held something."""
    payments = FundingPayment.on(bot.market)
    known = set(payments.objects.filter(slot=row.slot, at__in=rates).values_list("at", flat=True))
    made = []
    held, fills = row.quantity, _fills(bot, row.slot, min(rates))
    for at in sorted(rates.keys() - known, reverse=True):
        # Back in time: what came at the very instant came after the bar that pays.
        while fills and fills[-1][0] >= at:
            held -= fills.pop()[1]
        price = _price(bot, at) if held else None
        if price is None:
            continue
        per_unit = accounting.funding_per_unit(price, rates[at])
        amount = ledger.money(-accounting.pay_funding(Decimal(0), held, per_unit))
        made.append(
            payments(
                slot=row.slot, at=at, quantity=held, price=price, rate=rates[at], amount=amount
            )
        )
    return made


def _fills(bot: Bot, slot: str, since: dt.datetime) -> list[tuple[dt.datetime, Decimal]]:
    """Return when and how much a slot's position changed from an instant on, oldest first."""
    rows = Fill.on(bot.market).objects.filter(bot=bot.slug, at__gte=since)
    changes = []
    for fill in rows.order_by("at", "id"):
        if slot in fill.shares:
            changes.append((fill.at, Decimal(fill.shares[slot])))
    # What slots traded with each other is no fill: it went through no venue.
    crossed = Order.on(bot.market).objects.filter(
        bot=bot.slug, quantity=0, state=Order.State.FILLED, fills=None, updated_at__gte=since
    )
    for order in crossed:
        if slot in order.shares:
            date = clock.trading_date(order.updated_at)
            lot = Decimal(repr(lot_size(bot.market, date)))
            changes.append((order.updated_at, order.shares[slot] * lot))
    return sorted(changes)


def _price(bot: Bot, at: dt.datetime) -> Decimal | None:
    """Return the last close of the shortest bars by an instant, None where there is none near."""
    rows = Bar.on(bot.market).objects.filter(
        timeframe=bot.timeframes[0], closes_at__lte=at, closes_at__gt=at - dt.timedelta(days=1)
    )
    return rows.order_by("-opens_at").values_list("close", flat=True).first()
