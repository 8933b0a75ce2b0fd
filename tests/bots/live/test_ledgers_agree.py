"""The property tests' ledger in memory does what PostgreSQL's does, through the same schedules."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import pytest
from django.db import transaction

from bots.live import halting
from bots.live.database import DatabaseLedger
from bots.live.netting import Leg
from bots.live.orders import intend
from bots.models import Fill, Order, OrderEvent
from tests.bots.live.model import PRICE, START, World
from tests.desk import Desk

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["btc", "default"])
SEEDS = range(12)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the expected errors out of the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Rows(DatabaseLedger):
    """PostgreSQL's ledger, with what a schedule asks of one besides."""

    has_sessions = False

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.bot, desk.venue, desk.instruments)
        self._desk = desk

    @property
    def halted(self) -> bool:
        """Return whether the switch is pressed."""
        return self._desk.risk().halted

    @halted.setter
    def halted(self, value: bool) -> None:
        if value:
            halting.halt(self._desk.bot, "by a person", "a test")
        else:
            halting.resume(self._desk.bot, "a test")

    def intend(self, legs: Sequence[Leg], bar: dt.datetime) -> list[Order]:
        """Commit the intents of a decision."""
        prices = {leg.instrument: PRICE for leg in legs}
        with transaction.atomic(using="btc"):
            return intend(self._desk.bot, legs, bar, prices, self._desk.instruments)

    def held(self) -> Decimal:
        """Return the net of the fills."""
        return sum((fill.quantity for fill in Fill.on("btc").objects.all()), Decimal(0))

    def lots(self) -> int:
        """Return what the slot holds."""
        return self._desk.positions()["btc-1h"].lots

    def stories(self) -> dict[str, tuple[str, ...]]:
        """Return the states each order went through."""
        found: dict[str, tuple[str, ...]] = {}
        for event in OrderEvent.on("btc").objects.select_related("order").order_by("id"):
            found[event.order.tag] = (*found.get(event.order.tag, ()), event.state)
        return found


@pytest.mark.parametrize("seed", SEEDS)
def test_both_ledgers_tell_the_same_story(seed: int, set_market: SetMarket) -> None:
    desk = Desk("btc", set_market, START.strftime("%Y-%m-%d %H:%M"))
    desk.quote(float(PRICE))
    rows = Rows(desk)
    real = World(seed, sessions=False, ledger=rows, on_time=set_market)
    model = World(seed, sessions=False)
    real.stories = rows.stories  # type: ignore[method-assign]
    real.run(acts=16)
    model.run(acts=16)
    assert rows.stories() == model.stories()
    assert rows.held() == model.ledger.held() == real.broker.net()
    assert rows.lots() * Decimal("0.01") == rows.held()
