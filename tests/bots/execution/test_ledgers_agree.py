"""The property tests' ledger in memory does what PostgreSQL's does, through the same schedules."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction

from bots.execution import breaks, closures, cover, kill_switch, ledger, protocol
from bots.execution.manual_resolution import give_up
from bots.execution.netting import BY_OWNER, BY_VENUE, Leg
from bots.execution.orders import intend
from bots.execution.postgres_ledger import DatabaseLedger
from bots.execution.reconcile import reconcile
from bots.models import Discrepancy, Fill, Order, OrderEvent, Position
from tests.bots.execution.model import PRICE, START, World
from tests.bots.execution.model_broker import ModelBroker
from tests.desk import Desk
from tradingsite import clock

SetMarket = Callable[..., None]
pytestmark = pytest.mark.django_db(databases=["btc", "default"])
SEEDS = range(40)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the expected errors out of the log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Rows(DatabaseLedger):
    """PostgreSQL's ledger, with what a schedule asks of one besides."""

    has_sessions = False
    broker: ModelBroker

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
            kill_switch.halt(self._desk.bot, "by a person", "a test")
        else:
            kill_switch.resume(self._desk.bot, "a test")

    def intend(self, legs: Sequence[Leg], bar: dt.datetime) -> list[Order]:
        """Commit the intents of a decision."""
        prices = {leg.instrument: PRICE for leg in legs}
        with transaction.atomic(using="btc"):
            rows = ledger.positions(self._desk.bot)
            return intend(self._desk.bot, legs, bar, prices, self._desk.instruments, rows)

    def reconcile(self, broker: ModelBroker, since: dt.datetime) -> Any:
        """Reconcile as the bot does, closings and differences too."""
        self._desk.venue = self._venue = broker
        Position.on("btc").objects.update(venue=broker.name)
        done: dict[str, Any] = {}
        keep = protocol.reconcile

        def kept(*arguments: Any) -> Any:
            done["it"] = keep(*arguments)
            return done["it"]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(protocol, "reconcile", kept)
            reconcile(self._desk.bot, broker, self._desk.instruments, clock.market())
        return done["it"]

    @property
    def stopped(self) -> Any:
        """Return what stops the instrument."""
        return breaks.stopped("btc", "model")

    def explained(self) -> Decimal:
        """Return what the account should hold."""
        return breaks.explained("btc", self._venue).get("BTC-PERP", Decimal(0))

    def person(self, broker: ModelBroker, *, is_sure: bool = False) -> None:
        """Say what filled, who closed what, and whose the rest is."""
        for order in self.in_flight():
            if order.state == "unknown" and is_sure:
                rest = abs(broker.traded(order.tag) - order.filled_quantity)
                give_up("btc", order.tag, "a test", self._desk.instruments, rest)
        if self.in_flight():
            return
        for row in Discrepancy.on("btc").objects.filter(closed_at=None):
            held = self.held()
            if missing := cover.lacking(held, broker.net()):
                side = -1 if held > 0 else 1
                closures.close_by_word(
                    *(self._desk.bot, self._desk.instruments, row.instrument, side * missing),
                    *("by_owner", PRICE, "a test"),
                )
            Discrepancy.on("btc").objects.filter(pk=row.pk).update(
                ledger_quantity=self.explained(), venue_quantity=broker.net()
            )
            breaks.adopt("btc", row.instrument, "a test")

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
            if event.order.leg not in (BY_OWNER, BY_VENUE):
                found[event.order.tag] = (*found.get(event.order.tag, ()), event.state)
        return found


@pytest.mark.parametrize("seed", SEEDS)
def test_both_ledgers_tell_the_same_story(
    seed: int, set_market: SetMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk("btc", set_market, START.strftime("%Y-%m-%d %H:%M"))
    desk.quote(float(PRICE))
    rows = Rows(desk)

    def set_time(now: dt.datetime) -> None:
        set_market(now)
        monkeypatch.setattr(clock, "real", lambda: now)

    real = World(seed, sessions=False, ledger=rows, on_time=set_time)
    model = World(seed, sessions=False)
    real.stories = rows.stories  # type: ignore[method-assign]
    real.run(acts=16)
    model.run(acts=16)
    assert rows.stories() == model.stories()
    assert rows.held() == model.ledger.held()
    assert rows.explained() == real.broker.net() == model.broker.net()
    assert rows.lots() * Decimal("0.01") == rows.held()
