"""What our orders cost against the price they were decided at, and against what was assumed.

Of each order three prices are known: the contract's at the decision, the venue's as it was sent,
and its fills. The first to the second is the delay's, the second to the third is the market's
(half the spread, and our own weight). The assumption that models are trained with follows the
median of our own fills, once there are enough; until then it is the registry's.
"""

import datetime as dt
import statistics
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings

from bots.execution.netting import BY_OWNER, BY_VENUE
from bots.models import Order
from tradingsite import clock, notices
from tradingsite.registry import BOTS, Bot

REPORT_DAYS = 30
ASSUMPTION_DAYS = 90
LEAST_ORDERS = 30
"""For a median that training may believe in, and for a warning."""
TOO_MUCH = 1.5
STEP_BPS = 0.5
"""An assumption moves in steps, so that it does not change with every order."""
_BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Say what orders of one kind cost, in basis points of the price they were decided at."""

    slot: str
    hour: int | None
    """Of the day in India; None for all of them."""
    orders: int
    delay_bps: float
    """Median, from the decision to the sending."""
    market_bps: float
    """Median, from the sending to the fills."""
    total_bps: float
    assumed_bps: float
    """By the registry, before there were fills of our own."""

    @property
    def is_too_much(self) -> bool:
        """Return whether it exceeds the assumption by half, over enough orders to say so."""
        return self.orders >= LEAST_ORDERS and self.total_bps > TOO_MUCH * self.assumed_bps


@dataclass(frozen=True, slots=True)
class _Cost:
    hour: int
    delay_bps: float
    market_bps: float


def report(bot: Bot, now: dt.datetime, days: int = REPORT_DAYS) -> list[Shortfall]:
    """Return the shortfall of a bot's slots, each as a whole and then by the hour."""
    costs = _costs(bot, now - dt.timedelta(days=days))
    assumed = bot.slippage_bps
    found = []
    for slot in bot.slots:
        own = costs.get(slot.slug, [])
        if not own:
            continue
        found.append(_median(slot.slug, None, own, assumed))
        by_hour: defaultdict[int, list[_Cost]] = defaultdict(list)
        for each in own:
            by_hour[each.hour].append(each)
        found += [_median(slot.slug, hour, by_hour[hour], assumed) for hour in sorted(by_hour)]
    return found


def assumed_bps(bot: Bot, now: dt.datetime | None = None) -> float:
    """Return the slippage to reckon with: the median of our own orders, else the registry's."""
    since = (now or clock.market()) - dt.timedelta(days=ASSUMPTION_DAYS)
    own = _orders(bot, since)
    if len(own) < LEAST_ORDERS:
        return bot.slippage_bps
    paid = statistics.median(sum(_parts(order)) for order in own)
    # A lucky median is no reason to believe that trading pays.
    return max(round(paid / STEP_BPS) * STEP_BPS, STEP_BPS)


def warn(bot: Bot, now: dt.datetime) -> list[str]:
    """Say which slots pay more than was assumed by half; return them in words."""
    said = []
    for each in report(bot, now):
        if each.hour is not None:
            continue
        key = f"shortfall:{each.slot}"
        if not each.is_too_much:
            notices.resolve(key)
            continue
        text = (
            f"{each.slot} paid {each.total_bps:.1f} bps on its last {each.orders} orders (median), "
            f"{bot.slippage_bps:.1f} were assumed. New recipes reckon with "
            f"{assumed_bps(bot, now):.1f} from now on; `manage.py shortfall` shows the hours."
        )
        notices.notify("trading", "warning", key, text)
        said.append(text)
    return said


def warn_all(now: dt.datetime) -> str:
    """Look at every bot; return a sentence."""
    said = [text for bot in BOTS.values() for text in warn(bot, now)]
    return f"{len(said)} slots pay too much" if said else "no slot pays more than is assumed"


def of_order(order: Order) -> tuple[float, float] | None:
    """Return an order's delay and market cost in bps, None where it was not filled."""
    return _parts(order) if order.average_price and order.reference_price else None


def _parts(order: Order) -> tuple[float, float]:
    side = 1 if order.quantity > 0 else -1
    decided, filled = order.reference_price, order.average_price
    assert filled is not None  # noqa: S101 - only filled ones come here
    sent = order.arrival_price or decided
    scale = Decimal(side * _BASIS_POINTS) / decided
    return float((sent - decided) * scale), float((filled - sent) * scale)


def _orders(bot: Bot, since: dt.datetime) -> list[Order]:
    rows = Order.on(bot.market).objects.filter(
        bot=bot.slug,
        mode=settings.MODE,
        created_at__gte=since,
        average_price__isnull=False,
        reference_price__gt=0,
    )
    # Crossed inside the bot, or closed over its head, at no cost, and so no evidence of one.
    rows = rows.exclude(quantity=0).exclude(leg__in=(BY_VENUE, BY_OWNER))
    return list(rows.order_by("created_at"))


def _costs(bot: Bot, since: dt.datetime) -> dict[str, list[_Cost]]:
    found: defaultdict[str, list[_Cost]] = defaultdict(list)
    for order in _orders(bot, since):
        cost = _Cost(order.created_at.astimezone(clock.IST).hour, *_parts(order))
        for slot in order.shares:
            found[slot].append(cost)
    return found


def _median(slot: str, hour: int | None, costs: list[_Cost], assumed: float) -> Shortfall:
    return Shortfall(
        slot,
        hour,
        len(costs),
        statistics.median(each.delay_bps for each in costs),
        statistics.median(each.market_bps for each in costs),
        statistics.median(each.delay_bps + each.market_bps for each in costs),
        assumed,
    )
